"""The parts of a page that a person reads.

Every report is one self-contained HTML file made of sections:

    page("Data report", [
        numbers({"pictures": "1,032", "rejected": 3}),
        section("Balance", table(rows), picture(jpeg(pixels), "caption"), note="A plain sentence on what to see here."),
    ], lead="What this page says, in a line.")

The markup is in `templates/`, which escape every text; what these functions return is markup and passes as it is. The
colours of the two labels are the same on every page, by their tone: real, fake, good, warn, bad, quiet. A page follows
the reader's light or dark mode and reads well from 390 pixels on.
"""

import base64
import functools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from components.containers import VERSION

TONES = ("real", "fake", "good", "warn", "bad", "quiet")
RUN_MARK = Markup("<!-- the run's header comes here -->")


def page(title: str, parts: Iterable[str], lead: str = "", footer: str = "", notice: str = "") -> str:
    """Return a whole HTML page.

    Args:
        title: Its heading.
        parts: What `section` and `numbers` return, in order; empty parts are left out.
        lead: One or two sentences under the heading: what the reader should take away.
        footer: A quiet last line: digests and versions. The date and the package's version are added.
        notice: What must not be missed, such as the card's note that these are sample data.
    """
    written = f"Written {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC by ai-vs-real {VERSION}"
    return (
        _templates()
        .get_template("page.html.j2")
        .render(
            title=title,
            lead=lead,
            notice=notice,
            parts=[part for part in parts if part],
            footer=f"{footer} · {written}" if footer else written,
            run_mark=RUN_MARK,
        )
    )


def section(heading: str, *blocks: Any, note: str = "") -> Markup:
    """Return a card.

    Args:
        heading: Its heading.
        blocks: What other parts return, or texts, which become paragraphs; empty blocks are left out.
        note: A plain sentence on what to see in it.
    """
    return _macro("section", heading, note, _blocks(blocks))


def paragraph(words: Any, kind: str = "") -> Markup:
    """Return a paragraph.

    Args:
        words: Its text.
        kind: "note" for a quiet paragraph.
    """
    return _macro("paragraph", words, kind)


def heading(words: Any) -> Markup:
    """Return a heading within a section.

    Args:
        words: Its text.
    """
    return _macro("heading", words)


def numbers(values: Mapping[str, Any]) -> Markup:
    """Return the strip of key numbers at the head of a page.

    Args:
        values: Name to value, at most about eight.
    """
    return _macro("numbers", values)


def table(
    rows: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str] | None = None,
    code: Sequence[str] = (),
    stacked: bool = False,
) -> Markup:
    """Return a table; numbers are set right, and it scrolls sideways where the screen is narrow.

    Args:
        rows: Mappings from column key to value.
        columns: Column key to heading, in order; the first row's keys if not given.
        code: Keys of columns to set in a monospaced face, such as paths and digests.
        stacked: Put the cells of a row below each other where the screen is narrow: for rows that are mostly text.
    """
    if not rows:
        return Markup("")
    columns = columns or {key: key.replace("_", " ") for key in rows[0]}
    kinds = {key: "code" if key in code else _kind([row.get(key) for row in rows]) for key in columns}
    return _macro("table", columns, kinds, [{key: row.get(key) for key in columns} for row in rows], stacked)


def picture(content: bytes, caption: Any = "", width: int | None = None) -> Markup:
    """Return a picture with its caption.

    Args:
        content: PNG or JPEG bytes.
        caption: What to see in it; also the text for those who cannot see it.
        width: Width on the page in CSS pixels, at most; the picture's own if not given.
    """
    kind = "image/png" if content.startswith(b"\x89PNG") else "image/jpeg"
    source = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    return _macro("picture", source, Markup(str(caption)).striptags(), caption, width)


