"""Which checkpoints stay: best and last epoch of the best trials, and all of running ones.

Where the study has a disk budget, the worst of them go until the others fit. A run that trains
given recipes keeps those of every trial: each was asked for by itself.
"""

import logging
import shutil
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from raysearch.config import Objective, Study
from raysearch.records.again import recipes_of
from raysearch.records.leaderboard import ranked
from raysearch.records.listener import Listener
from raysearch.records.run_folder import RunFolder, TrialRecord
from raysearch.search.mirror import Mirror
from raysearch.training.checkpoint import BEST, EVERY, FINAL, LAST, finish, place

log = logging.getLogger(__name__)

BEST_TRIALS, OF_EACH_ARCHITECTURE = 20, 3


class Retention(Listener):
    """Deletes the other checkpoints as trials end, in a thread of its own.

    What is known of the trials stays in memory: to read them all again at the end of each would
    take longer with every trial.

    Args:
        mirror: of the run in storage, which gives an ended trial's files and keeps what stays.
    """

    def __init__(self, mirror: Mirror | None = None) -> None:
        self.mirror = mirror
        self.dropped: set[int] = set()
        self.warned = False
        self.pool = ThreadPoolExecutor(1, "retention")
        self.ended: dict[int, TrialRecord] = {}
        self.settled: dict[int, bool] = {}

    def search_started(self, run: RunFolder, study: Study) -> None:
        self.run, self.objective, self.disk_gb = run, study.objective, study.resources.disk_gb
        self.keeps_all = bool(recipes_of(run))
        self.ended = {r.number: _without_history(r) for r in run.trials() if r.state != "running"}

    def trial_ended(self, record: TrialRecord) -> None:
        deleted = self.pool.submit(self._delete_others, _without_history(record))
        deleted.add_done_callback(_report)

    def close(self) -> None:
        """Wait until what is to be deleted is deleted, and note how much is left."""
        if self.mirror and set(self.ended) != set(self.settled):
            self.pool.submit(self._settle_all).add_done_callback(_report)
        self.pool.shutdown()
        if self.mirror or getattr(self, "disk_gb", None):
            self.run.describe(checkpoint_bytes=_taken(self.run))

    def _delete_others(self, newest: TrialRecord) -> None:
        """Leave of every ended trial what stays, where that has changed."""
        self.ended[newest.number] = newest
        self.settled.pop(newest.number, None)
        self._settle_all(newest.number)

    def _settle_all(self, newest: int | None = None) -> None:
        ended = self.ended.values()
        kept = set(self.ended) if self.keeps_all else kept_trials(ended, self.objective)
        kept -= self.dropped
        for number in self.ended:
            keep = number in kept
            if self.settled.get(number) is not keep:
                self._settle(number, keep, take=keep or number == newest)
        if self.disk_gb:
            self._fit(kept, self.disk_gb * 1e9)

    def _settle(self, number: int, keep: bool, take: bool = False) -> None:
        if self.mirror and take:
            self.mirror.take(number)
            if keep and not self._has_best(number):
                return  # Its node brings it later.
        settle(self.run, number, keep)
        if self.mirror:
            self.mirror.leave(number)
        self.settled[number] = keep

    def _has_best(self, number: int) -> bool:
        """Whether the checkpoint of an ended trial's best epoch is here."""
        found = self.run.trial_folder(number).glob(f"{BEST}/epoch-*")
        return self.ended[number].best_epoch in {place(path)[0] for path in found}

    def _fit(self, kept: set[int], budget: float) -> None:
        """Delete checkpoints of the worst trials, never the best's, until the rest fits."""
        order = [r.number for r in ranked(self.ended.values(), self.objective) if r.number in kept]
        used = _taken(self.run)
        while used > budget and len(order) > 1:
            self._settle(order[-1], keep=False)
            self.dropped.add(order.pop())
            used = _taken(self.run)
        if used > budget and not self.warned:
            self.warned = True
            log.warning(
                "%s: checkpoints of the best and the running trials alone take %.3g GB, more than "
                "resources.disk_gb: %.3g; raise it", self.run.path, used / 1e9, budget / 1e9,
            )  # fmt: skip


def _without_history(record: TrialRecord) -> TrialRecord:
    return replace(record, history=[])


def _taken(run: RunFolder) -> int:
    """Bytes of all checkpoints of a run."""
    found = (run.trials_folder.glob(f"*/{kind}/epoch-*/*") for kind in (BEST, EVERY, FINAL, LAST))
    return sum(_size(path) for paths in found for path in paths)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # A running trial has replaced it in this moment.
        return 0


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
