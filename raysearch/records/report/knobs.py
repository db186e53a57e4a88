"""Optuna's own plots of a search, in the look of the other figures."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from raysearch.records.importance import Comparison
from raysearch.records.report.figures import Picture, embedded
from raysearch.records.style import GRID, INK, QUIET, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

A_ROW, SLICES, LINES = 4, 12, 7
TENS = 60  # A logarithmic axis of less than this from end to end has ticks between powers of ten.
FEWEST = 2
DOTS = 150
PANEL, BAR = (0.045, 0.13, 0.79, 0.84), (0.94, 0.13, 0.013, 0.84)  # Of the figure.


def slice_plots(compared: Comparison, metric: str, first: Sequence[str]) -> list[Picture]:
    """Return rows of up to four plots: the objective over each knob, the most important first.

    Args:
        first: knobs by importance; others follow by their names.
    """
    from optuna.visualization.matplotlib import plot_slice

    knobs = _knobs(compared, first)[:SLICES]
    if len(compared.trials) < FEWEST or not knobs:
        return []
    low, high = _ends(compared)
    pictures = []
    for part in np.array_split(knobs, -(-len(knobs) // A_ROW)):
        row = part.tolist()
        with _quiet():
            axes: Any = plot_slice(compared.study, params=row, target_name=metric)
            panels: list[Axes] = [axes] if len(row) == 1 else list(axes)
            _style_slices(panels, metric)
            for panel in panels:
                panel.set_ylim(low, high)
                for dots in panel.collections:
                    dots.set_clim(0, len(compared.trials) - 1)
            pictures.append(embedded(f"{metric} over {', '.join(row)}", _saver(panels[0].figure)))
    return pictures


def parallel_plot(compared: Comparison, metric: str, first: Sequence[str]) -> Picture | None:
    """Return the parallel coordinates of the most important knobs that every trial has."""
    from optuna.visualization.matplotlib import plot_parallel_coordinate

    shared = [
        key
        for key in _knobs(compared, first)
        if all(key in trial.params for trial in compared.trials)
    ][:LINES]
    if len(compared.trials) < FEWEST or not shared:
        return None
    with _quiet():
        axes = plot_parallel_coordinate(compared.study, params=shared, target_name=metric)
        drawn: Any = axes.figure
        _style_parallel(drawn, axes, metric)
        _best_on_top(axes.collections[0], compared)
        return embedded(f"{metric} and {', '.join(shared)} of every trial", _saver(drawn))


def _knobs(compared: Comparison, first: Sequence[str]) -> list[str]:
    """Knobs that have more than one value, the important ones first."""
    values: dict[str, set[Any]] = {}
    for trial in compared.trials:
        for key, value in trial.params.items():
            values.setdefault(key, set()).add(value)
    several = sorted(key for key, seen in values.items() if len(seen) > 1)
    return [*(key for key in first if key in several), *(k for k in several if k not in first)]


def _ends(compared: Comparison) -> tuple[float, float]:
    """Limits of the objective with a little room."""
    values = [trial.value for trial in compared.trials if trial.value is not None]
    room = 0.06 * ((max(values) - min(values)) or 1.0)
    return min(values) - room, max(values) + room


@contextmanager
def _quiet() -> Iterator[None]:
    """Optuna draws with pyplot: without a window, and without a trace in its settings."""
    import matplotlib.pyplot as plt

    before = plt.get_backend()
    with warnings.catch_warnings(), plt.rc_context():
        warnings.simplefilter("ignore")
        plt.switch_backend("agg")
        try:
            yield
        finally:
            plt.close("all")
            plt.switch_backend(before)


def _saver(drawn: Any) -> Any:
    def write(path: Path) -> None:
        drawn.savefig(path, format="png", dpi=DOTS, facecolor="white")

    return write


def _style_slices(panels: "Sequence[Axes]", metric: str) -> None:
    """Optuna draws panels in an order of its own, so each says itself what it shows."""
    drawn: Any = panels[0].figure
    drawn.suptitle("")
    # The bar beside a single panel has rows of no height, which "constrained" divides by.
    drawn.set_layout_engine("constrained" if len(panels) > 1 else "tight")
    drawn.set_size_inches(2.6 * max(len(panels), 2) + 0.9, 2.9)
    for place, axes in enumerate(panels):
        tidy(axes, "", axes.get_xlabel(), metric if place == 0 else "")
        axes.set_facecolor("white")
        axes.minorticks_off()
        if axes.get_xscale() == "log":
            _few_ticks(axes.xaxis)
        labels = [label.get_text().strip("'") for label in axes.get_xticklabels()]
        if any(text and not _is_number(text) for text in labels):
            axes.set_xticks(axes.get_xticks(), [_shortened(text) for text in labels])
            axes.tick_params(axis="x", rotation=25)
            first, last = min(axes.get_xticks()), max(axes.get_xticks())
            axes.set_xlim(first - 0.12 * (last - first), last + 0.12 * (last - first))
            for label in axes.get_xticklabels():
                label.set_horizontalalignment("right")
                label.set_rotation_mode("anchor")
    _style_bar(drawn, panels, "order of trials")


def _style_parallel(drawn: Figure, axes: "Axes", metric: str) -> None:
    axes.set_title("")
    drawn.set_size_inches(11.0, 3.6)
    others = [other for other in drawn.axes if other.get_label() != "<colorbar>"]
    for bar in drawn.axes:
        bar.set_position(PANEL if bar in others else BAR)
    for other in others:
        other.set_facecolor("white")
        other.grid(visible=False)
        other.minorticks_off()
        other.tick_params(colors=QUIET, labelsize=7.5, length=2)
        for side, spine in other.spines.items():
            spine.set_visible(side in ("left", "right") and other is not axes)
            spine.set_color(GRID)
        texts = [label.get_text().strip("'") for label in other.get_yticklabels()]
        if other is not axes and any(text and not _is_number(text) for text in texts):
            other.set_yticks(other.get_yticks(), [_shortened(text) for text in texts])
        if other.get_yscale() == "log":
            _few_ticks(other.yaxis)
        for label in other.get_yticklabels() if other is not axes else []:
            label.set_bbox({"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6})
            label.set_color(INK)
    axes.tick_params(axis="x", colors=INK, labelsize=8.5, rotation=0, length=0)
    names = [label.get_text() for label in axes.get_xticklabels()]
    shown = [metric, *(_broken(name) for name in names[1:])]
    axes.set_xticks(axes.get_xticks(), shown, ha="center")
    _style_bar(drawn, others, metric)


def _best_on_top(lines: Any, compared: Comparison) -> None:
    """Draw the lines of better trials darker and above the others; no line is as pale as paper."""
    from matplotlib import colormaps
    from optuna.study import StudyDirection

    upwards = compared.study.direction == StudyDirection.MAXIMIZE
    values, segments = np.asarray(lines.get_array()), lines.get_segments()
    order = np.argsort(values if upwards else -values)
    lines.set_segments([segments[place] for place in order])
    lines.set_array(values[order])
    shades = np.linspace(0.2, 1.0, 256)
    lines.set_cmap(ListedColormap(colormaps["Blues"](shades if upwards else shades[::-1])))
    lines.set_linewidth(1.1)


def _style_bar(drawn: Any, panels: "Sequence[Axes]", title: str) -> None:
    """The bar of colours is the axes that no panel is."""
    for bar in drawn.axes:
        if bar not in panels and bar.get_label() == "<colorbar>":
            bar.tick_params(labelsize=7, colors=QUIET, length=0)
            bar.set_ylabel(title, fontsize=8, color=QUIET)
            for spine in bar.spines.values():
                spine.set_visible(False)


def _few_ticks(axis: Any) -> None:
    """Ticks of a logarithmic axis at 1, 2 and 5 of each power of ten, or at 1 of many powers."""
    low, high = sorted(axis.get_view_interval())
    subs = (1.0, 2.0, 5.0) if low > 0 and high / low < TENS else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}".replace("e-0", "e-")))


def _is_number(text: str) -> bool:
    plain = text.replace("\N{MINUS SIGN}", "-").strip("$")
    try:
        float(plain)
    except ValueError:
        return "mathdefault" in text
    return True


def _shortened(text: str, most: int = 18) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _broken(name: str) -> str:
    """A knob's name in two lines where it is long."""
    if len(name) <= 12:
        return name
    head, _, tail = name.rpartition("_") if "_" in name else name.rpartition(".")
    return f"{head}\n{tail}" if head else name
