"""One session of a search: from a prepared run folder to trials that have all ended."""

import shutil
import time
from collections.abc import Sequence
from functools import partial

from ray import tune

from raysearch.config import Study
from raysearch.records.again import recipes_of
from raysearch.records.listener import Listener
from raysearch.records.run_folder import RunFolder
from raysearch.search.book import Book
from raysearch.search.ending import Ending, Events, ctrl_c
from raysearch.search.sampler import OptunaSearcher, open_journal, tell
from raysearch.search.schedule import AshaByArchitecture
from raysearch.search.sweep import Sweeper
from raysearch.search.trial import Context, trainable

LOST_PROCESSES, ENDLESS = 3, -1


def search(
    run: RunFolder,
    study: Study,
    context: Context,
    seed: int,
    seconds: float | None = None,
    listeners: Sequence[Listener] = (),
) -> str | None:
    """Run trials until the study's budget is spent; unfinished ones of earlier sessions first.

    A folder that was given recipes trains these, one trial each.

    Args:
        seconds: what is left of the budget's minutes; None where they are not limited.

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
    events = Events(book, asha, ending, tell_journal, sweep)
    for listener in listeners:
        listener.search_started(run, study)
    left = study.budget.trials - len(book.ended) if study.budget.trials else ENDLESS
    if left == 0 or seconds == 0:
        ending.cause = "time budget" if left else None
        events.stop_running()
        return ending.cause
    tuner = tune.Tuner(
        trainable(context),
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearcher(study, journal, seed, book, recipes_of(run)),
            scheduler=asha,
            num_samples=left,
            max_concurrent_trials=context.slots.trials,
            reuse_actors=context.launcher == "inline",
        ),
        run_config=tune.RunConfig(
            name=f"tune-{time.time_ns()}",
            storage_path=str(run.path / "ray"),
            verbose=0,
            stop=ending,
            callbacks=[events],
            failure_config=tune.FailureConfig(max_failures=LOST_PROCESSES),
        ),
    )
    with ctrl_c(ending):
        tuner.fit()
    events.stop_running()
    shutil.rmtree(run.path / "ray", ignore_errors=True)
    return ending.cause
