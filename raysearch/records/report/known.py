"""All that a run folder says of a search, read once."""

from dataclasses import dataclass
from typing import Any

from raysearch.config import Study
from raysearch.data.splits import Splits, read_splits
from raysearch.errors import RunError
from raysearch.inference.choose import MODEL
from raysearch.inference.models import ENSEMBLE
from raysearch.records.files import read_json
from raysearch.records.journal import start_trials
from raysearch.records.leaderboard import best_trial, ranked
from raysearch.records.run_folder import RunFolder
from raysearch.records.trial_record import TrialRecord
from raysearch.study import load_study


@dataclass(frozen=True)
class Known:
    """What is known of a search.

    Attributes:
        test: what was measured on the search's own test split; None before it was opened.
        ensemble: as ensemble.json describes it; None where there is none.
        starts: the place in the study's `start` of each trial that began as one.
    """

    run: RunFolder
    study: Study
    records: list[TrialRecord]
    info: dict[str, Any]
    summary: dict[str, Any]
    best: TrialRecord | None
    test: dict[str, Any] | None
    ensemble: dict[str, Any] | None
    splits: Splits | None
    starts: dict[int, int]

    @property
    def metric(self) -> str:
        return self.study.objective.metric

    @property
    def started_from(self) -> list[TrialRecord]:
        """The trials that began as start points and have a value, best first."""
        own = [r for r in self.records if r.number in self.starts and r.value is not None]
        return ranked([r for r in own if r.state != "failed"], self.study.objective)

    @property
    def model(self) -> dict[str, Any] | None:
        """What was measured of the ensemble's model on the test split."""
        test = (self.ensemble or {}).get("test") or {}
        found: dict[str, Any] | None = test.get("rows", {}).get(MODEL)
        return found

    @property
    def model_before(self) -> dict[str, Any] | None:
        """What was measured of the ensemble's model on validation."""
        rows = (self.ensemble or {}).get("validation") or {}
        found: dict[str, Any] | None = rows.get(MODEL)
        return found

    @property
    def together(self) -> int:
        """How many members the ensemble has; 0 where there is none."""
        return len((self.ensemble or {}).get("members", []))

    @property
    def answers(self) -> str:
        """Who gives the model's answers, such as "the ensemble of 3 trials"."""
        several = self.together > 1
        return f"the ensemble of {self.together} trials" if several else "the best trial alone"

    @property
    def tested(self) -> dict[str, Any] | None:
        """What was measured on the test split, where it is the best trial's."""
        of_best = self.test and self.best and self.test.get("trial") == self.best.number
        return self.test if of_best else None


def read_known(run: RunFolder) -> Known:
    """Read a run folder.

    Raises:
        RunError: no trial has begun in it, or a file of it is damaged.
    """
    study, records = load_study(str(run.study_file)), run.trials()
    if not records:
        raise RunError(f"{run.name}: no trial has begun yet; there is nothing to report")
    ensemble = run.path / ENSEMBLE
    return Known(
        run,
        study,
        records,
        run.info,
        run.summary(),
        best_trial(records, study.objective),
        read_json(run.test_file) if run.test_file.is_file() else None,
        read_json(ensemble) if ensemble.is_file() else None,
        read_splits(run.splits_file) if run.splits_file.is_file() else None,
        start_trials(run.journal),
    )
