"""Figures of a search: learning curves and the best value over time."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from raysearch.config import Objective, Task
from raysearch.records.goals import by_class
from raysearch.records.leaderboard import best_over_time, best_trial, unfailed
from raysearch.records.style import INK, LINES, QUIET, class_colours, figure, save, tidy
from raysearch.records.trial_record import TrialRecord

MOST_CLASSES = 12
FADED = ("pruned", "failed", "stopped")


def learning_curves(records: Sequence[TrialRecord], objective: Objective, path: Path) -> Path:
    """Draw the objective by epoch, one line a trial, one pair of axes an architecture.

    Trials that were stopped early are faded, with a cross where ASHA cut them and a dotted line at
    each epoch where it cut any; the best trial is drawn thick and named.
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
    cut = Line2D([], [], color=QUIET, linewidth=0, marker="x", ms=4, label="cut by ASHA")
    thick = Line2D([], [], color=INK, linewidth=2.4, label="best trial")
    drawn.legend(
        handles=[whole, faded, *([cut] if any(map(_cut, records)) else []), thick],
        loc="outside lower center",
        ncols=4,
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
    for epoch in sorted({record.history[-1]["epoch"] for record in records if _cut(record)}):
        axes.axvline(epoch, color=QUIET, linewidth=0.7, linestyle=":", zorder=0.9)
    for record in records:
        epochs = [m["epoch"] for m in record.history]
        values = _series(record, metric)
        first = best is not None and record.number == best.number
        faded = record.state in FADED and not first
        marker = "o" if len(epochs) == 1 else None
        width, alpha = (2.6, 1.0) if first else (1.1, 0.35) if faded else (1.3, 0.9)
        axes.plot(epochs, values, color=colour, linewidth=width, alpha=alpha, marker=marker, ms=3)
        if _cut(record):
            axes.plot(epochs[-1], values[-1], "x", color=colour, ms=3.5, mew=0.9, alpha=0.7)
        if first and record.best_epoch is not None:
            _name_best(axes, record, colour)


def _cut(record: TrialRecord) -> bool:
    """Whether ASHA ended a trial after an epoch."""
    return record.state == "pruned" and bool(record.history)


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
    metric = objective.metric
    told = [(m["time"], m[metric]) for r in unfailed(records) for m in r.history if metric in m]
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


def trial_curves(record: TrialRecord, objective: Objective, task: Task, path: Path) -> Path:
    """Draw one trial by epoch: its losses, and its objective with the score of each class.

    Of many classes the 12 that end worst are drawn. Where a threshold is tuned, it is drawn too.
    """
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
    _class_lines(scores, record, task, epochs)
    if any("threshold" in m for m in record.history):
        scores.plot(
            epochs, _series(record, "threshold"), color=QUIET, ls="--", lw=1.2, label="threshold"
        )
    scores.plot(
        epochs, _series(record, objective.metric), color=INK, lw=2.2, label=objective.metric
    )
    losses.legend(frameon=False, fontsize=8)
    scores.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    title = f"trial {record.number}, {record.recipe.architecture}, {record.state}"
    drawn.suptitle(title, x=0.01, ha="left", fontsize=9, color=QUIET)
    return save(drawn, path)


def _class_lines(axes: Axes, record: TrialRecord, task: Task, epochs: Sequence[int]) -> None:
    """One line a class; a segmentation's background is dotted and grey."""
    shown = _shown_classes(record, task)
    colours = iter(class_colours(len(shown) + 1)[1:])
    for name in shown:
        background = task.segments and name == task.classes[0]
        axes.plot(
            epochs, _series(record, f"{task.by_class}/{name}"),
            color=QUIET if background else next(colours), ls=":" if background else "-", lw=1.2,
            label=name,
        )  # fmt: skip


def _shown_classes(record: TrialRecord, task: Task) -> list[str]:
    """All classes where they are few, else those with the lowest score in the last epoch."""
    if task.num_classes <= MOST_CLASSES:
        return list(task.classes)
    last = by_class(task, record.history[-1])
    return sorted(last, key=lambda name: last[name])[:MOST_CLASSES]


def _series(record: TrialRecord, key: str) -> list[float]:
    return [m.get(key, np.nan) for m in record.history]
