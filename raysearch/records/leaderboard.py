"""The table of all trials, the best of them, and the summary of a search."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from raysearch.config import Objective, Study
from raysearch.records.files import write_json
from raysearch.records.goals import expectations, first_to_reach, reached
from raysearch.records.run_folder import RunFolder
from raysearch.records.trial_record import STATES, TrialRecord
from raysearch.study import single, to_yaml

if TYPE_CHECKING:
    import pandas as pd

FEW_CLASSES = 20  # More than these have no column each.


def ranked(records: Iterable[TrialRecord], objective: Objective) -> list[TrialRecord]:
    """Order trials best first: a failed trial, or one without a value, never above a scored one."""
    sign = -1 if objective.mode == "max" else 1

    def key(record: TrialRecord) -> tuple[bool, float, bool, int]:
        value = _score(record)
        failed = record.state == "failed"
        return value is None, sign * value if value is not None else 0, failed, record.number

    return sorted(records, key=key)


def best_trial(records: Iterable[TrialRecord], objective: Objective) -> TrialRecord | None:
    """Return the trial with the best value; None before the first one is scored."""
    first = next(iter(ranked(records, objective)), None)
    return first if first is not None and _score(first) is not None else None


def _score(record: TrialRecord) -> float | None:
    """A trial's value where it may be ranked by it: finite, and not of a failed trial."""
    usable = record.state != "failed" and record.value is not None and math.isfinite(record.value)
    return record.value if usable else None


def best_over_time(
    records: Sequence[TrialRecord], objective: Objective, clock: Callable[[float], float]
) -> list[tuple[float, float, TrialRecord]]:
    """Return each new best of a search: minutes into it, value, and the trial.

    Args:
        clock: of the run folder.
    """
    metric = objective.metric
    told = [(m["time"], m[metric], r) for r in unfailed(records) for m in r.history if metric in m]
    steps: list[tuple[float, float, TrialRecord]] = []
    for seconds, value, record in sorted(told, key=lambda one: one[0]):
        if objective.better(value, steps[-1][1] if steps else None):
            steps.append((clock(seconds) / 60, value, record))
    return steps


