"""What a study hopes for: a goal that the search ends at, and a range that each class should reach.

A goal is met by one epoch of one trial; expectations are those of the objective's `expected`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raysearch.config import Goal, Study, Task
from raysearch.records.trial_record import TrialRecord

LEVELS = ("target", "stretch")
MET, SHORT, ABOVE, ABSENT = "met", "short", "above", "not measured"


@dataclass(frozen=True)
class Reached:
    """The first epoch of a search that reached a level of its goal; `seconds` into the search."""

    trial: int
    epoch: int
    seconds: float


def first_to_reach(
    records: Sequence[TrialRecord], goal: Goal, clock: Callable[[float], float]
) -> dict[str, Reached | None]:
    """Return the first epoch that reached the target, and the stretch where the goal has one.

    Args:
        clock: of the run folder.
    """
    found: dict[str, Reached | None] = dict.fromkeys(_levels(goal))
    told = [(m["time"], m, r) for r in records if r.state != "failed" for m in r.history]
    for seconds, metrics, record in sorted(told, key=lambda one: one[0]):
        for level in _at_least(goal.reached(metrics)):
            if level in found and found[level] is None:
                found[level] = Reached(record.number, metrics["epoch"], clock(seconds))
    return found


def reached(record: TrialRecord, goal: Goal | None) -> str:
    """Return "stretch" or "target" where an epoch of a trial reached it, and "" elsewhere."""
    if goal is None or record.state == "failed":
        return ""
    found = {goal.reached(metrics) for metrics in record.history}
    return next((level for level in reversed(LEVELS) if level in found), "")


def _levels(goal: Goal) -> tuple[str, ...]:
    return LEVELS if goal.stretch is not None else LEVELS[:1]


def _at_least(level: str) -> tuple[str, ...]:
    """A stretch that is reached lies beyond the target."""
    return LEVELS[: LEVELS.index(level) + 1] if level else ()


def by_class(task: Task, metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the score of each class that was measured, in the order of the task's classes."""
    keys = {name: f"{task.by_class}/{name}" for name in task.classes}
    return {name: metrics[key] for name, key in keys.items() if metrics.get(key) is not None}


def verdict(value: float | None, expected: tuple[float, float]) -> str:
    """Judge a score by the range that is expected: short of it, met, above it, not measured."""
    if value is None:
        return ABSENT
    low, high = expected
    return SHORT if value < low else ABOVE if value > high else MET


def expectations(study: Study, metrics: Mapping[str, Any]) -> str | None:
    """Say how many expectations are met or exceeded, such as "5/8 met"; None where none are."""
    expected = study.objective.expected
    if not expected:
        return None
    scores = by_class(study.what, metrics)
    good = sum(verdict(scores.get(k), expected[k]) in (MET, ABOVE) for k in expected)
    return f"{good}/{len(expected)} met"


def places(value: float) -> str:
    """Return a threshold with two places, or with as many as it was written with."""
    text = f"{value:g}"
    return text if len(text.partition(".")[2]) >= 2 else f"{value:.2f}"
