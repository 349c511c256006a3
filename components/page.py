"""Contract: how a page that a person reads looks.

Every report is one self-contained HTML file made of sections:

    page("Data report", [
        numbers({"pictures": "1,032", "rejected": 3}),
        section("Balance", table(rows), figure(jpeg(pixels), "caption"), note="A plain sentence on what to see here."),
    ], lead="What this page says, in a line.")

Text is escaped wherever it comes in; markup made here is `Html` and passes as it is. Colours of the two labels are the
same on every page: `COLOURS["real"]`, `COLOURS["fake"]`. Plots: `canvas()` gives a quiet matplotlib figure with its
axes, `figure(plot, caption)` puts it in as SVG.
"""

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

COLOURS = {
    "real": "#2a7f78",
    "fake": "#c2552d",
    "good": "#2a7f78",
    "warn": "#b7791f",
    "bad": "#b3372c",
    "quiet": "#8a8f98",
}

STYLE = """
:root{--ink:#23272e;--soft:#69707b;--line:#e6e4df;--paper:#fbfaf8;--card:#fff;--real:#2a7f78;--fake:#c2552d;
--good:#2a7f78;--warn:#b7791f;--bad:#b3372c}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,"Noto Sans","Liberation Sans",sans-serif;-webkit-text-size-adjust:100%}
main{max-width:1040px;margin:0 auto;padding:48px 24px 72px}
h1{font-size:30px;line-height:1.2;letter-spacing:-.015em;font-weight:650;margin:0 0 6px}
h2{font-size:20px;line-height:1.3;letter-spacing:-.01em;font-weight:640;margin:0 0 4px}
h3{font-size:15px;font-weight:620;margin:22px 0 8px}
p{margin:0 0 12px;max-width:72ch}.lead,.note{color:var(--soft)}.lead{font-size:17px;margin-bottom:28px}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:24px 26px;margin:0 0 20px}
.notice{max-width:none;background:#fdf6e3;border:1px solid #eadfbd;border-radius:12px;padding:12px 18px;margin:0 0 20px}
nav{display:flex;flex-wrap:wrap;gap:4px 18px;margin:0 0 24px;font-size:14px}
nav a{color:var(--soft);text-decoration:none;border-bottom:1px solid var(--line)}nav a:hover{color:var(--ink)}
.numbers{display:flex;flex-wrap:wrap;gap:1px;background:var(--line);
border:1px solid var(--line);border-radius:12px;overflow:hidden;margin:0 0 20px}
.numbers div{flex:1 1 118px;background:var(--card);padding:16px 18px}
.numbers b{display:block;font-size:25px;line-height:1.2;font-weight:640;letter-spacing:-.02em;
font-variant-numeric:tabular-nums;overflow-wrap:anywhere}
.numbers span{color:var(--soft);font-size:13px}
.scroll{overflow-x:auto;margin:10px 0 14px}
table{border-collapse:collapse;font-size:14px;width:100%;font-variant-numeric:tabular-nums}
th{font-weight:560;color:var(--soft);text-align:left;white-space:nowrap;border-bottom:1px solid var(--line);
padding:6px 14px 6px 0}
td{border-bottom:1px solid var(--line);padding:7px 14px 7px 0;vertical-align:top}
tr:last-child td{border-bottom:0}
td.number,th.number{text-align:right;white-space:nowrap}td.code{font-family:ui-monospace,Menlo,Consolas,monospace;font-size:12.5px;
overflow-wrap:anywhere}
figure{margin:14px 0;max-width:100%}figure img{display:block;max-width:100%;height:auto;border-radius:6px}
figcaption{color:var(--soft);font-size:13px;margin-top:6px}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(calc(92px*var(--ratio,1)),1fr));gap:8px;
margin:10px 0 16px}
.gallery figure{margin:0}.gallery img{width:100%;aspect-ratio:var(--ratio,1);object-fit:cover}
.gallery figcaption{font-size:11.5px;line-height:1.35;margin-top:3px;overflow-wrap:anywhere}
.badge{display:inline-block;font-size:12.5px;font-weight:560;line-height:1.5;padding:1px 9px;border-radius:99px;
white-space:nowrap;color:var(--tone);background:color-mix(in srgb,var(--tone) 11%,#fff)}
.bar{display:flex;height:9px;min-width:110px;border-radius:99px;overflow:hidden;background:#efede9;margin-top:7px}
.bar i{display:block;height:100%}
details{margin:8px 0}summary{cursor:pointer;color:var(--soft);font-size:14px}
code{font-family:ui-monospace,Menlo,Consolas,monospace;font-size:.88em;background:#f3f1ed;border-radius:4px;
padding:1px 5px;overflow-wrap:anywhere}
footer{color:var(--soft);font-size:13px}
@media(max-width:640px){main{padding:28px 14px 48px}section{padding:18px 16px}h1{font-size:25px}
.gallery{grid-template-columns:repeat(auto-fill,minmax(calc(76px*var(--ratio,1)),1fr))}}
"""


