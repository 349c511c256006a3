"""The pages of a small run in a real browser: on a desktop and on a phone, in light and in dark."""

import os
from pathlib import Path

import pytest
from brightness import write_detector
from tiny import write_pictures

from components.dataset import Dataset
from components.evaluation.evaluate import evaluate
from components.extraction.extract import extract
from components.page.run_pages import PAGES, About, bind, index
from components.preprocessing.preprocess import preprocess
from components.registration.gate import Gate, decide
from components.registration.report import write_page
from components.training.curves import render
from pipelines.local import sample

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
GATE = "roc_auc+0.002,roc_auc>=0.7,false_positive_rate<=0.5"
HISTORY = {
    "head": [{"loss": 0.7, "auc": 0.6, "val_loss": 0.68, "val_auc": 0.6, "seconds": 1.0}] * 2,
    "fine-tune": [
        {"loss": 0.5, "auc": 0.8, "val_loss": 0.55, "val_auc": 0.75, "seconds": 2.0},
        {"loss": 0.3, "auc": 0.9, "val_loss": 0.65, "val_auc": 0.73, "seconds": 2.0},
    ],
}

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A small run's pages, made by the stages' own functions, the champion and a rejected file included."""
    place = tmp_path_factory.mktemp("run")
    write_pictures(place / "media" / "real" / "camera", 80, sample.camera_coarse, 1)
    write_pictures(place / "media" / "fake" / "a-generator-with-a-long-name", 80, sample.generator_spectral, 2)
    (place / "media" / "fake" / "words.jpg").write_text("not a picture")
    extract(str(place / "media"), place / "frames", view="resize32")
    preprocess([place / "frames"], place / "dataset", report=place / "data")
    candidate = write_detector(place / "candidate", slope=0.2, centre=127.0, size=32)
    champion = write_detector(place / "champion", slope=0.01, centre=120.0, size=32)
    judged = {"champion": champion, "champion_version": "1", "test_degradations": "jpeg:50,scale:0.5"}
    evaluation = evaluate(place / "dataset", candidate, place / "json", report=place / "evaluation", **judged)
    decision = decide(*evaluation.sides, Gate.parse(GATE))
    about = dict(title="Refused: version 2 of ai-vs-real", lead="Not better.", version="2", gate=GATE)
    challenger, incumbent = evaluation.sides
    write_page(place / "decision", **about, decision=decision, challenger=challenger, champion=incumbent)
    card = {"settings": {"backbone": "mobilenetv2"}, "backbone": "mobilenetv2", "weights": {"name": "none"}}
    card |= {"recipe": "plain", "view": "resize32", "depths": [], "validation": {"auc": 0.7, "loss": 0.6}}
    card |= {"digest": "a" * 64, "dataset_digest": "b" * 64}
    (place / "training").write_text(render(HISTORY, card))
    run = About("20260131-150000-abc", "2026-01-31 15:00 UTC", "c" * 12, Dataset(place / "dataset").digest[:12], "2")
    site = place / "site"
    site.mkdir()
    (site / "index.html").write_text(index(run, "refused", decision.reasons, evaluation.candidate, 160, "A note."))
    for name in ("decision", "evaluation", "data", "training"):
        (site / f"{name}.html").write_text(bind(name, (place / name).read_text(), run))
    return site


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    if not CHROMIUM.exists():
        pytest.skip(f"needs Chromium at {CHROMIUM}, or where the variable CHROMIUM says")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM)
        yield chromium
        chromium.close()


SMALLEST_TEXT = """() => Math.min(99, ...[...document.querySelectorAll('.plot text')].map(text => {
    const plot = text.ownerSVGElement
    return parseFloat(getComputedStyle(text).fontSize) * plot.getBoundingClientRect().width / plot.viewBox.baseVal.width
}), ...[...document.querySelectorAll('.forest *')].map(text => parseFloat(getComputedStyle(text).fontSize)))"""
BRIGHTNESS = "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number).reduce((a, b) => a + b)"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_pages_read_well(pages, browser, width, scheme, tmp_path):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    problems = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "request",
        lambda request: (
            problems.append(request.url) if "://" in request.url[:8] and not request.url.startswith("file://") else None
        ),
    )
    for name in PAGES:
        page.goto((pages / f"{name}.html").as_uri())
        page.screenshot(path=tmp_path / f"{name}-{width}-{scheme}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        assert page.evaluate(SMALLEST_TEXT) >= 11, name
        assert (page.evaluate(BRIGHTNESS) > 3 * 128) == (scheme == "light"), name
        for link in page.eval_on_selector_all("a", "links => links.map(link => link.href)"):
            assert Path(link.removeprefix("file://")).is_file(), link
    assert not problems
    context.close()


def test_the_pages_say_what_the_gate_and_the_rule_say(pages, browser):
    page = browser.new_page()
    worst = {}
    for name in ("decision", "evaluation"):
        page.goto((pages / f"{name}.html").as_uri())
        assert "The worst slice is the one whose balanced accuracy has the lowest lower end" in page.inner_text("main")
        worst[name] = page.inner_text(".forest .row:has(.badge) .name")
    assert worst["decision"] == worst["evaluation"]
    page.goto((pages / "training.html").as_uri())
    assert "kept: epoch 3" in page.inner_text("main")
    assert "fine-tune begins" in page.inner_text("main")
