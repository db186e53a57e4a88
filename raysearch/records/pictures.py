"""Figures of a search: learning curves, the best value over time, and predictions beside labels."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from raysearch.config import Objective
from raysearch.records.leaderboard import best_over_time, best_trial, unfailed
from raysearch.records.style import INK, LINES, QUIET, WRONG, class_colours, figure, save, tidy
from raysearch.records.trial_record import TrialRecord

Panel = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]
GAP = 0.04  # Of a panel's width.
FADED = ("pruned", "failed", "stopped")


def learning_curves(records: Sequence[TrialRecord], objective: Objective, path: Path) -> Path:
    """Draw the objective by epoch, one line a trial, one pair of axes an architecture.

    Trials that were stopped early are faded; the best trial is drawn thick and named.
    """
    names = list(dict.fromkeys(r.recipe.architecture for r in records if r.history)) or [""]
    best = best_trial(records, objective)
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    drawn = figure(0.8 + 3.6 * columns, 0.7 + 2.7 * rows)
    grid = drawn.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for place, axes in enumerate(grid.flat):
        axes.set_visible(place < len(names))
    for index, (axes, name) in enumerate(zip(grid.flat, names, strict=False)):
        mine = [r for r in records if r.recipe.architecture == name and r.history]
        below, left = index + columns >= len(names), index % columns == 0
        tidy(axes, name, "epoch" if below else "", objective.metric if left else "")
        axes.tick_params(labelbottom=below)
        _trial_lines(axes, mine, objective.metric, LINES[index % len(LINES)], best)
    whole = Line2D([], [], color=QUIET, linewidth=1.3, label="ran to its end")
    faded = Line2D([], [], color=QUIET, linewidth=1.1, alpha=0.35, label="stopped early")
    thick = Line2D([], [], color=INK, linewidth=2.4, label="best trial")
    drawn.legend(
        handles=[whole, faded, thick],
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=8,
    )
    return save(drawn, path)


def _trial_lines(
    axes: Axes,
    records: Sequence[TrialRecord],
    metric: str,
    colour: str,
    best: TrialRecord | None,
) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for record in records:
        epochs = [m["epoch"] for m in record.history]
        values = _series(record, metric)
        first = best is not None and record.number == best.number
        faded = record.state in FADED and not first
        marker = "o" if len(epochs) == 1 else None
        width, alpha = (2.6, 1.0) if first else (1.1, 0.35) if faded else (1.3, 0.9)
        axes.plot(epochs, values, color=colour, linewidth=width, alpha=alpha, marker=marker, ms=3)
        if first and record.best_epoch is not None:
            _name_best(axes, record, colour)


def _name_best(axes: Axes, record: TrialRecord, colour: str) -> None:
    epoch, value = record.best_epoch or 0, record.value or 0.0
    axes.plot(epoch, value, "o", color=colour, ms=6, mec="white", mew=1.2)
    named = f"trial {record.number}: {value:.3f}"
    axes.set_title(named, loc="right", fontsize=9, color=colour, fontweight="bold")


def best_so_far(
    records: Sequence[TrialRecord],
    objective: Objective,
    clock: Callable[[float], float],
    path: Path,
) -> Path:
    """Draw the best value over the minutes of a search, coloured by architecture.

    Args:
        clock: of the run folder.
    """
    steps = best_over_time(records, objective, clock)
    drawn = figure(7.2, 3.6)
    axes = drawn.subplots()
    tidy(axes, f"Best {objective.metric} so far", "minutes", objective.metric)
    told = [(m["time"], m[objective.metric]) for r in unfailed(records) for m in r.history]
    minutes = [clock(seconds) / 60 for seconds, _ in told]
    axes.scatter(minutes, [value for _, value in told], s=5, color="#d5d5d5", lw=0)
    if steps:
        end = max(minutes)
        axes.step(
            [s[0] for s in steps] + [end],
            [s[1] for s in steps] + [steps[-1][1]],
            where="post",
            color=INK,
            linewidth=1.6,
        )
        _mark_steps(axes, steps, [r.recipe.architecture for r in records])
    axes.set_xlim(left=0)
    return save(drawn, path)


def _mark_steps(
    axes: Axes, steps: Sequence[tuple[float, float, TrialRecord]], architectures: Sequence[str]
) -> None:
    names = list(dict.fromkeys(architectures))
    for index, name in enumerate(names):
        mine = [step for step in steps if step[2].recipe.architecture == name]
        colour = LINES[index % len(LINES)]
        if mine:
            axes.plot(
                [s[0] for s in mine], [s[1] for s in mine], "o", color=colour, ms=6, mec="white",
                label=name, zorder=3,
            )  # fmt: skip
    minutes, value, record = steps[-1]
    axes.annotate(
        f"{value:.3f} (trial {record.number})", (minutes, value), xytext=(0, 7),
        textcoords="offset points", ha="right", fontsize=8, fontweight="bold", color=INK,
    )  # fmt: skip
    axes.margins(y=0.14)
    axes.legend(loc="lower right", frameon=False, fontsize=8)


def trial_curves(
    record: TrialRecord, objective: Objective, classes: Sequence[str], path: Path
) -> Path:
    """Draw one trial: its losses, and its objective with the IoU of each class, by epoch."""
    epochs = [m["epoch"] for m in record.history]
    drawn = figure(8.4, 3.2)
    losses, scores = drawn.subplots(1, 2)
    tidy(losses, "loss", "epoch")
    tidy(scores, objective.metric, "epoch")
    for axes in (losses, scores):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for key, label, colour in (
        ("loss", "training", LINES[0]),
        ("val_loss", "validation", LINES[1]),
    ):
        losses.plot(epochs, _series(record, key), color=colour, marker=".", ms=4, label=label)
    for name, colour in zip(classes, class_colours(len(classes)), strict=True):
        background = name == classes[0]
        scores.plot(
            epochs, _series(record, f"iou/{name}"), color=QUIET if background else colour,
            ls=":" if background else "-", lw=1.2, label=name,
        )  # fmt: skip
    scores.plot(
        epochs, _series(record, objective.metric), color=INK, lw=2.2, label=objective.metric
    )
    losses.legend(frameon=False, fontsize=8)
    scores.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    title = f"trial {record.number}, {record.recipe.architecture}, {record.state}"
    drawn.suptitle(title, x=0.01, ha="left", fontsize=9, color=QUIET)
    return save(drawn, path)


def _series(record: TrialRecord, key: str) -> list[float]:
    return [m.get(key, np.nan) for m in record.history]


def predictions(
    panels: Sequence[Panel], classes: Sequence[str], path: Path, ignore_index: int = 255
) -> Path:
    """Draw image, label, prediction and error side by side, one row an image.

    Args:
        panels: image (H, W, bands) uint8, label and prediction (H, W) of class ids.
        classes: names, the background first.
        ignore_index: pixels of the label that do not count; white, and never an error.
    """
    colours = class_colours(len(classes))
    strips = [_strip(panel, colours, ignore_index) for panel in panels]
    heights = [7.8 * strip.shape[0] / strip.shape[1] for strip in strips]
    drawn = figure(8.0, 0.75 + sum(heights))
    column = drawn.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, strip in zip(column, strips, strict=True):
        axes.imshow(strip, interpolation="nearest")
        axes.set_axis_off()
    for place, title in enumerate(("image", "label", "prediction", "error")):
        column[0].text(
            place * (1 + GAP) / (4 + 3 * GAP), 1.02, title, transform=column[0].transAxes,
            fontsize=9, color=INK, fontweight="bold", va="bottom",
        )  # fmt: skip
    present = np.unique(np.concatenate([np.unique(p[i]) for p in panels for i in (1, 2)]))
    handles = [Patch(color=colours[c], label=classes[c]) for c in present if 0 < c < len(classes)]
    handles.append(Patch(color=WRONG, label="wrong"))
    drawn.legend(handles=handles, loc="outside lower center", ncols=7, frameon=False, fontsize=8)
    return save(drawn, path)


def _strip(panel: Panel, colours: NDArray[np.float64], ignored: int) -> NDArray[np.uint8]:
    """Image, label, prediction and error in one row, a white gap between two."""
    image, label, prediction = panel
    height, width = label.shape
    strip = np.ones((height, round((4 + 3 * GAP) * width), 3))
    shown = (
        _three_bands(image),
        _coloured(label, image, colours, ignored),
        _coloured(prediction, image, colours, ignored),
        _errors(image, label, prediction, ignored),
    )
    for place, picture in enumerate(shown):
        left = round(place * (1 + GAP) * width)
        strip[:, left : left + width] = picture
    return (255 * strip).astype(np.uint8)


def _three_bands(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The first three bands as colours in 0..1; fewer than three as grey."""
    bands = image[..., :3] if image.shape[-1] >= 3 else image[..., :1].repeat(3, axis=-1)
    return bands / 255.0


def _grey(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """A pale grey image to lay colours on."""
    grey = _three_bands(image).mean(axis=-1, keepdims=True).repeat(3, axis=-1)
    return 0.45 + 0.5 * grey


def _coloured(
    mask: NDArray[np.uint8], image: NDArray[np.uint8], colours: NDArray[np.float64], ignored: int
) -> NDArray[np.float64]:
    """Classes laid over the pale image; ignored pixels are white."""
    known = mask < len(colours)
    painted = 0.22 * _grey(image) + 0.78 * colours[np.where(known, mask, 0)]
    picture = np.where(((mask > 0) & known)[..., None], painted, _grey(image))
    return np.where((mask == ignored)[..., None], 1.0, picture)


def _errors(
    image: NDArray[np.uint8], label: NDArray[np.uint8], prediction: NDArray[np.uint8], ignored: int
) -> NDArray[np.float64]:
    wrong = (label != prediction) & (label != ignored)
    picture = np.where(wrong[..., None], np.array(to_rgb(WRONG)), _grey(image))
    return np.where((label == ignored)[..., None], 1.0, picture)