def gallery(pictures: Iterable[tuple[bytes, Any]], ratio: float = 1.0) -> Markup:
    """Return a grid of small pictures.

    Args:
        pictures: PNG or JPEG bytes with a caption.
        ratio: Width over height of each.
    """
    return _macro("gallery", [picture(content, caption) for content, caption in pictures], ratio)


def jpeg(pixels: np.ndarray, size: int = 96) -> bytes:
    """Return pixels as a small JPEG for a page.

    Args:
        pixels: uint8 RGB, (height, width, 3).
        size: Longer side, at most, in pixels.
    """
    import cv2

    scale = size / max(pixels.shape[:2])
    if scale < 1:
        shape = [max(1, round(side * scale)) for side in pixels.shape[1::-1]]
        pixels = cv2.resize(pixels, shape, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes()


def plot(drawing: Markup, title: str = "", caption: str = "") -> Markup:
    """Return a drawing with its title and caption.

    Args:
        drawing: SVG.
        title: Above it.
        caption: Below it.
    """
    return _macro("plot", drawing, title, caption)


def panels(*figures: Markup) -> Markup:
    """Return plots side by side, which stack where the screen is narrow.

    Args:
        figures: What `plots.figure` returns.
    """
    return _macro("panels", [figure for figure in figures if figure])


def legend(entries: Sequence[tuple[str, str, str]]) -> Markup:
    """Return the legend of a plot, to stand below it: within it a legend hides what is drawn.

    Args:
        entries: Name, tone and form of each: "" for a line, "block", "dashed" or "dotted".
    """
    return _macro("legend", entries)


def colour_bar(colours: Sequence[str], left: str, right: str) -> Markup:
    """Return the scale of a heat map.

    Args:
        colours: CSS colours from the left end to the right.
        left: What the left end means.
        right: What the right end means.
    """
    return _macro("colour_bar", colours, left, right)


def badge(words: str, tone: str = "quiet") -> Markup:
    """Return a small coloured word.

    Args:
        words: Its text.
        tone: One of TONES.
    """
    return _macro("badge", words, tone)


def bar(parts: Mapping[str, float], whole: float | None = None) -> Markup:
    """Return a horizontal bar of shares.

    Args:
        parts: Tone to any non-negative amount.
        whole: What the full bar stands for; their sum if not given.
    """
    whole = whole or sum(parts.values()) or 1
    return _macro("bar", {tone: f"{100 * part / whole:.2f}" for tone, part in parts.items()})


def details(summary: str, *blocks: Any) -> Markup:
    """Return blocks that open on a click: for long lists.

    Args:
        summary: What is always shown.
        blocks: As in `section`.
    """
    return _macro("details", summary, _blocks(blocks))


def bullets(items: Iterable[Any]) -> Markup:
    """Return a list.

    Args:
        items: Its entries.
    """
    return _macro("bullets", list(items))


def checks(entries: Iterable[tuple[Markup, str]]) -> Markup:
    """Return a list whose entries are led by a badge.

    Args:
        entries: Badge and text of each.
    """
    return _macro("checks", list(entries))


def code(words: str) -> Markup:
    """Return a text as code.

    Args:
        words: The text.
    """
    return _macro("code", words)


def lines(*parts: Any) -> Markup:
    """Return texts or parts below each other, in one cell of a table.

    Args:
        parts: The lines; empty ones are left out.
    """
    return _macro("lines", [part for part in parts if part])


def with_small(words: Any, small: Any) -> Markup:
    """Return a text with a quieter, smaller one below it.

    Args:
        words: The text.
        small: The smaller one.
    """
    return _macro("with_small", words, small)


@dataclass(frozen=True)
class Mark:
    """A value with its interval, in a row of a forest plot.

    Attributes:
        value: Where the dot is.
        low: Lower end of the interval; None where there is none.
        high: Its upper end.
        tone: One of TONES.
    """

    value: float
    low: float | None = None
    high: float | None = None
    tone: str = "fake"


@dataclass(frozen=True)
class Row:
    """A row of a forest plot.

    Attributes:
        name: What was measured, in words.
        marks: One value, or two of them to be compared.
        value: The value in figures.
        units: How much it was measured on, in words.
        group: A heading above this row; empty for none.
        kind: "all" for the row of everything, "few" for one that proves little, else empty.
        mark: A badge beside the name; None for none.
    """

    name: str
    marks: Sequence[Mark]
    value: Any
    units: str = ""
    group: str = ""
    kind: str = ""
    mark: Markup | None = None


def forest(rows: Sequence[Row], axis: str, guess: float = 0.5, high: float = 1.0) -> Markup:
    """Return values with their intervals below each other on one axis (a forest plot), as text that reflows.

    The axis begins where every dot, and every interval but those of few units, is shown whole.

    Args:
        rows: What is shown, from the top.
        axis: Name of the axis.
        guess: Where a dashed line is drawn: what guessing reaches.
        high: Where the axis ends.
    """
    shown = [mark.value for row in rows for mark in row.marks]
    shown += [mark.low for row in rows for mark in row.marks if mark.low is not None and row.kind != "few"]
    low = max(0.0, min(np.floor(min([*shown, guess]) * 10) / 10, guess - 0.1))

    def place(value: float) -> float:
        return round(100 * (min(max(value, low), high) - low) / (high - low), 2)

    def line(low: float, high: float) -> dict[str, float]:
        return {"low": place(low), "width": round(place(high) - place(low), 2)}

    ticks = [(place(tick), f"{tick:.1f}") for tick in np.arange(round(low * 10), round(high * 10) + 1) / 10]
    drawn = [
        {
            **vars(row),
            "label": f"{row.name}: " + ", ".join(f"{mark.value:.3f}" for mark in row.marks),
            "marks": [
                {
                    "tone": mark.tone,
                    "value": place(mark.value),
                    "low": None if mark.low is None else place(mark.low),
                    "width": None
                    if mark.low is None or mark.high is None
                    else round(place(mark.high) - place(mark.low), 2),
                }
                for mark in row.marks
            ],
        }
        for row in rows
    ]
    return _macro("forest", drawn, ticks, place(guess), axis)


def links(entries: Sequence[tuple[str, str, str]]) -> Markup:
    """Return cards that lead to other pages.

    Args:
        entries: Name, address and a sentence of each.
    """
    return _macro("links", entries)


def run_header(entries: Sequence[tuple[str, str, bool]], about: str) -> Markup:
    """Return what leads from a page of a run to its other pages.

    Args:
        entries: Name and address of each page, and whether it is the one that is read.
        about: Which run it is, in a line.
    """
    return _macro("run_header", entries, about)


def sentence(clause: str) -> str:
    """Return a clause as a sentence.

    Args:
        clause: Without a full stop at its end.
    """
    return clause[:1].upper() + clause[1:] + "."


def reading(value: Any) -> Any:
    """Return a value for reading: numbers as 1,234 or 0.123, a dash for None or NaN, anything else as it is.

    Args:
        value: A number, a text or markup.
    """
    if value is None or (isinstance(value, float) and value != value):
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, float | np.floating):
        value = float(value)
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}"
    return value


def _blocks(blocks: Iterable[Any]) -> list[Markup]:
    return [block if isinstance(block, Markup) else paragraph(block) for block in blocks if block]


def _kind(values: Sequence[Any]) -> str:
    numeric = (int, float, np.integer, np.floating)
    given = [value for value in values if value is not None]
    if given and all(isinstance(value, numeric) and not isinstance(value, bool) for value in given):
        return "number"
    return "words" if any(len(Markup(str(value)).striptags()) > 24 for value in given) else ""


def _macro(name: str, *arguments: Any) -> Markup:
    return getattr(_templates().get_template("parts.html.j2").module, name)(*arguments)


@functools.cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["reading"] = reading
    return environment
