"""ASHA with rungs of its own for each architecture.

Li et al. 2020, https://arxiv.org/abs/1810.05934. A U-Net from scratch learns slower than a
pretrained encoder and must not be cut against it.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from raysearch.config import Study
from raysearch.records.run_folder import TrialRecord
from raysearch.training.optimisation import warmup_fraction


def first_rung(study: Study) -> int:
    """Return the epoch of the first rung: the budget's share, and after the longest warm-up."""
    epochs = study.budget.epochs
    warmup = max(warmup_fraction(study.recipe(values)) for values in study.examples())
    after_warmup = math.floor(warmup * epochs) + 1
    return min(epochs, max(math.ceil(study.budget.first_rung * epochs), after_warmup))


def rungs(study: Study) -> list[int]:
    """Return the epochs at which trials are compared and the weaker ones stopped."""
    epoch, factor = float(first_rung(study)), study.budget.reduction_factor
    found = []
    while epoch < study.budget.epochs:
        found.append(math.ceil(epoch))
        epoch *= factor
    return found


@dataclass(frozen=True)
class _Known:
    """A trial as ASHA knows it: by its number, which outlives retries and sessions."""

    trial_id: str


class AshaByArchitecture(FIFOScheduler):
    """One ASHA for each architecture. `stopped` holds the numbers of the trials it has cut.

    Trials are compared by their best value so far: learning curves dip, and the best epoch is kept.
    Rungs of an earlier session are filled from the trials' histories, so that a resumed search
    compares against everything that was ever measured.
    """

    def __init__(self, study: Study, earlier: Iterable[TrialRecord] = ()) -> None:
        super().__init__()
        self.study = study
        self.by_architecture: dict[str, ASHAScheduler] = {}
        self.stopped: set[int] = set()
        for record in earlier:
            asha, trial = self._asha(record.recipe.architecture), _Known(str(record.number))
            asha.on_trial_add(None, trial)
            for metrics in (m for m in record.history if m["best"] is not None):
                asha.on_trial_result(None, trial, metrics)

    def _asha(self, architecture: str) -> ASHAScheduler:
        if architecture not in self.by_architecture:
            self.by_architecture[architecture] = ASHAScheduler(
                time_attr="epoch",
                metric="best",
                mode=self.study.objective.mode,
                max_t=self.study.budget.epochs,
                grace_period=first_rung(self.study),
                reduction_factor=self.study.budget.reduction_factor,
                stop_last_trials=False,
            )
        return self.by_architecture[architecture]

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return True

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        known = _Known(str(trial.config["number"]))
        self._asha(trial.config["architecture"]).on_trial_add(tune_controller, known)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if any(map(result.get, ("failed", "finished", "left", "full"))) or result["best"] is None:
            return TrialScheduler.CONTINUE
        number = trial.config["number"]
        asha = self._asha(trial.config["architecture"])
        action: str = asha.on_trial_result(tune_controller, _Known(str(number)), result)
        if action == TrialScheduler.STOP:
            self.stopped.add(number)
        return action
