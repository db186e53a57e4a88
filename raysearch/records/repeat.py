"""A recorded trial that is trained again: which one is meant, and whether it came out the same."""

from dataclasses import dataclass
from pathlib import Path

from raysearch.config import Study
from raysearch.errors import RunError
from raysearch.records.leaderboard import best_trial
from raysearch.records.run_folder import RunFolder, find_run, find_runs
from raysearch.records.trial_record import TrialRecord
from raysearch.study import load_study, single


@dataclass(frozen=True)
class Repeated:
    """A trial that is to be trained again.

    Attributes:
        study: the run's own, with this trial's recipe fixed and nothing searched.
    """

    run: RunFolder
    record: TrialRecord
    study: Study

    @property
    def seed(self) -> int:
        return self.record.recipe.seed


def find_trial(output: Path | str, name: str) -> Repeated:
    """Find the best trial of a run, or one named as RUN/trials/N.

    Args:
        name: as `find_run` knows it, or a run's id of run.json.

    Raises:
        RunError: there is no such run or trial, or no trial of the run has a value.
    """
    named, slash, number = name.rstrip("/").rpartition("/trials/")
    run = _run(output, named if slash else name)
    study = load_study(str(run.study_file))
    if slash:
        known = run.numbers()
        if not number.isdigit() or int(number) not in known:
            told = f"0 to {known[-1]}" if known else "no trial"
            raise RunError(f"{run.name}: has no trial {number}; there is {told}")
        record = run.trial(int(number))
    else:
        best = best_trial(run.trials(), study.objective)
        if best is None:
            raise RunError(
                f"{run.name}: no trial of it has a value; name one with --repeat {name}/trials/N"
            )
        record = best
    return Repeated(run, record, single(study, record.recipe))


def _run(output: Path | str, name: str) -> RunFolder:
    by_id = [run for run in find_runs(output) if run.info.get("id") == name]
    return by_id[0] if by_id else find_run(output, name)


def difference(before: TrialRecord, again: TrialRecord, study: Study) -> str:
    """Say in one sentence whether the epochs that both have trained came to the same figures.

    Compared are the losses and every score, to the last digit.
    """
    told, metric = {m["epoch"]: m for m in before.history}, study.objective.metric
    shared = [(told[m["epoch"]], m) for m in again.history if m["epoch"] in told]
    if not shared:
        return f"trial {before.number} has no epoch to compare with"
    which = f"trial {before.number} in {len(shared)} epochs"
    for old, new in shared:
        unlike = [key for key in study.what.metrics if old.get(key) != new.get(key)]
        if unlike:
            apart = max(abs(o.get(metric, 0.0) - n.get(metric, 0.0)) for o, n in shared)
            return (
                f"other figures than {which}, first {unlike[0]} at epoch {new['epoch']}; {metric} "
                f"is apart by up to {apart:.2g}. Another machine, other versions or other threads "
                "round otherwise"
            )
    return f"the same figures as {which}, to the last digit"
