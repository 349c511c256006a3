import base64
import json
import socket
import threading
import time

import httpx
import pytest
from serving.conftest import Examiner, champion_with

from components.review import ReviewSet
from components.serving.bounds import Bounds
from components.serving.champion import Candidate, Champion, Served


def upload(address, content=b"picture", **more):
    return httpx.post(f"{address}/api/verdicts", files={"file": ("../../etc/passwd", content)}, timeout=30, **more)


def test_an_upload_gets_its_verdict_and_its_name_is_not_used(serve):
    examiner = Examiner()
    answer = upload(serve(examiner))
    assert answer.status_code == 200
    assert answer.json()["verdict"] == "fake"
    assert "path" not in answer.json()
    assert examiner.seen == [b"picture"]


@pytest.mark.parametrize(
    ("content", "status", "error"),
    [
        (b"broken", 422, "the file cannot be read: it is not a picture"),
        (b"defect", 500, "the service failed; its log says how"),
    ],
)
def test_what_cannot_be_examined_is_an_error_in_one_line(serve, content, status, error):
    answer = upload(serve(), content)
    assert (answer.status_code, answer.json()) == (status, {"error": error})


def test_every_response_has_the_security_headers_and_none_opens_cors(serve):
    address = serve()
    for path in ("/", "/assets/app.js", "/api/model", "/nothing", "/metrics"):
        headers = httpx.get(address + path, headers={"Origin": "https://elsewhere.example"}).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers or "uvicorn" in headers["server"]


def test_a_page_of_another_site_is_refused(serve):
    answer = upload(serve(), headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 403


def test_a_name_that_was_not_allowed_is_refused(serve):
    address = serve(hosts=("127.0.0.1",))
    assert httpx.get(f"{address}/health/live").status_code == 200
    assert httpx.get(f"{address}/health/live", headers={"Host": "evil.example"}).status_code == 421


def test_keys_are_asked_for_where_there_are_any(serve):
    address = serve(keys=("first-key", "second-key"))
    assert upload(address).status_code == 401
    assert upload(address, headers={"X-API-Key": "first-key-"}).status_code == 401
    assert upload(address, headers={"X-API-Key": "second-key"}).status_code == 200
    assert upload(address, headers={"Authorization": "Bearer first-key"}).status_code == 200
    assert httpx.get(f"{address}/health/ready").status_code == 200


def test_an_upload_that_is_too_large_is_refused_with_and_without_its_length(serve):
    address = serve(bounds=Bounds(megabytes=0.1))
    refused = upload(address, bytes(300_000))
    assert (refused.status_code, refused.json()) == (413, {"error": "the upload is larger than 170,393 bytes"})

    def pieces():
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(50):
            yield bytes(10_000)
        yield b"\r\n--x--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = httpx.post(f"{address}/api/verdicts", content=pieces(), headers=headers)
    assert answer.status_code == 413


def test_an_upload_that_drips_ends_at_its_bound(serve):
    address = serve(bounds=Bounds(upload_seconds=0.5))
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        head = "POST /api/verdicts HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
        connection.sendall(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n--x".encode())
        assert b"408" in connection.recv(100)


def test_a_full_queue_answers_429_with_a_time_and_the_others_get_their_answers(serve):
    examiner = Examiner(wait=threading.Event())
    address = serve(examiner, bounds=Bounds(at_once=1, queued=2))
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(upload(address))) for _ in range(3)]
    for thread in threads:
        thread.start()
    while "ai_vs_real_held_files 3.0" not in httpx.get(f"{address}/metrics").text:
        time.sleep(0.02)
    refused = upload(address)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    examiner.wait.set()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [200] * 3


def test_a_client_that_hangs_up_gives_its_place_back(serve):
    examiner = Examiner(wait=threading.Event())
    address = serve(examiner, bounds=Bounds(at_once=1, queued=2))
    first = threading.Thread(target=upload, args=[address])
    first.start()
    while not examiner.seen:
        time.sleep(0.02)
    for _ in range(2):
        with pytest.raises(httpx.TimeoutException):
            httpx.post(f"{address}/api/verdicts", files={"file": b"late"}, timeout=0.3)
    for _ in range(100):
        if "ai_vs_real_held_files 1.0" in httpx.get(f"{address}/metrics").text:
            break
        time.sleep(0.05)
    else:
        pytest.fail("the places of clients that hung up were not given back")
    examiner.wait.set()
    first.join()
    assert examiner.seen == [b"picture"]


def test_no_answer_in_time_is_504(serve):
    examiner = Examiner(wait=threading.Event())
    answer = upload(serve(examiner, bounds=Bounds(answer_seconds=0.3)))
    examiner.wait.set()
    assert answer.status_code == 504


