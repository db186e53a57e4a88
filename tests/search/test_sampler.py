"""The journal is the search's only memory: it names trials, and a resume goes on from it."""

from pathlib import Path

import pytest
from optuna.trial import TrialState
from ray.tune.search import Searcher

from raysearch.config import Study
from raysearch.records.run_folder import RunFolder
from raysearch.search.book import Book
from raysearch.search.losses import BESIDE, LOST, MEMORY
from raysearch.search.sampler import OptunaSearcher, open_journal, tell

from .conftest import small_study


def searcher(run: RunFolder, study: Study) -> OptunaSearcher:
    return OptunaSearcher(study, open_journal(run.journal, study, 0), 0, Book(run, study, []))


def test_start_points_come_first_and_are_queued_once(run: RunFolder) -> None:
    start = [{"architecture": "wide", "learning_rate": 0.01}, {"architecture": "unet"}]
    study = small_study(start=start)
    open_journal(run.journal, study, 0)
    configs = [searcher(run, study).suggest("a")]
    assert configs[0]["architecture"] == "wide"
    assert configs[0]["recipe"]["learning_rate"] == 0.01
    states = [t.state for t in open_journal(run.journal, study, 0).get_trials(deepcopy=False)]
    assert states == [TrialState.RUNNING, TrialState.WAITING]


def test_a_broken_off_trial_comes_again_under_its_number_with_its_values(run: RunFolder) -> None:
    study = small_study()
    first = searcher(run, study)
    given = [first.suggest("a"), first.suggest("b")]
    again = searcher(run, study)
    assert [again.suggest("c"), again.suggest("d")] == given
    third = again.suggest("e")
    assert third["number"] == 2
    assert third["recipe"] not in [config["recipe"] for config in given]
    assert [record.number for record in run.trials()] == [0, 1, 2]


def test_trials_that_have_ended_do_not_come_again(run: RunFolder) -> None:
    study = small_study()
    first = searcher(run, study)
    first.suggest("a")
    run.end_trial(0, "failed", "exception", study.objective)
    assert searcher(run, study).suggest("b")["number"] == 1


@pytest.fixture
def given(run: RunFolder) -> OptunaSearcher:
    """A searcher of four trials, of which a, b and c are out."""
    given = searcher(run, small_study(budget={"trials": 4, "epochs": 2}))
    for trial in "abc":
        given.suggest(trial)
    return given


def test_trials_that_may_have_exhausted_memory_do_not_train_at_the_same_time(
    given: OptunaSearcher,
) -> None:
    for trial, number in (("a", 0), ("b", 1)):
        given.on_trial_complete(trial, error=True)
        given.hand_out_again(number, MEMORY)
    assert given.suggest("d")["number"] == 0
    assert given.suggest("e")["number"] == 3  # Those that are above suspicion go on beside it.
    assert given.suggest("f") is None
    given.on_trial_complete("d")
    assert given.suggest("f")["number"] == 1


def test_a_trial_that_was_killed_for_another_waits_until_that_one_has_left(
    given: OptunaSearcher,
) -> None:
    given.on_trial_complete("c", error=True)
    given.hand_out_again(2, BESIDE)
    assert given.suggest("d")["number"] == 3  # A new one goes on in its place.
    given.on_trial_complete("a")
    assert given.suggest("e") is None
    given.on_trial_complete("b", error=True)
    given.hand_out_again(1, MEMORY)
    assert given.suggest("e")["number"] == 2
    assert given.suggest("f") is None  # Not beside the one that may be to blame.
    given.on_trial_complete("e")
    assert given.suggest("f")["number"] == 1


def test_states_are_told_as_states_and_never_as_scores(tmp_path: Path) -> None:
    study = small_study()
    journal = open_journal(tmp_path / "journal", study, 0)
    for _ in range(3):
        journal.ask()
    tell(journal, 0, "completed", {1: 0.2, 2: 0.5, 3: 0.4})
    tell(journal, 1, "pruned", {1: 0.9})
    tell(journal, 2, "failed", {1: 0.9})
    tell(journal, 2, "failed", {1: 0.9})
    trials = journal.get_trials(deepcopy=False)
    states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
    assert [t.state for t in trials] == states
    assert journal.best_value == 0.5
    assert trials[1].intermediate_values == {1: 0.9}


def test_the_same_seed_suggests_the_same(tmp_path: Path) -> None:
    study = small_study()
    runs = [RunFolder.create(tmp_path / name, "small") for name in "ab"]
    one, two = ([searcher(run, study).suggest(str(n)) for n in range(4)] for run in runs)
    assert one == two


def test_a_lost_trial_is_handed_out_again_before_anything_new(run: RunFolder) -> None:
    given = searcher(run, small_study())
    first, second = given.suggest("a"), given.suggest("b")
    given.on_trial_complete("a", error=True)
    given.hand_out_again(first["number"], LOST)
    assert given.suggest("c") == first
    assert given.suggest("d")["number"] == second["number"] + 1


def test_the_search_is_not_over_while_a_trial_that_is_out_may_be_lost(run: RunFolder) -> None:
    study = small_study()
    budget = study.budget.model_copy(update={"trials": 1})
    given = searcher(run, study.model_copy(update={"budget": budget}))
    only = given.suggest("a")
    assert given.suggest("b") is None
    given.on_trial_complete("a", error=True)
    given.hand_out_again(only["number"], LOST)
    assert given.suggest("c") == only
    given.on_trial_complete("c")
    assert given.suggest("d") == Searcher.FINISHED
