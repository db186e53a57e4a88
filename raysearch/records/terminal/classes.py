"""The table of a score by class: all of few classes, the worst and the best of many."""

from collections.abc import Mapping, Sequence

from rich.markup import escape
from rich.table import Table

from raysearch.config import Task
from raysearch.records.goals import ABOVE, ABSENT, MET, SHORT, verdict

MANY, SHOWN = 20, 5
BAR = 20
STYLES = {MET: "green", ABOVE: "bold green", SHORT: "yellow", ABSENT: "dim"}
HEADINGS = {"iou": "IoU", "accuracy": "accuracy"}


def class_table(
    task: Task,
    scores: Mapping[str, float],
    expected: Mapping[str, tuple[float, float]] | None = None,
    intervals: Mapping[str, Sequence[float]] | None = None,
    before: Mapping[str, float] | None = None,
) -> Table:
    """Return a row a class with its score; of more than 20 classes the 5 worst and the 5 best.

    Args:
        scores: by the names of classes; one that occurs nowhere has none.
        expected: the range that a class should reach. Classes named here are always shown.
        intervals: low and high of each score.
        before: what the best start point scores, beside which the gain is told.
    """
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    table.add_column("by class")
    table.add_column(HEADINGS[task.by_class], justify="right")
    table.add_column("")
    if intervals:
        table.add_column("95 %")
    if before:
        table.add_column("start point", justify="right")
        table.add_column("gain", justify="right")
    if expected:
        table.add_column("expected")
        table.add_column("")
    for name in _named(task, scores, expected or {}):
        if name is None:
            table.add_row(f"[dim]... {task.num_classes} in all[/]")
            continue
        value = scores.get(name)
        bar = "" if value is None else f"[cyan]{'█' * round(BAR * value)}[/]"
        told = "[dim]-[/]" if value is None else f"{value:.3f}"
        between = [_interval(intervals.get(name))] if intervals else []
        gain = _gain(value, before.get(name)) if before else ()
        table.add_row(escape(name), told, bar, *between, *gain, *_hope(name, value, expected or {}))
    return table


def _named(
    task: Task, scores: Mapping[str, float], expected: Mapping[str, tuple[float, float]]
) -> list[str | None]:
    """The classes that are shown; None stands for those left out."""
    if task.num_classes <= MANY:
        return list(task.classes)
    order = sorted(scores, key=lambda name: scores[name])
    ends = dict.fromkeys([*order[:SHOWN], *order[-SHOWN:]])
    others = [name for name in expected if name not in ends]
    return [*order[:SHOWN], None, *order[-SHOWN:], *others]


def _interval(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f"[dim]{ends[0]:.3f} to {ends[1]:.3f}[/]"


def _gain(value: float | None, before: float | None) -> tuple[str, str]:
    """What the start point scores, and what is gained over it."""
    if value is None or before is None:
        return "[dim]-[/]", ""
    return f"{before:.3f}", f"{value - before:+.3f}"


def _hope(
    name: str, value: float | None, expected: Mapping[str, tuple[float, float]]
) -> tuple[str, ...]:
    """The expected range of a class, and whether it is met."""
    if name not in expected:
        return ()
    low, high = expected[name]
    judged = verdict(value, (low, high))
    return f"{low:g} to {high:g}", f"[{STYLES[judged]}]{judged}[/]"
