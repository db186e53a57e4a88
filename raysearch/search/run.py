"""One session of a search: from a prepared run folder to trials that have all ended."""

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from ray import tune

from raysearch.cluster import Limit
from raysearch.config import Study
from raysearch.errors import RunError
from raysearch.records.again import recipes_of
from raysearch.records.listener import Listener
from raysearch.records.run_folder import RunFolder
from raysearch.search import leaving
from raysearch.search.book import Book
from raysearch.search.context import Context
from raysearch.search.ending import DISK_FULL, TAKEN, Ending, Events, signals
from raysearch.search.failures import disk_full
from raysearch.search.growing import Growing
from raysearch.search.memory import spare_the_search
from raysearch.search.sampler import OptunaSearcher, open_journal, tell
from raysearch.search.schedule import AshaByArchitecture
from raysearch.search.sweep import Sweeper
from raysearch.search.trial import trainable

ENDLESS = -1  # The searcher says when there are no more trials.


def search(
    run: RunFolder,
    study: Study,
    context: Context,
    seed: int,
    seconds: float | None = None,
    listeners: Sequence[Listener] = (),
    made: Callable[[Context], Callable[[dict[str, Any]], None]] = trainable,
) -> str | None:
    """Run trials until the study's budget is spent; unfinished ones of earlier sessions first.

    A folder that was given recipes trains these, one trial each.

    Args:
        seconds: what is left of the budget's minutes; None where they are not limited.
        made: returns what Tune runs for each trial, with what it reserves.

    Returns:
        What ended the search before its last trial, such as "time budget"; None where nothing did.
    """
    book = Book(run, study, listeners)
    journal = open_journal(run.journal, study, seed)
    tell_journal = partial(tell, journal)
    for number in book.ended:
        tell_journal(number, book.records[number].state, book.values[number])
    asha = AshaByArchitecture(study, book.records.values())
    ending = Ending(book, seconds, context.slots.trials)
    sweep = Sweeper() if context.launcher == "train" else None
    searcher = OptunaSearcher(
        study, journal, seed, book, recipes_of(run), lambda: ending.interrupted
    )
    growing = Growing(searcher, Limit(context.slots, study.resources.max_concurrent_trials))
    forget = partial(growing.on_trial_complete, error=True)
    events = Events(book, asha, ending, tell_journal, searcher.hand_out_again, forget, sweep)
    leaving.take_back(run.path)
    for listener in listeners:
        listener.search_started(run, study)
    done = study.budget.trials is not None and len(book.ended) >= study.budget.trials
    if done or seconds == 0:
        ending.cause = None if done else "time budget"
        events.stop_running()
        return ending.cause
    tuner = tune.Tuner(
        made(context),
        tune_config=tune.TuneConfig(
            search_alg=growing,
            scheduler=asha,
            num_samples=ENDLESS,
            reuse_actors=context.launcher == "inline",
        ),
        run_config=tune.RunConfig(
            name=f"tune-{time.time_ns()}",
            storage_path=str(run.path / "ray"),
            verbose=0,
            stop=ending,
            callbacks=[events],
        ),
    )
    spare_the_search()
    # Tracebacks of lost trials and of a full disk: what they come to is told and kept by `Events`.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    with signals(ending), _room(run, ending):
        tuner.fit()
    events.stop_running()
    shutil.rmtree(run.path / "ray", ignore_errors=True)
    return ending.cause


@contextmanager
def _room(run: RunFolder, ending: Ending) -> Iterator[None]:
    """Say plainly that the disk is full, whoever was the first to notice, or that another process
    goes on with the search.

    Raises:
        RunError: one of these.
    """
    try:
        yield
    except Exception as error:
        if not disk_full(error):
            raise
        ending.full(str(error).strip().splitlines()[-1])
    if ending.cause == TAKEN:
        raise RunError(
            f"{ending.problem}: it took this one, {run.path}, for lost. Look at it there; what is "
            "here stays as it is, and goes no further"
        )
    if ending.cause == DISK_FULL:
        raise RunError(
            f"{run.path}: the disk is full ({ending.problem}); every finished epoch is kept. Make "
            "room there, then finish the search with --resume"
        )
