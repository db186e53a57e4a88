"""The tables of the page, as rows of text."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from raysearch.data.splits import Splits
from raysearch.records.goals import by_class, places, verdict
from raysearch.records.leaderboard import FEW_CLASSES, searched, table
from raysearch.records.report.headline import interval, model_interval, three
from raysearch.records.report.known import Known
from raysearch.records.style import class_colours
from raysearch.records.terminal.results import companions
from raysearch.records.terminal.text import duration, millions, network_text, short, state_text
from raysearch.records.trial_record import TrialRecord, epoch_seconds
from raysearch.study import load_study

SHARES = (0.5, 0.75, 0.9, 0.95, 0.99, 1.0)


@dataclass(frozen=True)
class Table:
    """A table of text; `text` are the columns that are words and not numbers."""

    heads: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    text: tuple[int, ...] = (0,)


def leaderboard(known: Known) -> Table:
    """All trials, best first, with the searched values in which they differ."""
    study, metric = known.study, known.metric
    frame = table(known.records, study)
    beside = companions(study)
    hopes = ["expectations"] if study.objective.expected else []
    knobs = [key for key in searched(study) if frame[key].nunique(dropna=False) > 1]
    held = ["GPU-hours"] if "gpu_hours" in frame else []
    heads = ["trial", "state", "architecture", metric, *beside, *hopes, "epochs", "time", *held,
             "parameters", *(key.removeprefix("network.") for key in knobs)]  # fmt: skip
    rows = []
    for row in frame.to_dict("records"):
        note = ", one class" if row["collapsed"] else ""
        state = f"{state_text(row['state'])}{note}"
        state += ", start point" if row["trial"] in known.starts else ""
        rows.append(
            (
                str(row["trial"]), state, row["architecture"], three(row[metric]),
                *(three(row[key]) for key in beside), *(short(row[key]) for key in hopes),
                str(row["epochs"]), duration(row["seconds"]),
                *(three(row["gpu_hours"]) for _ in held),
                millions(_count(row["parameters"])), *(short(row[key]) for key in knobs),
            )
        )  # fmt: skip
    words = tuple(place for place, head in enumerate(heads) if head in ("loss", "schedule"))
    return Table(tuple(heads), rows, (1, 2, *words))


def _count(value: Any) -> int | None:
    return int(value) if isinstance(value, int) else None


@dataclass(frozen=True)
class ClassRow:
    """What there is to say of one class; an empty text where nothing is known.

    Attributes:
        value: the best trial's on validation, and `score` in words; `test` on test.
        judged: "met", "short", "above" or "not measured" of the validation score.
        model, model_test: the ensemble's model's, on validation and on test.
        gain: of the model, or else of the best trial, over the best start point, on validation.
        better: whether the gain is more than nothing; None where there is none.
    """

    name: str
    colour: str
    share: str
    value: float | None
    score: str
    test: str
    expected: str
    judged: str
    start: str
    model: str
    model_test: str
    gain: str
    better: bool | None


def class_rows(known: Known, counts: NDArray[np.int64] | None) -> list[ClassRow]:
    """One row a class: of more than 20 classes the worst come first.

    Args:
        counts: the best trial's confusion matrix, which knows how frequent each class is.
    """
    study, task = known.study, known.study.what
    if known.best is None:
        return []
    scores = by_class(task, known.best.best_metrics)
    starts = known.started_from
    began = by_class(task, starts[0].best_metrics) if starts else {}
    tested = by_class(task, known.tested["metrics"]) if known.tested else {}
    model = by_class(task, known.model_before["metrics"]) if known.model_before else {}
    model_tested = by_class(task, known.model["metrics"]) if known.model else {}
    colours = [to_hex(colour) for colour in class_colours(max(2, task.num_classes + 1))]
    if task.segments:
        colours = ["#c9c9c9", *colours[1:]]
    total = max(1, int(counts.sum())) if counts is not None else 0
    rows = []
    for place, name in enumerate(task.classes):
        value, first = scores.get(name), began.get(name)
        hope = study.objective.expected.get(name)
        key = f"{task.by_class}/{name}"
        final = model.get(name, value)
        gain = final - first if final is not None and first is not None else None
        rows.append(
            ClassRow(
                name, colours[place if task.segments else place + 1],
                "" if counts is None else f"{100 * counts[place].sum() / total:.2f} %",
                value, three(value), _with_ends(tested.get(name), interval(known, key)),
                f"{hope[0]:g} to {hope[1]:g}" if hope else "",
                verdict(value, hope) if hope else "",
                three(first) if began else "",
                three(model.get(name)) if model else "",
                _with_ends(model_tested.get(name), model_interval(known, key)),
                "" if gain is None else f"{gain:+.3f}",
                None if gain is None else gain > 0,
            )
        )  # fmt: skip
    if len(rows) > FEW_CLASSES:
        rows.sort(key=lambda row: -1.0 if row.value is None else row.value)
    return rows


def _with_ends(value: float | None, ends: Sequence[float] | None) -> str:
    """A score with its interval; empty where it was not measured."""
    if value is None:
        return ""
    return three(value) + (f" ({ends[0]:.2f} to {ends[1]:.2f})" if ends else "")


def start_points(known: Known) -> Table:
    """The recipes that the search began with, how far they were trained, and what was gained."""
    best, rows = known.best, []
    for record in known.started_from:
        gain = (
            f"{best.value - record.value:+.3f}"
            if best and best.value is not None and record.value is not None
            else "-"
        )
        rows.append(
            (
                str(known.starts[record.number] + 1), record.recipe.architecture,
                f"{record.number}", three(record.value), str(record.epochs),
                f"{record.state} ({record.reason})", gain,
            )
        )  # fmt: skip
    heads = (
        "start point",
        "architecture",
        "trial",
        known.metric,
        "epochs",
        "end",
        "best trial less it",
    )
    return Table(heads, rows, (1, 5))


def milestones(known: Known) -> Table:
    """The epochs at which the best trial passed shares of its best value and the study's levels."""
    best, objective = known.best, known.study.objective
    heads = ("milestone", "epoch", "training time")
    if best is None or best.value is None:
        return Table(heads, [])
    marks: list[tuple[str, str, float]] = []
    if objective.mode == "max" and best.value > 0:
        marks = [
            (f"{share:.0%} of its best {known.metric} ({three(share * best.value)})", known.metric,
             share * best.value)
            for share in SHARES
        ]  # fmt: skip
    first = next((r for r in known.started_from if r.number != best.number), None)
    if first is not None and first.value is not None and objective.mode == "max":
        name = f"best of start point trial {first.number} ({three(first.value)})"
        marks.append((name, known.metric, first.value))
    if objective.goal:
        goal = objective.goal
        told = {"target": goal.target, "stretch": goal.stretch}
        marks += [
            (f"{level}: {goal.metric} {places(value)}", goal.metric, value)
            for level, value in told.items()
            if value is not None
        ]
    prefix = known.study.what.by_class
    marks += [
        (f"{name}: expected from {low:g}", f"{prefix}/{name}", low)
        for name, (low, _) in objective.expected.items()
    ]
    return Table(heads, [(name, *_passed(best, key, least)) for name, key, least in marks])


