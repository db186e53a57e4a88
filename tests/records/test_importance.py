"""What a search has learned about its knobs."""

from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from raysearch.records.importance import importances


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "optuna.journal"


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def search(journal: Path, trials: int, flat: bool = False) -> None:
    """A search where the learning rate is all that matters; every second trial is pruned."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(storage=storage, direction="maximize", sampler=sampler)
    for number in range(trials):
        trial = study.ask()
        rate = trial.suggest_float("learning_rate", 0, 1)
        trial.suggest_float("noise", 0, 1)
        if number % 2:
            trial.suggest_categorical("conditional", [None, "scse"])
        pruned = number % 4 == 3
        for epoch in range(1, 3 if pruned else 7):
            trial.report(0.1 if flat else rate * epoch, epoch)
        if pruned:
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, 0.1 if flat else rate * 6)


def test_the_knob_that_matters_comes_first(journal: Path) -> None:
    search(journal, 16)
    learned = importances(journal)
    assert next(iter(learned.shares)) == "learning_rate"
    assert learned.shares["learning_rate"] > 0.8
    assert sum(learned.shares.values()) == pytest.approx(1)
    assert "conditional" not in learned.shares
    assert learned.trials >= 12
    assert "a hint" in learned.note


def test_few_trials_are_said_to_be_few(journal: Path) -> None:
    search(journal, 4)
    learned = importances(journal)
    assert learned.shares == {}
    assert "6 trials are needed" in learned.note


def test_no_difference_is_no_knowledge(journal: Path) -> None:
    search(journal, 8, flat=True)
    assert "no difference" in importances(journal).note


def test_no_journal_is_no_error(journal: Path) -> None:
    assert importances(journal).shares == {}
    assert not journal.exists()
