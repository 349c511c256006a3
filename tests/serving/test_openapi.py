"""The API under inputs that are made from its own description."""

import hypothesis
import schemathesis
from serving.conftest import Examiner, champion_with

from components.review import ReviewSet
from components.serving.app import create_app
from components.serving.bounds import Bounds

FEW = hypothesis.settings(
    max_examples=15, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
)


def test_no_input_makes_the_service_fail(tmp_path):
    champion = champion_with(Examiner())
    champion.refresh()
    app = create_app(champion, Bounds(at_once=2, link_seconds=1), ReviewSet(tmp_path))
    statuses = set()
    for result in schemathesis.openapi.from_asgi("/openapi.json", app).get_all_operations():

        @FEW
        @hypothesis.given(case=result.ok().as_strategy())
        def ask(case):
            response = case.call()
            assert response.status_code < 500, response.text
            if response.status_code >= 400:
                assert set(response.json()) == {"error"}
            statuses.add((case.method, case.path, response.status_code))

        ask()
    answered = {(method, path) for method, path, status in statuses if status < 400}
    assert ("POST", "/api/verdicts") in answered
    assert ("POST", "/api/reviews") in answered
