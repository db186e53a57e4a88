"""Which checkpoints stay: best and last epoch of the best trials, and all of running ones.

A run that trains given recipes keeps those of every trial: each was asked for by itself.
"""

import logging
import shutil
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from raysearch.config import Objective, Study
from raysearch.records.again import recipes_of
from raysearch.records.leaderboard import ranked
from raysearch.records.listener import Listener
from raysearch.records.run_folder import RunFolder, TrialRecord
from raysearch.training.checkpoint import BEST, EVERY, FINAL, finish

log = logging.getLogger(__name__)

BEST_TRIALS, OF_EACH_ARCHITECTURE = 20, 3


class Retention(Listener):
    """Deletes the other checkpoints as trials end, in a thread of its own.

    What is known of the trials stays in memory: to read them all again at the end of each would
    take longer with every trial.
    """

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(1, "retention")
        self.ended: dict[int, TrialRecord] = {}
        self.settled: dict[int, bool] = {}

    def search_started(self, run: RunFolder, study: Study) -> None:
        self.run, self.objective = run, study.objective
        self.keeps_all = bool(recipes_of(run))
        self.ended = {r.number: _without_history(r) for r in run.trials() if r.state != "running"}

    def trial_ended(self, record: TrialRecord) -> None:
        deleted = self.pool.submit(self._delete_others, _without_history(record))
        deleted.add_done_callback(_report)

    def close(self) -> None:
        """Wait until what is to be deleted is deleted."""
        self.pool.shutdown()

    def _delete_others(self, newest: TrialRecord) -> None:
        """Leave of every ended trial what stays, where that has changed."""
        self.ended[newest.number] = newest
        self.settled.pop(newest.number, None)
        ended = self.ended.values()
        kept = set(self.ended) if self.keeps_all else kept_trials(ended, self.objective)
        for number in self.ended:
            keep = number in kept
            if self.settled.get(number) is not keep:
                settle(self.run, number, keep)
                self.settled[number] = keep


def _without_history(record: TrialRecord) -> TrialRecord:
    return replace(record, history=[])


def _report(deleted: Future[None]) -> None:
    if error := deleted.exception():
        log.warning("checkpoints could not be deleted: %s", error)


def settle(run: RunFolder, number: int, keep: bool) -> None:
    """Leave of an ended trial's checkpoints what stays."""
    folder = run.trial_folder(number)
    finish(folder, keep)
    if not keep:
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
