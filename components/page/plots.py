"""The plots of a page, as SVG within it: text stays text, and colours follow the reader's light or dark mode."""

import io
import re
from typing import Any

from markupsafe import Markup

from components.page import parts

WIDTH = 300  # of a plot as it is drawn, CSS pixels: what a phone of 390 shows without shrinking it
TEXT = 11.5  # CSS pixels
# What is drawn in these colours gets the page's own: by these names in `style.css.j2`.
COLOURS = {
    "real": "#2a7f78",
    "fake": "#c2552d",
    "good": "#2a7f79",
    "warn": "#b7791f",
    "bad": "#b3372c",
    "quiet": "#8a8f98",
    "ink": "#23272e",
    "soft": "#69707b",
    "rule": "#c9c6bf",
    "grid": "#eeece7",
}


def canvas(height: float = 220) -> tuple[Any, Any]:
    """Return a matplotlib figure in the page's style, WIDTH wide, and its axes.

    Args:
        height: Of the figure, CSS pixels at its own width.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    plot = Figure(figsize=(WIDTH / 72, height / 72), layout="constrained")
    axes = plot.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(COLOURS["rule"])
    axes.tick_params(colors=COLOURS["soft"], labelsize=TEXT, length=3)
    axes.grid(color=COLOURS["grid"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.xaxis.label.set(color=COLOURS["soft"], fontsize=TEXT)
    axes.yaxis.label.set(color=COLOURS["soft"], fontsize=TEXT)
    return plot, axes


def figure(plot: Any, title: str = "", caption: str = "", label: str = "") -> Markup:
    """Return a plot with its title and caption.

    Args:
        plot: A matplotlib figure, from `canvas`.
        title: Above it.
        caption: Below it: what to see in it.
        label: What it shows, for those who cannot see it; the title if not given.
    """
    return parts.plot(svg(plot, label or title), title, caption)


def svg(plot: Any, label: str) -> Markup:
    """Return a matplotlib figure as SVG to stand within a page; the same plot gives the same text.

    Args:
        plot: The figure, its colours out of COLOURS.
        label: What it shows, for those who cannot see it.
    """
    import matplotlib.text

    content = io.StringIO()
    # Names are a user's: a dollar sign in one begins no formula.
    styles: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "page",
        "font.family": ["sans-serif"],
        "text.parse_math": False,
    }
    with matplotlib.rc_context(styles):
        for words in plot.findobj(matplotlib.text.Text):  # those that were made before
            words.set_parse_math(False)
        plot.savefig(content, format="svg", metadata={"Date": None}, transparent=True)
    text = content.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.S)
    ((width, height),) = re.findall(r'^<svg[^>]* viewBox="0 0 ([\d.]+) ([\d.]+)"', text)
    opening = Markup('<svg class="plot" role="img" aria-label="{}" viewBox="0 0 {} {}" xmlns:xlink="{}">').format(
        label, f"{float(width):g}", f"{float(height):g}", "http://www.w3.org/1999/xlink"
    )
    for name, colour in COLOURS.items():
        text = text.replace(colour, f"var(--{name})")
    return opening + Markup(text[text.index(">") + 1 :].strip())