def _passed(record: TrialRecord, key: str, least: float) -> tuple[str, str]:
    """The first epoch that is at least as good, and the seconds of training until its end."""
    spent = accumulate(epoch_seconds(metrics) for metrics in record.history)
    for metrics, seconds in zip(record.history, spent, strict=True):
        value = metrics.get(key)
        if value is not None and value >= least - 1e-12:
            return str(metrics["epoch"]), duration(seconds)
    return "not passed", ""


def facts(known: Known) -> list[tuple[str, str]]:
    """The environment, the seeds, the data and the splits: what a repetition must have alike."""
    info, study, splits = known.info, known.study, known.splits
    versions = ", ".join(f"{name} {text}" for name, text in info.get("versions", {}).items())
    told = {
        "search": known.run.name,
        "id": info.get("id", ""),
        "command": info.get("command", ""),
        "by": info.get("user", ""),
        "sessions": "; ".join(_session(begin, end) for begin, end in info.get("sessions", [])),
        "device": known.summary.get("device", ""),
        "GPU-hours": short(known.summary.get("gpu_hours") or ""),
        "machine": ", ".join(f"{key} {text}" for key, text in info.get("machine", {}).items()),
        "profile": study.profile or "",
        "launcher": _launcher(known),
        "versions": versions,
        "seed": str(info.get("seed", "")),
        "data": f"{study.data.path or ''} ({study.data.format})",
        "data digest": info.get("data_digest", ""),
        "splits": _splits(splits) if splits else info.get("splits", study.data.splits),
        "notes": "; ".join(info.get("notes", [])),
    }
    return [(name, str(text)) for name, text in told.items() if text]


def _splits(splits: Splits) -> str:
    parts = {"train": splits.train, "val": splits.val, "test": splits.test}
    counts = ", ".join(f"{len(names)} {part}" for part, names in parts.items())
    if splits.dropped:
        counts += f", {len(splits.dropped)} left out (duplicates or group mates of a later split)"
    return f"{splits.mode}: {counts}"


def _session(begin: float, end: float | None) -> str:
    first = time.strftime("%Y-%m-%d %H:%M", time.localtime(begin))
    return f"{first} for {duration(end - begin)}" if end else f"{first}, not ended"


def _launcher(known: Known) -> str:
    resources = known.study.resources
    workers = resources.workers_per_trial
    return f"{resources.launcher}, {workers} worker{'' if workers == 1 else 's'} a trial"


def champion(known: Known) -> list[tuple[str, str]]:
    """The best trial's network, and every value of its recipe that is searched or fixed."""
    if known.best is None:
        return []
    recipe = known.best.recipe
    spec = network_text(known.study.network_spec(recipe))
    flat = {k: v for k, v in recipe.flat().items() if k != "architecture"}
    return [
        ("network", f"{recipe.architecture} ({spec})"),
        *((k, short(v)) for k, v in flat.items()),
    ]


def repeat_command(known: Known) -> str:
    """The command that trains the best trial again."""
    named = known.info.get("named", known.study.name)
    where = [] if known.run.output.name == "results" else ["--output", str(known.run.output)]
    again = ["python", "-m", "raysearch.tune", named, "--repeat", known.run.name, *where]
    return shlex.join(again) if known.best else ""


def replaced(known: Known) -> list[tuple[str, str, str]]:
    """Networks that the profile has put others in place of: name, the study's, the one trained."""
    networks = load_study(str(known.run.study_file)).networks
    return [
        (name, network_text(spec), network_text(networks[name]))
        for name, spec in known.info.get("replaced", {}).items()
        if name in networks
    ]
