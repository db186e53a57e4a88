"""A trial on a node that may share no files with others: its folder from storage, and back to it.

Without `--storage` nothing happens here: the run folder is one that every node sees.
"""

import json
import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raysearch.records.run_folder import END, INFO, RECIPE
from raysearch.search.pulling import pull_trial
from raysearch.search.ready import preparing
from raysearch.search.uploads import Background, Upload, checkpoint_of
from raysearch.storage import Storage, reason
from raysearch.training.checkpoint import BEST, LAST, newest, place
from raysearch.training.history import read_history

log = logging.getLogger(__name__)

Report = Callable[[dict[str, Any]], None]
PATIENCE_SECONDS = 600.0  # How long an outage may hold up what cannot go on without storage.
PAUSE_SECONDS = 2.0
SPLITS = "splits.json"
UNSENT = ".unsent"  # In the folder of a trial whose newest files storage never got.


@contextmanager
def at_hand(
    storage: Storage | None, run: Path, folder: Path, rank: int, rungs: Iterable[int]
) -> Iterator[Callable[[Report], Report]]:
    """Bring a trial's folder to this node, and, on rank 0, what it comes to into storage.

    Args:
        storage: of the run, or None.
        run, folder: of the run and the trial on this node.
        rungs: epochs at which the trial may be stopped.

    Yields:
        What to put around the trial's `report`, which then waits until storage has what would be
        lost with this node: at rungs and the last epoch this epoch, at others the one before.

    Raises:
        NotReady: on entering, where storage is away and this machine cannot do without.
    """
    if storage is None:
        yield lambda report: report
        return
    with preparing(run):
        _bring(storage, run, folder)
    if rank:
        yield lambda report: report
        return
    on_head = (run / INFO).is_file()
    trial = _Trial(storage / f"trials/{folder.name}", folder, frozenset(rungs), on_head)
    try:
        yield trial.reporting
    finally:
        trial.close()


def patiently(work: Callable[[], None], seconds: float) -> None:
    """Do what needs storage, again and again while that is away.

    Raises:
        OSError: of the last try, after some seconds.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            return work()
        except OSError as error:
            if time.monotonic() > end:
                raise
            log.warning("storage: %s; it is tried again", reason(error))
            time.sleep(PAUSE_SECONDS)


def _bring(storage: Storage, run: Path, folder: Path) -> None:
    """Bring a trial's folder here; where all of it is here, an outage holds up nothing."""
    try:
        _pull(storage, run, folder)
    except OSError as error:
        if not _is_here(run, folder):
            return patiently(lambda: _pull(storage, run, folder), PATIENCE_SECONDS)
        log.warning("%s: %s; the trial goes on with the files here", folder, reason(error))


def _is_here(run: Path, folder: Path) -> bool:
    """Whether the search's own files are here, and the trial's: at most one epoch comes again."""
    told = max((metrics["epoch"] for metrics in read_history(folder)), default=0)
    return (run / INFO).is_file() and told <= newest(folder)[0] + 1


def _pull(storage: Storage, run: Path, folder: Path) -> None:
    pull_trial(storage / f"trials/{folder.name}", folder)
    if not (run / SPLITS).is_file():
        storage.download(SPLITS, run / SPLITS)
    if not (run / INFO).is_file():  # Where it is, the search itself keeps order.
        _forget_ended(storage, run, folder)


def _forget_ended(storage: Storage, run: Path, folder: Path) -> None:
    """Delete what this node still has of trials whose end and files are in storage."""
    for other in run.glob("trials/[0-9]*"):
        there = storage / f"trials/{other.name}"
        if other != folder and there.has(END):
            if (other / UNSENT).exists():
                _send_ended(there, other)
            shutil.rmtree(other, ignore_errors=True)


def _send_ended(storage: Storage, folder: Path) -> None:
    """Bring an ended trial's files to storage late, unless another node has trained it further."""
    if len(read_history(folder)) >= json.loads(storage.read(END))["epochs"]:
        Upload(folder, storage, _of_node)()


def _of_node(name: str) -> bool:
    """Whether a file of a trial is its node's to write; recipe and end are the search's."""
    return name not in (RECIPE, END)


class _Trial:
    """Uploads a trial's folder after each of its epochs.

    Args:
        on_head: whether the search reads this very folder; an outage then holds up nothing.
    """

    def __init__(
        self, storage: Storage, folder: Path, rungs: frozenset[int], on_head: bool
    ) -> None:
        self.storage, self.folder, self.rungs, self.on_head = storage, folder, rungs, on_head
        self.upload = Upload(folder, storage, _of_node)
        self.begun, self.before = False, 0
        self.background = Background(self.work, f"upload of trial {folder.name}")

    def reporting(self, report: Report) -> Report:
        def told(metrics: dict[str, Any]) -> None:
            now = self.background.ask()
            if metrics["epoch"] in self.rungs or metrics["finished"] or metrics.get("reached"):
                self.background.wait(now, PATIENCE_SECONDS, while_well=self.on_head)
            else:
                self.background.wait(self.before, while_well=True)
            self.before = now
            report(metrics)

        return told

    def work(self) -> None:
        self._wait_for_recipe()
        if self.upload():
            self._delete_older()

    def _wait_for_recipe(self) -> None:
        """Wait until storage knows this trial: a checkpoint that it does not know is nobody's."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not self.begun:
            self.begun = self.storage.has(RECIPE)
            if not self.begun:
                if time.monotonic() > end:
                    raise TimeoutError(f"{self.storage}: the search has not written {RECIPE}")
                time.sleep(0.2)

    def _delete_older(self) -> None:
        """Delete checkpoints in storage that newer ones have replaced here."""
        there = {checkpoint_of(name) for name in self.storage.files()} - {""}
        for kind in (LAST, BEST):
            here = {f"{kind}/{path.name}" for path in self.folder.glob(f"{kind}/epoch-*")}
            newest = max(map(place, here), default=(0, 0))
            for old in there - here:
                if old.startswith(f"{kind}/") and place(old) < newest:
                    self.storage.delete(old)

    def close(self) -> None:
        problem = self.background.close(PATIENCE_SECONDS, while_well=self.on_head)
        if problem and not self.on_head:
            (self.folder / UNSENT).touch()
            log.warning("%s lacks the newest files of %s: %s", self.storage, self.folder, problem)
        else:
            (self.folder / UNSENT).unlink(missing_ok=True)


def send_failure(storage: Storage | None, folder: Path, name: str) -> None:
    """Bring a failed trial's traceback to storage, where the search finds it."""
    if storage is not None and (folder / name).is_file():
        try:
            storage.upload(folder / name, f"trials/{folder.name}/{name}")
        except OSError as error:
            log.warning("%s cannot be uploaded: %s", folder / name, reason(error))
