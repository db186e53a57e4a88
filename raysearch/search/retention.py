"""Which checkpoints stay: best and last epoch of the best trials, and all of running ones.

A run that trains given recipes keeps those of every trial: each was asked for by itself.
"""

import logging
import shutil
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from raysearch.config import Objective, Study
from raysearch.records.again import recipes_of
from raysearch.records.leaderboard import ranked
from raysearch.records.listener import Listener
from raysearch.records.run_folder import RunFolder, TrialRecord
from raysearch.training.checkpoint import BEST, EVERY, FINAL, finish

log = logging.getLogger(__name__)

BEST_TRIALS, OF_EACH_ARCHITECTURE = 20, 3


class Retention(Listener):
    """Deletes the other checkpoints as trials end, in a thread of its own."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(1, "retention")

    def search_started(self, run: RunFolder, study: Study) -> None:
        self.run, self.objective = run, study.objective

    def trial_ended(self, record: TrialRecord) -> None:
        deleted = self.pool.submit(delete_others, self.run, self.objective)
        deleted.add_done_callback(_report)

    def close(self) -> None:
        """Wait until what is to be deleted is deleted."""
        self.pool.shutdown()


def _report(deleted: Future[None]) -> None:
    if error := deleted.exception():
        log.warning("checkpoints could not be deleted: %s", error)


def delete_others(run: RunFolder, objective: Objective) -> None:
    """Delete the checkpoints that need not stay."""
    ended = [record for record in run.trials() if record.state != "running"]
    everyone = {record.number for record in ended}
    kept = everyone if recipes_of(run) else kept_trials(ended, objective)
    for record in ended:
        folder = run.trial_folder(record.number)
        finish(folder, keep=record.number in kept)
        if record.number not in kept:
            for name in (BEST, EVERY, FINAL):
                shutil.rmtree(folder / name, ignore_errors=True)


def kept_trials(records: Iterable[TrialRecord], objective: Objective) -> set[int]:
    """Return the trials that keep their weights: the best 20, and the best 3 of each kind."""
    scored = [record for record in ranked(records, objective) if record.value is not None]
    kept = {record.number for record in scored[:BEST_TRIALS]}
    for architecture in {record.recipe.architecture for record in scored}:
        own = [r.number for r in scored if r.recipe.architecture == architecture]
        kept.update(own[:OF_EACH_ARCHITECTURE])
    return kept
