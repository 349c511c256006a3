"""The parts of a page: every text is escaped, and plots show all that they hold."""

import re

from components.page import parts, plots, run_pages
from components.page.parts import Mark, Row

EVIL = '<img src=x onerror="alert(1)">'


def test_every_text_is_escaped_wherever_it_comes_in():
    page = parts.page(
        EVIL,
        [
            parts.numbers({EVIL: EVIL}),
            parts.section(EVIL, EVIL, parts.table([{EVIL: EVIL}]), parts.bullets([EVIL]), note=EVIL),
            parts.details(EVIL, parts.heading(EVIL), parts.badge(EVIL), parts.code(EVIL)),
            parts.forest([Row(EVIL, [Mark(0.5)], EVIL, units=EVIL, group=EVIL)], axis=EVIL),
            parts.legend([(EVIL, "real", "")]),
            parts.picture(b"\x89PNG", EVIL),
            parts.links([(EVIL, EVIL, EVIL)]),
        ],
        lead=EVIL,
        footer=EVIL,
        notice=EVIL,
    )
    assert page.count("&lt;img src=x") >= 20
    assert EVIL not in page
    assert 'onerror="' not in page


def test_no_dot_and_no_interval_of_enough_units_is_clipped():
    rows = [Row("low", [Mark(0.31, 0.22, 0.4)], ""), Row("few", [Mark(0.9, 0.01, 1.0)], "", kind="few")]
    drawn = parts.forest(rows, axis="balanced accuracy")
    assert re.findall(r'class="tick" style="left:([\d.]+)%', drawn)[0] == "0.0"
    places = [float(place) for place in re.findall(r'class="dot[^>]*left:([\d.]+)%', drawn)]
    assert places == [13.75, 87.5]  # of an axis from 0.2 to 1
    spans = re.findall(r'class="span[^>]*left:([\d.]+)%;width:([\d.]+)%', drawn)
    assert [float(left) + float(width) for left, width in spans] == [25.0, 100.0]
    assert float(spans[0][0]) > 0


def test_the_colours_of_a_plot_are_the_page_s():
    plot, axes = plots.canvas()
    axes.plot([0, 1], [0, 1], color=plots.COLOURS["fake"])
    axes.set(xlabel=EVIL)
    drawn = plots.figure(plot, "Title")
    assert "var(--fake)" in drawn
    assert not set(re.findall(r"#[0-9a-f]{6}\b", drawn)) - {"#000000", "#ffffff"}
    assert "<img" not in drawn
    assert drawn == plots.figure(plot, "Title")


def test_a_name_with_dollar_signs_is_no_formula():
    plot, axes = plots.canvas()
    axes.set(title="a$$b", xlabel=r"$\q$")
    axes.plot([0], [0], label="$x_1$")
    axes.legend()
    drawn = plots.figure(plot, "Title")
    assert all(name in drawn for name in ("a$$b", r"$\q$", "$x_1$"))


def test_a_page_of_a_run_leads_to_the_others():
    about = run_pages.About("run-1", "2026-01-31 15:00 UTC", "0123456789ab", "d" * 12, "3")
    page = run_pages.bind("data", parts.page("Data", []), about)
    assert set(re.findall(r'href="(\w+\.html)"', page)) == {
        "index.html",
        "decision.html",
        "evaluation.html",
        "training.html",
    }
    assert '<b aria-current="page">Data</b>' in page
    assert "Run run-1 · 2026-01-31 15:00 UTC · commit 0123456789ab · dataset dddddddddddd · model version 3" in page
    assert parts.RUN_MARK not in page
