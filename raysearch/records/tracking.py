"""MLflow, kept up to date in the background. A server that is away never holds the search up."""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Mapping
from typing import Any

from raysearch.config import Study
from raysearch.errors import first_line
from raysearch.records.listener import Listener
from raysearch.records.mlflow_tree import MlflowTree, connect, tracking_uri
from raysearch.records.registry import record
from raysearch.records.run_folder import RunFolder
from raysearch.records.trial_record import TrialRecord
from raysearch.redaction import redacted
from raysearch.study import load_study

log = logging.getLogger(__name__)

RETRY_SECONDS = 30.0
PATIENCE_SECONDS = 120.0


class MlflowTracking(Listener):
    """Tells a background thread which trials have news; the thread reads them from the run folder.

    Args:
        uri: of the tracking server or database; None takes MLFLOW_TRACKING_URI, or
            `<output>/mlflow.db`.
        patience: seconds that the search's end waits for the records.
    """

    def __init__(self, uri: str | None = None, patience: float = PATIENCE_SECONDS) -> None:
        self.uri, self.patience = uri, patience
        self.problem = ""
        self.news: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self.thread: threading.Thread | None = None

    def search_started(self, run: RunFolder, study: Study) -> None:
        self.uri = self.uri or tracking_uri(run.output)
        writer = _Writer(self, run, study, self.uri)
        self.thread = threading.Thread(target=writer.work, name="mlflow", daemon=True)
        self.thread.start()

    def trial_started(self, record: TrialRecord) -> None:
        self.news.put(record.number)

    def epoch(self, number: int, metrics: Mapping[str, Any]) -> None:
        self.news.put(number)

    def trial_ended(self, record: TrialRecord) -> None:
        self.news.put(record.number)

    def search_ended(self, summary: Mapping[str, Any]) -> None:
        """Wait until everything is recorded, or say how it is recorded later."""
        if self.thread is None:
            return
        self.news.put(None)
        self.thread.join(self.patience)
        if self.thread.is_alive():
            self.problem = self.problem or f"no end after {self.patience:.0f} s"
        if self.problem:
            log.warning(
                "MLflow at %s is behind (%s). Nothing is lost: `python -m raysearch.runs fill` "
                "records the search later.", redacted(self.uri or ""), self.problem,
            )  # fmt: skip


class _Writer:
    """The background thread: brings MLflow up to date, and tries again later where it cannot.

    The files of ended trials, whose pictures take longest, wait while any trial has news.
    """

    def __init__(self, tracking: MlflowTracking, run: RunFolder, study: Study, uri: str) -> None:
        self.tracking, self.run, self.study, self.uri = tracking, run, study, uri
        self.tree: MlflowTree | None = None
        self.waiting: set[int] = set()
        self.unkept: set[int] = set()
        self.retry_at = 0.0

    def work(self) -> None:
        self.attempt(last=False)
        last = False
        while not last:
            last = self.collect()
            if last:
                self.waiting |= {*self.run.numbers()}
            if last or time.monotonic() >= self.retry_at:
                self.attempt(last)

    def collect(self) -> bool:
        """Take all news that there is; wait for some where nothing else is left to do.

        Returns:
            Whether the search has ended.
        """
        news = list[int | None]()
        pause = max(0.0, self.retry_at - time.monotonic()) if self.unkept else None
        with contextlib.suppress(queue.Empty):
            news.append(self.tracking.news.get(timeout=pause))
        while not self.tracking.news.empty():
            news.append(self.tracking.news.get())
        self.waiting |= {number for number in news if number is not None}
        return None in news

    def attempt(self, last: bool) -> None:
        try:
            if self.tree is None:
                self.tree = MlflowTree(connect(self.uri), self.run, self.study)
                self.tree.reopen()
            self.tracking.problem = ""
            for number in sorted(self.waiting):
                self.record(self.tree, number)
            self.keep(self.tree, last)
            if last:
                self.tree.close()
        except Exception as error:  # Whatever a tracking server does, the search goes on.
            self.note(error)

    def record(self, tree: MlflowTree, number: int) -> None:
        """Record one trial; one that cannot be recorded does not hold up the others."""
        try:
            if tree.trial(number):
                self.unkept.add(number)
            self.waiting.discard(number)
        except Exception as error:
            self.note(error)

    def keep(self, tree: MlflowTree, last: bool) -> None:
        """Keep the files of ended trials, one by one, until there is news; at the end all."""
        for number in sorted(self.unkept):
            if not last and not self.tracking.news.empty():
                return
            try:
                tree.files(number)
                self.unkept.discard(number)
            except Exception as error:
                self.note(error)

    def note(self, error: Exception) -> None:
        log.debug("MLflow at %s failed", self.uri, exc_info=error)
        self.tracking.problem = redacted(first_line(error))[:200]
        self.retry_at = time.monotonic() + RETRY_SECONDS


def fill(run: RunFolder, uri: str | None = None) -> str:
    """Bring MLflow up to date with a run folder; what is there already stays as it is.

    Returns:
        What was registered, a sentence; empty where the search has no ensemble, or still runs.

    Raises:
        Exception: whatever the tracking server or database says.
    """
    uri, study = uri or tracking_uri(run.output), load_study(str(run.study_file))
    tree = MlflowTree(connect(uri), run, study)
    for number in run.numbers():
        if tree.trial(number):
            tree.files(number)
    if run.owner():
        tree.reopen()
        return ""
    tree.close()
    return record(run, uri)
