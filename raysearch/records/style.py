"""One look for all figures: quiet axes, and colours that a colour-blind reader can tell apart."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from raysearch.data.display import COLOURS as COLOURS
from raysearch.data.display import class_colours as class_colours

INK, QUIET, GRID = "#222222", "#6f6f6f", "#e6e6e6"
WRONG, RIGHT = "#d6215b", "#1b7f4b"

LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#999933")


def figure(width: float, height: float) -> Figure:
    """Return a figure of a size in inches. It is no part of pyplot, so any thread may draw it."""
    drawn = Figure(figsize=(width, height), dpi=150, layout="constrained", facecolor="white")
    FigureCanvasAgg(drawn)
    return drawn


def tidy(axes: Axes, title: str = "", x: str = "", y: str = "") -> None:
    """Give axes their title and labels, a quiet grid, and no frame on the right and the top."""
    axes.set_title(title, loc="left", fontsize=10, color=INK, fontweight="bold")
    axes.set_xlabel(x, fontsize=9, color=QUIET)
    axes.set_ylabel(y, fontsize=9, color=QUIET)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=QUIET, labelsize=8, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(GRID)


def save(drawn: Figure, path: Path) -> Path:
    """Write a figure as PNG beside its name, then rename it."""
    aside = path.with_name(f".{path.name}")
    drawn.savefig(aside, format="png")
    aside.replace(path)
    return path
