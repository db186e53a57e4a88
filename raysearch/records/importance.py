"""What a search has learned about each knob."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

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


def importances(journal: Path, seed: int = 0) -> Importances:
    """Measure knobs by fANOVA (Hutter et al. 2014, https://proceedings.mlr.press/v32/hutter14.html).

    A trial that ASHA stopped early and one that ran to its end cannot be compared by their last
    values. So all trials are judged by their best value up to one epoch, which at least three
    quarters of them have reached. Knobs that only some trials have are left out.
    """
    from optuna.trial import TrialState

    study = _load(journal)
    if study is None:
        return Importances(note="the search has no journal yet")
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    measured = [trial for trial in ended if trial.intermediate_values and trial.params]
    if len(measured) < FEWEST:
        return Importances(
            trials=len(measured), note=f"{len(measured)} trials are too few ({FEWEST} are needed)"
        )
    epoch = sorted(max(trial.intermediate_values) for trial in measured)[len(measured) // 4]
    fair = [trial for trial in measured if max(trial.intermediate_values) >= epoch]
    shares = _fanova(fair, epoch, study.direction, seed)
    note = f"{len(fair)} trials compared at epoch {epoch}"
    if not shares:
        note += ": no difference between them that a knob explains"
    elif len(fair) < ENOUGH:
        note += f": a hint below {ENOUGH} trials"
    return Importances(shares, len(fair), epoch, note)


def _load(journal: Path) -> "optuna.Study | None":
    if not journal.is_file():
        return None
    import optuna
    from optuna.exceptions import ExperimentalWarning
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        storage = JournalStorage(JournalFileBackend(str(journal)))
        names = optuna.get_all_study_names(storage)
        return optuna.load_study(study_name=names[0], storage=storage) if names else None


def _fanova(
    trials: "list[FrozenTrial]", epoch: int, direction: "optuna.study.StudyDirection", seed: int
) -> dict[str, float]:
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    best = max if direction == optuna.study.StudyDirection.MAXIMIZE else min
    values = [best(v for e, v in t.intermediate_values.items() if e <= epoch) for t in trials]
    if max(values) == min(values):
        return {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(storage=optuna.storages.InMemoryStorage(), direction=direction)
    for trial, value in zip(trials, values, strict=True):
        study.add_trial(
            optuna.trial.create_trial(
                params=trial.params, distributions=trial.distributions, value=value
            )
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed))
    return {key: share for key, share in shares.items() if share == share}
