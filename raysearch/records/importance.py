"""What a search has learned about each knob."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from raysearch.records.journal import load_journal

if TYPE_CHECKING:  # Optuna's importances bring scikit-learn: seconds that only their callers pay.
    import optuna
    from optuna.trial import FrozenTrial

FEWEST, ENOUGH = 6, 30


@dataclass(frozen=True)
class Importances:
    """Each knob's share of the variance of the objective, most important first, summing to 1.

    Attributes:
        shares: empty where there are too few trials to tell.
        trials: how many were compared.
        epoch: at which they were compared.
        note: one sentence on what the numbers are worth.
    """

    shares: dict[str, float] = field(default_factory=dict)
    trials: int = 0
    epoch: int = 0
    note: str = ""


@dataclass(frozen=True)
class Comparison:
    """Trials that can be compared: each with its best value up to the same epoch.

    Attributes:
        study: in memory, a completed trial for each of them.
        measured: how many trials there were to choose from.
    """

    study: "optuna.Study"
    epoch: int
    measured: int

    @property
    def trials(self) -> "list[FrozenTrial]":
        return self.study.get_trials(deepcopy=False)


def comparison(journal: Path) -> Comparison | None:
    """Return the trials of a search that can be compared; None where none has a value.

    A trial that ASHA stopped early and one that ran to its end cannot be compared by their last
    values. So all trials are judged by their best value up to one epoch, which at least three
    quarters of them have reached.
    """
    from optuna.trial import TrialState

    study = load_journal(journal)
    if study is None:
        return None
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    measured = [trial for trial in ended if trial.intermediate_values and trial.params]
    if not measured:
        return None
    epoch = sorted(max(trial.intermediate_values) for trial in measured)[len(measured) // 4]
    fair = [trial for trial in measured if max(trial.intermediate_values) >= epoch]
    return Comparison(_at_epoch(fair, epoch, study.direction), epoch, len(measured))


def _at_epoch(
    trials: "list[FrozenTrial]", epoch: int, direction: "optuna.study.StudyDirection"
) -> "optuna.Study":
    """A study in memory of these trials with their best values up to an epoch."""
    import optuna

    best = max if direction == optuna.study.StudyDirection.MAXIMIZE else min
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(storage=optuna.storages.InMemoryStorage(), direction=direction)
    for trial in trials:
        study.add_trial(
            optuna.trial.create_trial(
                params=trial.params,
                distributions=trial.distributions,
                value=best(v for e, v in trial.intermediate_values.items() if e <= epoch),
            )
        )
    return study


def importances(journal: Path, seed: int = 0) -> Importances:
    """Measure knobs by fANOVA (Hutter et al. 2014, https://proceedings.mlr.press/v32/hutter14.html).

    Trials are compared as `comparison` says. Knobs that only some trials have are left out.
    """
    if not journal.is_file():
        return Importances(note="the search has no journal yet")
    compared = comparison(journal)
    measured = compared.measured if compared else 0
    if compared is None or measured < FEWEST:
        return Importances(
            trials=measured, note=f"unknown: {FEWEST} trials are needed, and {measured} counted"
        )
    count, epoch = len(compared.trials), compared.epoch
    shares = _fanova(compared.study, seed)
    note = f"{count} trials compared at epoch {epoch}"
    if not shares:
        note += ": no difference between them that a knob explains"
    elif count < ENOUGH:
        note += f": a hint below {ENOUGH} trials"
    return Importances(shares, count, epoch, note)


def _fanova(study: "optuna.Study", seed: int) -> dict[str, float]:
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    if len({trial.value for trial in study.get_trials(deepcopy=False)}) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed))
    return {key: share for key, share in shares.items() if share == share}