def unfailed(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    return [record for record in records if record.state != "failed"]


def table(records: Iterable[TrialRecord], study: Study) -> "pd.DataFrame":
    """Return one row a trial, best first.

    Columns: trial, state, architecture, epochs, seconds, the objective (named by its metric, such
    as miou), the task's other scores and losses at the best epoch, parameters, peak_memory_mb,
    collapsed, reason, every searched value, and the score of each class: of all where there are
    at most 20, and always of those that the study expects something of. `expectations` says how
    many of these are met, `reached` which level of the study's goal. Where a trial had a GPU,
    gpu_hours stands after peak_memory_mb.
    """
    import pandas as pd

    rows = [_row(record, study) for record in ranked(records, study.objective)]
    columns = _columns(study)
    if any(row["gpu_hours"] is not None for row in rows):
        columns.insert(columns.index("peak_memory_mb") + 1, "gpu_hours")
    frame = pd.DataFrame(rows, columns=columns)
    whole = ["best_epoch", "parameters"]
    return frame.astype(dict.fromkeys(whole, "Int64"))


def _row(record: TrialRecord, study: Study) -> dict[str, Any]:
    best = record.best_metrics
    flat = record.recipe.flat()
    memory = [m["peak_memory_mb"] for m in record.history if "peak_memory_mb" in m]
    return {
        "trial": record.number,
        "state": record.state,
        "architecture": record.recipe.architecture,
        "epochs": record.epochs,
        "seconds": round(record.seconds, 1),
        **{key: best.get(key) for key in (*_scores(study), *_class_scores(study))},
        study.objective.metric: _score(record),
        "expectations": expectations(study, best) if best else None,
        "reached": reached(record, study.objective.goal) or None,
        "best_epoch": record.best_epoch,
        "parameters": record.parameters,
        "peak_memory_mb": round(max(memory), 1) if memory else None,
        "gpu_hours": record.gpu_hours,
        "collapsed": record.collapsed,
        "reason": record.reason,
        **{key: _cell(record, key, flat) for key in searched(study)},
    }


def _scores(study: Study) -> list[str]:
    """The columns of scores: the task's own, then what tells training from validation."""
    compared = ("val_loss", "gap", "train_accuracy", "accuracy_gap")
    return [key for key in (*study.what.scores, *compared) if key != study.objective.metric]


def _class_scores(study: Study) -> list[str]:
    task, expected = study.what, study.objective.expected
    named = task.classes if task.num_classes <= FEW_CLASSES else tuple(expected)
    keys = [f"{task.by_class}/{name}" for name in named]
    return [key for key in keys if key != study.objective.metric]


def _columns(study: Study) -> list[str]:
    fixed = ["trial", "state", "architecture", "epochs", "seconds", study.objective.metric]
    hopes = ["expectations"] if study.objective.expected else []
    hopes += ["reached"] if study.objective.goal else []
    spent = ["best_epoch", "parameters", "peak_memory_mb", "collapsed", "reason"]
    keys = [*fixed, *_scores(study), *hopes, *spent, *searched(study), *_class_scores(study)]
    return list(dict.fromkeys(keys))


def searched(study: Study) -> list[str]:
    """Return the keys that the study searches, and those of its start points that it does not fix.

    A start point taken from another search names every value; those that all points share are no
    difference between trials.
    """
    starts = study.start_values()
    told = dict.fromkeys(key for start in starts for key in start)
    same = [k for k in told if len({str(s.get(k)) for s in starts}) == 1 and len(starts) > 1]
    keys = dict.fromkeys([*study.space, *(key for key in told if key not in same)])
    return [key for key in keys if key != "architecture"]


def _cell(record: TrialRecord, key: str, flat: dict[str, Any]) -> Any:
    """A searched value as one cell; the loss as it is written in a study."""
    value = loss_text(record.recipe.loss) if key == "loss" else flat.get(key)
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def loss_text(loss: dict[str, float]) -> str:
    """Return a loss as a study writes it, such as focal + 0.5*dice."""
    return " + ".join(term if w == 1 else f"{w:g}*{term}" for term, w in loss.items() if w)


def write_leaderboard(run: RunFolder, study: Study) -> "pd.DataFrame":
    """Write leaderboard.csv, and best.yaml as a study that trains the best trial again."""
    records = run.trials()
    frame = table(records, study)
    run.write(run.leaderboard.name, frame.to_csv(index=False, float_format="%.6g"))
    best = best_trial(records, study.objective)
    if best is not None:
        header = (
            f"# The best trial of {run.name}: trial {best.number}, {study.objective.metric} "
            f"{best.value:.4f} at epoch {best.best_epoch}, seed {best.recipe.seed}.\n"
        )
        run.write(run.best_file.name, header + to_yaml(single(study, best.recipe)))
    return frame


def write_summary(
    run: RunFolder, study: Study, *, seconds: float, busy_share: float | None, **more: Any
) -> dict[str, Any]:
    """Write summary.json and return what it holds.

    Args:
        seconds: wall time of the search, over all its sessions.
        busy_share: see the function of this name.
        more: what else there is to say, such as baseline: {"name", "value"}, a trivial prediction's
            value of the objective.
    """
    records, info = run.trials(), run.info
    best = best_trial(records, study.objective)
    counts = count_states(records)
    summary = {
        "study": study.name,
        "metric": study.objective.metric,
        "mode": study.objective.mode,
        "best": {"trial": best.number, "value": best.value} if best else None,
        "goal": _goal(run, study, records),
        "expectations": expectations(study, best.best_metrics) if best else None,
        "trials": counts,
        "seconds": seconds,
        "busy_share": busy_share,
        "gpu_hours": gpu_hours(records),
        "data_digest": info.get("data_digest"),
        "splits": info.get("splits", study.data.splits),
        "command": info.get("command"),
        **more,
    }
    write_json(run.summary_file, summary)
    return summary


def _goal(run: RunFolder, study: Study, records: Sequence[TrialRecord]) -> dict[str, Any] | None:
    """The study's goal, and the trial, epoch and seconds that each of its levels took."""
    goal = study.objective.goal
    if goal is None:
        return None
    found = first_to_reach(records, goal, run.clock())
    return {**goal.model_dump(), "reached": {k: v and asdict(v) for k, v in found.items()}}


def gpu_hours(records: Iterable[TrialRecord]) -> float | None:
    """Return the GPU-hours of all trials; None where none had a GPU."""
    hours = [record.gpu_hours for record in records if record.gpu_hours is not None]
    return sum(hours) if hours else None


def count_states(records: Iterable[TrialRecord]) -> dict[str, int]:
    """Count trials by state, every state named."""
    found = Counter(record.state for record in records)
    return {state: found[state] for state in STATES}


def busy_share(
    records: Sequence[TrialRecord], slots: int, sessions: Sequence[tuple[float, float]]
) -> float | None:
    """Return the share of the slots' time that went into training steps and validation.

    Waiting for data is left out, and so is everything before a trial's first step.

    Args:
        slots: trials that run at once.
        sessions: begin and end of each time that the search ran, in Unix seconds.
    """
    wall = sum(end - begin for begin, end in sessions)
    busy = sum(
        metrics.get("train_seconds", 0.0) + metrics.get("validation_seconds", 0.0)
        for record in records
        for metrics in record.history
        if any(begin <= metrics["time"] <= end for begin, end in sessions)
    )
    return busy / (slots * wall) if wall > 0 and slots else None
