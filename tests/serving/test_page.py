"""The page in a real browser, with a detector that answers by brightness."""

import csv
import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import axe_playwright_python.base
import httpx
import pytest
from prediction.conftest import asked_media, brightness_detector  # noqa: F401 (fixtures)

from components.review import ReviewSet

pytestmark = pytest.mark.servers
CHROMIUM = "/usr/bin/chromium"


@pytest.fixture(scope="module")
def service(brightness_detector, tmp_path_factory):  # noqa: F811
    """The command itself: its address, its process and its run home."""
    place = tmp_path_factory.mktemp("service")
    command = [sys.executable, "-m", "pipelines.commands.main", "serve", "--port", "0", "--max-megabytes", "2"]
    with (place / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--model", str(brightness_detector)],
            stderr=log,
            env={**os.environ, "AI_VS_REAL_HOME": str(place / "home")},
        )
    try:
        for _ in range(600):
            found = re.search(r"Listening on (\S+)", (place / "log").read_text())
            try:
                if found and httpx.get(f"{found[1]}/health/ready").status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
        yield found[1], process, place
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(40) == 0, (place / "log").read_text()


@pytest.fixture(scope="module")
def browser():
    if not Path(CHROMIUM).exists():
        pytest.skip("Chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


def opened(browser, address, **options):
    context = browser.new_context(bypass_csp=True, **options)
    page = context.new_page()
    page.problems, page.elsewhere = [], []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("request", lambda request: page.elsewhere.append(request.url) if address not in request.url else None)
    page.goto(address)
    return page


def ask(page, *paths):
    page.set_input_files("#files", [str(path) for path in paths])
    page.wait_for_function("document.querySelector('#summary').textContent && !document.querySelector('progress')")


@pytest.mark.parametrize("width", [1200, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_files_get_their_verdicts_on_every_screen(service, browser, asked_media, scheme, width):  # noqa: F811
    address, _, place = service
    huge = place / "huge.png"
    huge.write_bytes(bytes(3 * 2**20))
    page = opened(browser, address, color_scheme=scheme, viewport={"width": width, "height": 900})
    ask(page, *(asked_media / name for name in ("dark.png", "generated.png", "clip.mp4", "broken.jpg")), huge)
    verdicts = dict(
        zip(page.locator("#list .name").all_inner_texts(), page.locator("#list .badge").all_inner_texts(), strict=True)
    )
    assert verdicts["dark.png"] == "real"
    assert verdicts["generated.png"] == "fake"
    assert verdicts["broken.jpg"] == verdicts["huge.png"] == "not examined"
    assert "larger than" in page.locator("li", has_text="huge.png").inner_text()
    assert "Steps: 20" in page.locator("li", has_text="generated.png").locator("details").first.text_content()
    for details in page.locator("details").all():
        details.evaluate("element => { element.open = true }")
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    page.evaluate(Path(axe_playwright_python.base.AXE_FILE_PATH).read_text())
    report = page.evaluate("axe.run()")
    serious = [entry for entry in report["violations"] if entry["impact"] in ("serious", "critical")]
    assert not [(entry["id"], [node["html"][:150] for node in entry["nodes"]]) for entry in serious]
    assert page.problems == []
    assert [url for url in page.elsewhere if not url.startswith(("data:", "blob:"))] == []
    page.context.close()


def test_the_timeline_moves_the_video_and_the_results_are_exported(service, browser, asked_media):  # noqa: F811
    address, _, _ = service
    page = opened(browser, address)
    ask(page, asked_media / "clip.mp4", asked_media / "bright.png")
    page.locator(".timeline button").last.click()
    page.wait_for_function("document.querySelector('video').currentTime > 0.5")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export as CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
    assert {row["name"]: row["verdict"] for row in rows}["bright.png"] == "fake"
    page.reload()
    page.locator("#history summary").click()
    assert page.locator("#history-rows tr").count() == 2
    page.context.close()


def test_two_tabs_work_at_once_and_a_wrong_verdict_is_kept_for_review(service, browser, asked_media):  # noqa: F811
    address, _, place = service
    pages = [opened(browser, address) for _ in range(2)]
    for page in pages:
        page.set_input_files("#files", str(asked_media / "bright.png"))
    for page in pages:
        page.wait_for_function("document.querySelector('.badge').textContent === 'fake'")
    pages[0].get_by_role("button", name="It is real").click()
    pages[0].get_by_text("Kept for review under").wait_for()
    (entry,) = ReviewSet(place / "home").entries("pending")
    assert (entry.claim, entry.verdict["verdict"]) == ("real", "fake")
    for page in pages:
        page.context.close()


def test_a_link_to_this_machine_is_refused_on_the_page(service, browser):
    address, _, _ = service
    page = opened(browser, address)
    page.fill("#link", f"{address}/assets/icon.svg")
    page.get_by_role("button", name="Examine link").click()
    page.get_by_text("not a public address").wait_for()
    page.context.close()


def test_a_killed_process_is_replaced_and_goes_on_answering(service, asked_media):  # noqa: F811
    address, process, _ = service
    (worker,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[-1:]
    os.kill(int(worker), signal.SIGKILL)
    for _ in range(600):
        try:
            answer = httpx.post(
                f"{address}/api/verdicts", files={"file": (asked_media / "dark.png").read_bytes()}, timeout=60
            )
            if answer.status_code == 200:
                break
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    assert answer.json()["verdict"] == "real"
