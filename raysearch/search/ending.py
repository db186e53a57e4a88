"""When a search ends, and how Tune's events reach the book."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray.tune import Callback, Stopper

from raysearch.records.files import write_text
from raysearch.records.run_folder import ERROR
from raysearch.search.book import Book
from raysearch.search.schedule import AshaByArchitecture

FAILURES = 3
INTERRUPTED, ALL_FAILED = "interrupted", "every trial failed"
TARGET = "target reached"


class Ending(Stopper):
    """Ends the search when its time is over, when a trial reaches the target, on Ctrl-C, or when
    its first trials all fail."""

    def __init__(self, book: Book, seconds: float | None, slots: int) -> None:
        self.book, self.slots = book, slots
        self.deadline = time.monotonic() + seconds if seconds is not None else None
        self.interrupted = False
        self.cause: str | None = None

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if self.cause is None:
            self.cause = self._cause()
        return self.cause is not None

    def _cause(self) -> str | None:
        if self.interrupted:
            return INTERRUPTED
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return "time budget"
        if self.book.only_failures >= max(FAILURES, self.slots):
            return ALL_FAILED
        return None

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Tune pickles its stopper for a restore that raysearch never does."""
        return (_Nothing, ())


class _Nothing(Stopper):
    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return False


class Events(Callback):
    """Writes what Tune reports into the book, and tells Optuna how each trial ended."""

    def __init__(
        self,
        book: Book,
        asha: AshaByArchitecture,
        ending: Ending,
        tell: Callable[[int, str, dict[int, float]], None],
        sweep: Callable[[], None] | None = None,
    ) -> None:
        self.book, self.asha, self.ending, self.tell, self.sweep = book, asha, ending, tell, sweep
        self.failed: dict[int, str] = {}
        self.finished: dict[int, str] = {}
        # A search that goes on after its goal was reached is meant to go on.
        reached = any(m.get("reached") for r in book.records.values() for m in r.history)
        self.stops_at_goal = book.study.budget.stop_at_goal and not reached

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (Callback, ())

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        number = trial.config["number"]
        if result.get("failed"):
            self.failed[number] = result["failed"]
            return
        if result.get("finished"):
            self.finished[number] = result["finished"]
        if result.get("reached") and self.stops_at_goal:
            self.finished[number] = TARGET
            self.ending.cause = self.ending.cause or TARGET
        self.book.epoch(number, result)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        number = trial.config["number"]
        if number in self.failed:
            self._end(number, "failed", self.failed[number])
        elif number in self.finished:
            self._end(number, "completed", self.finished[number])
        elif number in self.asha.stopped:
            self._end(number, "pruned", "asha")
        elif self.ending.cause is None:
            self._end(number, "failed", "ended without its last epoch")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        number = trial.config["number"]
        folder = self.book.run.trial_folder(number)
        write_text(folder / ERROR, _error_of(trial))
        self._end(number, "failed", "process lost")

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if self.sweep:
            self.sweep()

    def stop_running(self) -> None:
        """End the trials that the search's own end broke off; an interrupted one resumes them."""
        if self.ending.cause in (None, INTERRUPTED):
            return
        for number, record in list(self.book.records.items()):
            if record.state == "running":
                reached = self.finished.get(number) == TARGET
                self._end(number, "completed" if reached else "stopped", self.ending.cause)

    def _end(self, number: int, state: str, reason: str) -> None:
        self.book.end(number, state, reason)
        self.tell(number, state, self.book.values[number])


def _error_of(trial: Any) -> str:
    try:
        return Path(trial.error_file).read_text(encoding="utf-8")
    except (OSError, TypeError):
        return "the trial's process was lost, and Ray kept no message"


@contextmanager
def ctrl_c(ending: Ending) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) ends the search in order, a second Ctrl-C at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def first(signum: int, frame: Any) -> None:
        ending.interrupted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, first) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
