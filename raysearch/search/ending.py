"""When a search ends, and how Tune's events reach the book."""

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray.tune import Callback, Stopper
from ray.tune.experiment import Trial

from raysearch.errors import RunError
from raysearch.records.files import write_text
from raysearch.records.run_folder import ERROR
from raysearch.redaction import redacted
from raysearch.search import leaving
from raysearch.search.book import Book
from raysearch.search.failures import disk_full
from raysearch.search.losses import Losses, reason_of
from raysearch.search.schedule import AshaByArchitecture
from raysearch.training.checkpoint import newest

FAILURES = 3
GRACE = 4.0  # Seconds in which trials that are asked to leave write a checkpoint.
HEARD = b"\nfinishing the running epochs; Ctrl-C again ends now\n"
INTERRUPTED, ALL_FAILED = "interrupted", "every trial failed"
TARGET, DISK_FULL, TAKEN = "target reached", "disk full", "taken over"


class Ending(Stopper):
    """Ends the search when its time is over, when a trial reaches the target, when it is asked to,
    or when its first trials all fail.

    One that is interrupted begins nothing more, and ends when each running trial has finished its
    epoch; one that must leave ends when each has written a checkpoint, within seconds.

    Attributes:
        running: numbers of the trials whose epoch is waited for.
    """

    def __init__(self, book: Book, seconds: float | None, slots: int) -> None:
        self.book, self.slots = book, slots
        self.deadline = time.monotonic() + seconds if seconds is not None else None
        self.interrupted = False
        self.leave_by = math.inf
        self.running: set[int] = set()
        self.cause: str | None = None
        self.problem = ""

    def full(self, problem: str) -> None:
        """End the search; its trials are resumed like interrupted ones when there is room."""
        self.cause, self.problem = DISK_FULL, self.problem or problem

    def interrupt(self) -> None:
        self.interrupted = True

    def leave(self) -> None:
        """Ask the trials, wherever they run, to write a checkpoint in the middle of their epoch."""
        self.interrupted, self.leave_by = True, time.monotonic() + GRACE
        leaving.ask(self.book.run.path)

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return self.interrupted

    def stop_all(self) -> bool:
        if self.cause is None:
            self.cause = self._cause()
        return self.cause is not None

    def _cause(self) -> str | None:
        now = time.monotonic()
        if self.book.taken:
            self.problem = self.book.taken
            return TAKEN
        if self.interrupted and (not self.running or now >= self.leave_by):
            return INTERRUPTED
        if self.deadline is not None and now >= self.deadline:
            return INTERRUPTED if self.interrupted else "time budget"
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
    """Writes what Tune reports into the book, and tells Optuna how each trial ended.

    Args:
        hand_out_again: takes back the number of a trial that was lost, and the reason.
        forget: has the searcher forget Tune's id of one that Tune itself says nothing of.
    """

    def __init__(
        self,
        book: Book,
        asha: AshaByArchitecture,
        ending: Ending,
        tell: Callable[[int, str, dict[int, float]], None],
        hand_out_again: Callable[[int, str], None],
        forget: Callable[[str], None],
        sweep: Callable[[], None] | None = None,
    ) -> None:
        self.book, self.asha, self.ending, self.tell, self.sweep = book, asha, ending, tell, sweep
        self.hand_out_again, self.forget, self.losses = hand_out_again, forget, Losses()
        self.lost: set[str] = set()
        self.failed: dict[int, str] = {}
        self.finished: dict[int, str] = {}
        # A search that goes on after its goal was reached is meant to go on.
        reached = any(m.get("reached") for r in book.records.values() for m in r.history)
        self.stops_at_goal = book.study.budget.stop_at_goal and not reached

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (Callback, ())

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if not self.ending.interrupted:
            self.ending.running.add(trial.config["number"])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        number = trial.config["number"]
        if self.ending.interrupted:
            self.ending.running.discard(number)
        if result.get("left"):
            return
        if result.get("full"):
            self.ending.full(result["full"])
            return
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
        _forget_statistics(trial)
        self.ending.running.discard(number)
        if number in self.failed:
            self._end(number, "failed", self.failed[number])
        elif number in self.finished:
            self._end(number, "completed", self.finished[number])
        elif number in self.asha.stopped:
            self._end(number, "pruned", "asha")
        elif self.ending.cause is None and not self.ending.interrupted:
            self._end(number, "failed", "ended without its last epoch")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """What reaches Tune as an error is a process or a node that was lost."""
        number = trial.config["number"]
        self.lost.add(trial.trial_id)
        _forget_statistics(trial)
        self.ending.running.discard(number)
        folder, told = self.book.run.trial_folder(number), _error_of(trial)
        reason = reason_of(told, alone=not self.ending.running)
        # A trial on a node that shares no files is known here by its epochs alone.
        reached = max((max(self.book.values[number], default=0), 0), newest(folder))
        if self.losses.given_up(number, reached, reason):
            write_text(folder / ERROR, redacted(told))
            self._end(number, "failed", reason)
        else:
            self.hand_out_again(number, reason)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        if self.sweep:
            self.sweep()
        for trial in trials:
            # Tune tells nobody of a trial whose process could not be used again.
            if trial.status == Trial.ERROR and trial.trial_id not in self.lost:
                self.forget(trial.trial_id)
                self.on_trial_error(iteration, trials, trial)

    def stop_running(self) -> None:
        """End the trials that the search's own end broke off; an interrupted one resumes them."""
        if self.ending.cause in (None, INTERRUPTED, DISK_FULL, TAKEN):
            return
        for number, record in list(self.book.records.items()):
            if record.state != "running":
                continue
            if number in self.failed:  # Tune stops the others before it says that this one ended.
                self._end(number, "failed", self.failed[number])
            elif number in self.finished:
                self._end(number, "completed", self.finished[number])
            else:
                self._end(number, "stopped", self.ending.cause)

    def _end(self, number: int, state: str, reason: str) -> None:
        try:
            self.book.end(number, state, reason)
            self.tell(number, state, self.book.values[number])
        except (OSError, RunError) as error:
            if not disk_full(error):
                raise
            self.ending.full(str(error))


def _forget_statistics(trial: Any) -> None:
    """Drop what Tune keeps of an ended trial's metrics, which nothing here asks for.

    It is tens of kilobytes a trial, for as long as the search runs.
    """
    trial.run_metadata.metric_analysis.clear()
    trial.run_metadata.metric_n_steps.clear()


def _error_of(trial: Any) -> str:
    try:
        return Path(trial.error_file).read_text(encoding="utf-8")
    except (OSError, TypeError):
        return "the trial's process was lost, and Ray kept no message"


@contextmanager
def signals(ending: Ending) -> Iterator[None]:
    """The first Ctrl-C ends the search after the running epochs, SIGTERM within seconds, and a
    second Ctrl-C at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: Any) -> None:
        ending.interrupt()
        os.write(2, HEARD)  # Whoever was interrupted may be printing.
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def leave(signum: int, frame: Any) -> None:
        ending.leave()

    handlers = {signal.SIGINT: interrupt, signal.SIGTERM: leave}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