class Html(str):
    """Markup that is already safe: everything else is escaped where it comes in."""


def text(value: Any) -> Html:
    """Return a value as markup: Html as it is, numbers for reading (1,234 or 0.123; a dash for None), else escaped."""
    if isinstance(value, Html):
        return value
    if value is None or (isinstance(value, float) and value != value):
        return Html("–")
    if isinstance(value, bool | np.bool_):
        return Html("yes" if value else "no")
    if isinstance(value, int | np.integer):
        return Html(f"{value:,}")
    if isinstance(value, float | np.floating):
        return Html(f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}")
    return Html(html.escape(str(value)))


def page(title: str, sections: Iterable[str], lead: str = "", footer: str = "", notice: str = "") -> str:
    """Return a whole HTML page.

    Args:
        title: Its heading.
        sections: What `section` and `numbers` return, in order; empty ones are left out.
        lead: One or two sentences under the heading: what the reader should take away.
        footer: A quiet last line: versions, digests.
        notice: What must not be missed, such as the card's note that these are sample data.
    """
    body = "\n".join(part for part in sections if part)
    above = f'<p class="notice">{text(notice)}</p>\n' if notice else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{text(title)}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{STYLE}</style></head>\n'
        f'<body><main><h1>{text(title)}</h1><p class="lead">{text(lead)}</p>\n{above}{body}\n'
        f"<footer>{text(footer)}</footer></main></body></html>\n"
    )


def section(heading: str, *blocks: Any, note: str = "") -> Html:
    """Return a card with a heading, a plain sentence on what to see in it, and its blocks."""
    body = "".join(block if isinstance(block, Html) else paragraph(block) for block in blocks if block)
    return Html(f"<section><h2>{text(heading)}</h2>{paragraph(note, 'note') if note else ''}{body}</section>")


def paragraph(words: Any, kind: str = "") -> Html:
    """Return a paragraph; kind "note" makes it quiet."""
    return Html(f'<p class="{kind}">{text(words)}</p>')


def heading(words: str) -> Html:
    """Return a heading within a section."""
    return Html(f"<h3>{text(words)}</h3>")


def numbers(values: Mapping[str, Any]) -> Html:
    """Return the strip of key numbers at the head of a page: name to value, at most about eight."""
    cells = "".join(f"<div><b>{text(value)}</b><span>{text(name)}</span></div>" for name, value in values.items())
    return Html(f'<div class="numbers">{cells}</div>')