def test_without_a_detector_it_is_alive_but_not_ready_and_says_why(serve):
    def look():
        raise RuntimeError("http://user:secret@registry is down")

    address = serve(champion=Champion(look, 0.0))
    assert httpx.get(f"{address}/health/live").status_code == 200
    for _ in range(100):
        ready = httpx.get(f"{address}/health/ready")
        if "down" in ready.json()["detail"]:
            break
        time.sleep(0.05)
    assert ready.status_code == 503
    assert "is down" in ready.json()["detail"]
    assert "secret" not in ready.text
    assert upload(address).status_code == 503


def test_a_new_champion_takes_over_between_two_requests_and_a_lost_registry_changes_nothing(serve):
    old, new = Examiner("1", threading.Event()), Examiner("2")
    state = {"version": "1"}

    def look():
        if state["version"] is None:
            raise RuntimeError("the registry is gone")
        examiner = {"1": old, "2": new}[state["version"]]
        return Candidate((examiner.version,), lambda: Served(examiner, examiner.version, "d", (), time.time()))

    champion = Champion(look, 60.0)
    address = serve(champion=champion)
    while champion.served is None:
        time.sleep(0.01)
    answers = []
    early = threading.Thread(target=lambda: answers.append(upload(address)))
    early.start()
    while not old.seen:
        time.sleep(0.01)
    state["version"] = "2"
    champion.refresh()
    assert upload(address).json()["receipt"]["version"] == "2"
    old.wait.set()
    early.join()
    assert answers[0].json()["receipt"]["version"] == "1"
    state["version"] = None
    champion.refresh()
    assert upload(address).json()["receipt"]["version"] == "2"
    assert "ai_vs_real_champion_failures 1.0" in httpx.get(f"{address}/metrics").text


def test_a_claim_keeps_the_file_for_review_and_only_then(serve, tmp_path):
    review = ReviewSet(tmp_path)
    address = serve(review=review)
    upload(address)
    assert not (tmp_path / "review").exists()
    form = {"claim": "real", "note": "I took it", "verdict": json.dumps({"verdict": "fake", "heat_map": "x" * 1000})}
    answer = httpx.post(f"{address}/api/reviews", files={"file": b"mine"}, data=form)
    assert answer.status_code == 201
    (entry,) = review.entries("pending")
    assert (entry.id, entry.claim, entry.note) == (answer.json()["id"], "real", "I took it")
    assert entry.verdict == {"verdict": "fake"}
    assert (review.directory / entry.path).read_bytes() == b"mine"


@pytest.mark.parametrize(
    "form", [{"claim": "cat"}, {"claim": "real", "verdict": "{"}, {"claim": "real", "verdict": "[]"}, {}]
)
def test_a_malformed_claim_is_refused(serve, tmp_path, form):
    answer = httpx.post(f"{serve(review=ReviewSet(tmp_path))}/api/reviews", files={"file": b"mine"}, data=form)
    assert answer.status_code in (400, 422)
    assert set(answer.json()) == {"error"}
    assert not (tmp_path / "review").exists()


def test_a_service_that_keeps_nothing_says_so(serve):
    answer = httpx.post(f"{serve()}/api/reviews", files={"file": b"mine"}, data={"claim": "real"})
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "link", ["http://127.0.0.1:1/", "http://169.254.169.254/latest/", "file:///etc/passwd", "x", ""]
)
def test_a_link_to_this_machine_is_refused(serve, link):
    answer = httpx.post(f"{serve()}/api/links", json={"link": link})
    assert answer.status_code == 422
    assert set(answer.json()) == {"error"}


def test_the_open_inference_protocol_answers_for_bytes(serve):
    address = serve(champion=champion_with(Examiner()), model_name="m")
    while httpx.get(f"{address}/v2/health/ready").status_code != 200:
        time.sleep(0.02)
    data = [base64.b64encode(b"one").decode(), base64.b64encode(b"two").decode()]
    body = {"id": "7", "inputs": [{"name": "media", "shape": [2], "datatype": "BYTES", "data": data}]}
    answer = httpx.post(f"{address}/v2/models/m/infer", json=body).json()
    assert (answer["id"], answer["model_version"]) == ("7", "1")
    assert [output["data"] for output in answer["outputs"]] == [["fake", "fake"], [0.97, 0.97]]
    assert httpx.get(f"{address}/v2/models/m/ready").status_code == 200
    assert httpx.get(f"{address}/v2/models/other").status_code == 404
    body["inputs"][0]["data"] = ["%%", "%%"]
    assert httpx.post(f"{address}/v2/models/m/infer", json=body).status_code == 400
