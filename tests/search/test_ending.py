"""How a search's end, and what Tune says of its trials, reach the book."""

from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.experiment import Trial

from raysearch.config import Recipe, Study
from raysearch.records.run_folder import RunFolder
from raysearch.search.book import Book
from raysearch.search.ending import Ending, Events
from raysearch.training.history import append_epoch


class Told:
    """The events of a search of some trials, with what they tell on."""

    def __init__(self, run: RunFolder, study: Study, trials: int) -> None:
        self.book = Book(run, study, [])
        self.ending = Ending(self.book, None, slots=trials)
        self.optuna: dict[int, str] = {}
        self.again: list[int] = []
        self.forgotten: list[str] = []
        asha: Any = SimpleNamespace(stopped=set())
        self.events = Events(
            self.book, asha, self.ending, self._tell, self._again, self.forgotten.append
        )
        self.trials = [self._begun(number) for number in range(trials)]

    def _again(self, number: int, reason: str) -> None:
        self.again.append(number)

    def _tell(self, number: int, state: str, values: Any) -> None:
        self.optuna[number] = state

    def _begun(self, number: int) -> Any:
        self.book.begin(number, Recipe(architecture="unet"))
        return SimpleNamespace(
            config={"number": number}, trial_id=f"tune-{number}", status=Trial.RUNNING,
            error_file=None,
            run_metadata=SimpleNamespace(metric_analysis={}, metric_n_steps={}),
        )  # fmt: skip

    def report(self, number: int, **result: Any) -> None:
        if "epoch" in result:
            append_epoch(self.book.run.trial_folder(number), result)
        self.events.on_trial_result(1, self.trials, self.trials[number], result)

    @property
    def states(self) -> list[str]:
        return [record.state for record in self.book.run.trials()]


@pytest.fixture
def told(run: RunFolder, study: Study) -> Told:
    return Told(run, study, 3)


def epoch(number: int, finished: str = "") -> dict[str, Any]:
    return {"epoch": number, "miou": 0.5, "best": 0.5, "best_epoch": 1, "finished": finished}


@pytest.mark.parametrize("cause", ["time budget", "target reached"])
def test_the_end_of_a_search_keeps_what_its_trials_have_come_to(told: Told, cause: str) -> None:
    """Tune stops all trials at once, and no longer says of any that it has ended."""
    told.report(0, **epoch(1, "max epochs"))
    told.report(1, **epoch(1))
    told.report(1, failed="not finite")
    told.report(2, **epoch(1))
    told.ending.cause = cause
    told.events.stop_running()
    assert told.states == ["completed", "failed", "stopped"]
    assert told.optuna == {0: "completed", 1: "failed", 2: "stopped"}
    assert [record.reason for record in told.book.run.trials()] == [
        "max epochs", "not finite", cause,
    ]  # fmt: skip


def test_a_trial_of_which_tune_says_nothing_is_handed_out_again_once(told: Told) -> None:
    """Its process could not be used again: Tune marks it, and calls nobody."""
    told.trials[1].status = Trial.ERROR
    for step in range(3):
        told.events.on_step_end(step, told.trials)
    assert told.again == [1]
    assert told.forgotten == ["tune-1"]


def test_a_trial_that_tune_reports_as_lost_is_handed_out_once(told: Told) -> None:
    told.trials[1].status = Trial.ERROR
    told.events.on_trial_error(1, told.trials, told.trials[1])
    told.events.on_step_end(1, told.trials)
    assert told.again == [1]
    assert not told.forgotten