def table(
    rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str] | None = None, code: Sequence[str] = ()
) -> Html:
    """Return a table; numbers are set right, it scrolls sideways where the screen is narrow.

    Args:
        rows: Mappings from column key to value; `Html` values pass as they are.
        columns: Column key to heading, in order; the first row's keys where not given.
        code: Keys of columns to set in a monospaced face, such as paths and digests.
    """
    if not rows:
        return Html("")
    columns = columns or {key: key.replace("_", " ") for key in rows[0]}
    kinds = {key: "code" if key in code else _kind([row.get(key) for row in rows]) for key in columns}
    head = "".join(f'<th class="{kinds[key]}">{text(name)}</th>' for key, name in columns.items())
    body = ""
    for row in rows:
        body += "<tr>" + "".join(f'<td class="{kinds[key]}">{text(row.get(key))}</td>' for key in columns) + "</tr>"
    return Html(f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>')


def _kind(values: Sequence[Any]) -> str:
    numeric = (int, float, np.integer, np.floating)
    given = [value for value in values if value is not None]
    return "number" if given and all(isinstance(v, numeric) and not isinstance(v, bool) for v in given) else ""


def figure(content: Any, caption: Any = "", width: int | None = None) -> Html:
    """Return a picture or a plot with its caption.

    Args:
        content: PNG or JPEG bytes, or a matplotlib figure (put in as SVG).
        caption: What to see in it; also the text for those who cannot see it.
        width: Of the picture on the page, CSS pixels, at most; its own where not given.
    """
    if isinstance(content, bytes):
        kind = "image/png" if content.startswith(b"\x89PNG") else "image/jpeg"
    else:
        kind, content = "image/svg+xml", _svg(content)
    source = f"data:{kind};base64,{base64.b64encode(content).decode()}"
    size = f' style="width:{width}px"' if width else ""
    words = text(caption)
    alt = "" if isinstance(caption, Html) else words.replace("\n", " ")
    return Html(
        f'<figure><img src="{source}" alt="{alt}"{size}>{f"<figcaption>{words}</figcaption>" if words else ""}</figure>'
    )


def gallery(pictures: Iterable[tuple[bytes, Any]], ratio: float = 1.0) -> Html:
    """Return a grid of small pictures: (PNG or JPEG bytes, caption) each, of one ratio of width to height."""
    cells = "".join(figure(content, caption) for content, caption in pictures)
    return Html(f'<div class="gallery" style="--ratio:{ratio}">{cells}</div>')


def jpeg(pixels: np.ndarray, size: int = 96) -> bytes:
    """Return pixels, uint8 RGB (height, width, 3), as a small JPEG for a page, its longer side at most `size`."""
    import cv2

    scale = size / max(pixels.shape[:2])
    if scale < 1:
        shape = [max(1, round(side * scale)) for side in pixels.shape[1::-1]]
        pixels = cv2.resize(pixels, shape, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])[1].tobytes()


def badge(words: str, tone: str = "quiet") -> Html:
    """Return a small coloured word; tone is a key of COLOURS: good, warn, bad, real, fake or quiet."""
    return Html(f'<span class="badge" style="--tone:{COLOURS[tone]}">{text(words)}</span>')


def bar(parts: Mapping[str, float], whole: float | None = None) -> Html:
    """Return a horizontal bar of shares: key of COLOURS to any non-negative amount, of their sum or of `whole`."""
    whole = whole or sum(parts.values()) or 1
    cells = "".join(
        f'<i style="width:{100 * part / whole:.2f}%;background:{COLOURS[key]}"></i>' for key, part in parts.items()
    )
    return Html(f'<div class="bar">{cells}</div>')


def details(summary: str, *blocks: Any) -> Html:
    """Return blocks that open on a click: for long lists."""
    body = "".join(block if isinstance(block, Html) else paragraph(block) for block in blocks if block)
    return Html(f"<details><summary>{text(summary)}</summary>{body}</details>")


def canvas(width: float = 6.0, height: float = 3.6, columns: int = 1) -> tuple[Any, Any]:
    """Return a matplotlib figure in the page's style and its axes (an array of them for several columns).

    Args:
        width: Of the whole figure, inches.
        height: Of the whole figure, inches.
        columns: Number of axes side by side.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    plot = Figure(figsize=(width, height), layout="constrained")
    axes = plot.subplots(1, columns)
    for axis in np.ravel(axes):
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color("#c9c6bf")
        axis.tick_params(colors="#69707b", labelsize=9, length=3)
        axis.grid(color="#eeece7", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.xaxis.label.set(color="#69707b", fontsize=10)
        axis.yaxis.label.set(color="#69707b", fontsize=10)
        axis.title.set(color="#23272e", fontsize=11)
    return plot, axes


def _svg(plot: Any) -> bytes:
    import matplotlib

    content = io.BytesIO()
    # Text stays text, and the same plot gives the same bytes.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "page", "font.family": ["sans-serif"]}):
        plot.savefig(content, format="svg", metadata={"Date": None}, transparent=True)
    return content.getvalue()
