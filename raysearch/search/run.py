"""One session of a search: from a prepared run folder to trials that have all ended."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from ray import tune

from raysearch.config import Study
from raysearch.records.listener import Listener
from raysearch.records.run_folder import RunFolder
from raysearch.search.book import Book
from raysearch.search.ending import Ending, Events, ctrl_c
from raysearch.search.sampler import OptunaSearcher, open_journal, tell
from raysearch.search.schedule import AshaByArchitecture
from raysearch.search.sweep import Sweeper
from raysearch.search.trial import Context, trainable

LOST_PROCESSES = 3


@dataclass(frozen=True)
class Session:
    """What a session of a search came to. `cause` says what ended it before its last trial."""

    cause: str | None
    seconds: float
    busy_share: float


def search(
    run: RunFolder,
    study: Study,
    context: Context,
    seed: int,
    seconds: float | None = None,
    listeners: Sequence[Listener] = (),
) -> Session:
    """Run trials until the study's budget is spent; unfinished ones of earlier sessions first.

    Args:
        seconds: what is left of the budget's minutes; None where they are not limited.
    """
    book = Book(run, study, listeners)
    journal = open_journal(run.journal, study, seed)
    tell_journal = partial(tell, journal)
    for number in book.ended:
        tell_journal(number, book.records[number].state, book.values[number])
    asha = AshaByArchitecture(study, book.records.values())
    ending = Ending(book, seconds, context.slots.trials)
    sweep = Sweeper() if context.launcher == "train" else None
    left = study.budget.trials - len(book.ended) if study.budget.trials else -1
    if left == 0:
        return Session(None, 0.0, 0.0)
    started, clock = time.time(), time.monotonic()
    for listener in listeners:
        listener.search_started(run, study)
    tuner = tune.Tuner(
        trainable(context),
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearcher(study, journal, seed, book),
            scheduler=asha,
            num_samples=left,
            max_concurrent_trials=context.slots.trials,
            reuse_actors=context.launcher == "inline",
        ),
        run_config=tune.RunConfig(
            name=f"tune-{int(started)}",
            storage_path=str(run.path / "ray"),
            verbose=0,
            stop=ending,
            callbacks=[Events(book, asha, ending, tell_journal, sweep)],
            failure_config=tune.FailureConfig(max_failures=LOST_PROCESSES),
        ),
    )
    with ctrl_c(ending):
        tuner.fit()
    shutil.rmtree(run.path / "ray", ignore_errors=True)
    wall = time.monotonic() - clock
    return Session(ending.cause, wall, busy_share(book, started, wall, context.slots.trials))


def busy_share(book: Book, started: float, wall: float, slots: int) -> float:
    """Return the share of the slots' time spent in training steps and validation.

    Waiting for data, start-up, checkpoints and idle slots are what is missing to 1.
    """
    busy = sum(
        metrics["train_seconds"] + metrics["validation_seconds"]
        for record in book.run.trials()
        for metrics in record.history
        if metrics["time"] >= started
    )
    return busy / (wall * slots) if wall else 0.0
