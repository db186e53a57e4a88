"""The figures of the page, each as a PNG in a data URI."""

import struct
import tempfile
from base64 import b64encode
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from raysearch.config import Objective
from raysearch.records.importance import Importances
from raysearch.records.report.headline import three
from raysearch.records.report.known import Known
from raysearch.records.style import INK, LINES, QUIET, figure, save, tidy
from raysearch.records.trial_record import TrialRecord

DOTS_PER_PIXEL = 1.5  # Figures have 150 dots an inch, a page 96 pixels.


@dataclass(frozen=True)
class Picture:
    """A picture that needs no other file; `width` in pixels of the page."""

    source: str
    width: int
    words: str


def embedded(words: str, draw: Callable[[Path], object]) -> Picture:
    """Draw a PNG and embed it.

    Args:
        words: what there is to see, for those who do not see it.
        draw: writes a PNG to the path that it is given.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figure.png"
        draw(path)
        data = path.read_bytes()
    width, _ = struct.unpack(">II", data[16:24])
    uri = f"data:image/png;base64,{b64encode(data).decode('ascii')}"
    return Picture(uri, round(width / DOTS_PER_PIXEL), words)


def draw_importances(learned: Importances, path: Path) -> Path:
    """Draw each knob's share as a bar, the most important on top."""
    names = list(learned.shares)[::-1]
    drawn = figure(7.2, 0.6 + 0.27 * len(names))
    axes = drawn.subplots()
    tidy(axes)
    bars = axes.barh(names, [learned.shares[name] for name in names], color=LINES[0], height=0.62)
    axes.bar_label(bars, fmt=lambda share: f"{share:.0%}", padding=4, fontsize=8, color=QUIET)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.tick_params(axis="y", colors=INK)
    axes.margins(x=0.1, y=0.02)
    return save(drawn, path)


@dataclass(frozen=True)
class Speed:
    """A trial's time for an image, and what it is worth."""

    record: TrialRecord
    milliseconds: float
    value: float


def speeds(known: Known) -> list[Speed]:
    """Return the time that an image of validation took, for each trial that has a value.

    It is the median over all epochs of all trials with a network of as many parameters and images
    of the same size, since trials that run side by side disturb each other.
    """
    images = len(known.splits.val) if known.splits else 0
    scored = [r for r in known.records if r.value is not None and r.state != "failed"]
    told: dict[tuple[object, ...], list[float]] = defaultdict(list)
    for record in scored:
        spent = [m["validation_seconds"] for m in record.history if m.get("validation_seconds")]
        told[_network(record)] += spent
    return [
        Speed(record, 1000 * median(told[_network(record)]) / images, record.value)
        for record in scored
        if images and told[_network(record)] and record.value is not None
    ]


def _network(record: TrialRecord) -> tuple[object, ...]:
    return record.recipe.architecture, record.parameters, record.recipe.image_size


def front(told: Sequence[Speed], objective: Objective) -> list[Speed]:
    """Return the trials that no other one beats in both, the fastest first (the Pareto front)."""
    sign = -1 if objective.mode == "max" else 1
    best: float | None = None
    kept = []
    for speed in sorted(told, key=lambda s: (s.milliseconds, sign * s.value)):
        if objective.better(speed.value, best):
            best = speed.value
            kept.append(speed)
    return kept


def draw_speeds(told: Sequence[Speed], objective: Objective, path: Path) -> Path:
    """Draw the objective over the time for an image, with the Pareto front as a step line."""
    drawn = figure(7.6, 4.0)
    axes = drawn.subplots()
    tidy(axes, "", "milliseconds an image (less is better)", objective.metric)
    best = front(told, objective)
    names = list(dict.fromkeys(s.record.recipe.architecture for s in told))
    times = [s.milliseconds for s in told]
    if max(times) > 2 * min(times):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        many = max(times) > 12 * min(times)
        axes.xaxis.set_minor_formatter(
            NullFormatter() if many else FuncFormatter(lambda x, _: f"{x:g}")
        )
        axes.tick_params(axis="x", which="minor", colors=QUIET, labelsize=8, length=0)
    for index, name in enumerate(names):
        _dots(axes, [s for s in told if s.record.recipe.architecture == name], index, name)
    ends = [*best, Speed(best[-1].record, max(times), best[-1].value)]
    axes.step(
        [s.milliseconds for s in ends], [s.value for s in ends], where="post", color=INK, lw=1.2,
        zorder=2.5, label="best for its time",
    )  # fmt: skip
    for speed in best:
        axes.annotate(
            f"trial {speed.record.number}: {three(speed.value)}", (speed.milliseconds, speed.value),
            xytext=(0, 6), textcoords="offset points", fontsize=7.5, color=INK, ha="left",
        )  # fmt: skip
    axes.margins(x=0.09, y=0.12)
    drawn.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return save(drawn, path)


def draw_reliability(rows: Mapping[str, Sequence[Sequence[float]]], path: Path) -> Path:
    """Draw how often answers are right over how sure they are; what is honest lies on the diagonal.

    Args:
        rows: bins as `raysearch.inference.calibration.reliability` returns them, by their titles.
    """
    drawn = figure(5.6, 4.4)
    axes = drawn.subplots()
    tidy(axes, "", "probability of the likeliest class", "share that is right")
    axes.plot([0, 1], [0, 1], color=QUIET, lw=1.0, ls=":", label="as sure as right")
    for (title, bins), colour in zip(rows.items(), LINES, strict=False):
        sure, right, share = zip(*bins, strict=True)
        axes.plot(sure, right, color=colour, lw=1.3, label=title)
        axes.scatter(sure, right, s=[6 + 150 * part for part in share], color=colour, lw=0)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_aspect("equal")
    axes.legend(loc="upper left", frameon=False, fontsize=8)
    return save(drawn, path)


def _dots(axes: Axes, told: Sequence[Speed], index: int, name: str) -> None:
    """Trials that were stopped early are hollow."""
    colour = LINES[index % len(LINES)]
    for whole in (True, False):
        mine = [s for s in told if (s.record.state == "completed") is whole]
        axes.scatter(
            [s.milliseconds for s in mine], [s.value for s in mine], s=26, lw=1.0,
            color=colour if whole else "white", edgecolors="white" if whole else colour,
            label=name if whole else None, zorder=3 if whole else 2,
        )  # fmt: skip
    if not any(s.record.state == "completed" for s in told):
        axes.scatter([], [], s=26, lw=1.0, color="white", edgecolors=colour, label=name)
