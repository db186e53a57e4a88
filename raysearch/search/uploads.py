"""Bringing what changes in a folder to storage, in the background and through outages.

Of a checkpoint `meta.json` goes last: it holds the checksums of the others, and what lacks it is no
checkpoint. The history goes before it, so that storage has the line of every epoch that it has a
checkpoint of. Of a search the ends of trials go before Optuna's journal, and the journal before the
recipes: so storage never knows a trial that its journal does not, nor one that ended in the journal
alone.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from raysearch.records.lock import OWNER
from raysearch.records.run_folder import RECIPE
from raysearch.search.leaving import LEAVE
from raysearch.storage import Storage, reason
from raysearch.training.checkpoint import BEST, EVERY, FINAL, LAST, META
from raysearch.training.history import METRICS

log = logging.getLogger(__name__)

KINDS = (BEST, EVERY, FINAL, LAST)
JOURNAL = "optuna.journal"
SKIPPED = ("ray", "probabilities", OWNER, LEAVE)  # Tune's own, large, or of this process.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds between tries

Stamp = tuple[int, int]  # size in bytes, time of the last change in ns
Wanted = Callable[[str], bool]


class Upload:
    """Brings the files of a folder that changed since the last call to storage.

    Args:
        wanted: which of them, by their names in the folder.
    """

    def __init__(self, folder: Path, storage: Storage, wanted: Wanted = lambda name: True) -> None:
        self.folder, self.storage, self.wanted = folder, storage, wanted
        self.known: dict[str, Stamp] = {}

    def __call__(self) -> bool:
        """Bring what changed; return whether anything has.

        Raises:
            OSError: storage cannot be reached; what was brought before is remembered.
        """
        changed = {n: s for n, s in stamps(self.folder).items() if self._new(n, s)}
        there = self.storage.files() if any(map(checkpoint_of, changed)) else {}
        for name in sorted(changed, key=_place_in_order):
            if not self._same(name, changed[name], there):
                self._send(name, changed[name])
            self.known[name] = changed[name]
        return bool(changed)

    def _new(self, name: str, stamp: Stamp) -> bool:
        return self.known.get(name) != stamp and self.wanted(name)

    def _same(self, name: str, stamp: Stamp, there: dict[str, int]) -> bool:
        """Whether this file of a checkpoint is there: meta.json says what the others hold."""
        folder = checkpoint_of(name)
        meta = f"{folder}/{META}"
        if not folder or there.get(name) != stamp[0] or meta not in there:
            return False
        path = self.folder / meta
        return path.is_file() and self.storage.read(meta) == path.read_bytes()

    def _send(self, name: str, stamp: Stamp) -> None:
        path = self.folder / name
        try:
            # The journal grows while it is read: what it says later belongs to the next call.
            self.storage.upload(path, name, stamp[0] if name == JOURNAL else None)
        except FileNotFoundError:
            if path.exists():
                raise  # Not this file, but the bucket is missing.


def stamps(folder: Path) -> dict[str, Stamp]:
    """Return size and time of each file, recipes before the journal before all others."""
    first = (*folder.glob(f"trials/*/{RECIPE}"), folder / JOURNAL)
    found: dict[str, Stamp] = {}
    for path in (*first, *_visible(folder)):
        name = path.relative_to(folder).as_posix()
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue  # Deleted in this moment, such as an older checkpoint.
        found.setdefault(name, (stat.st_size, stat.st_mtime_ns))
    return found


def _visible(folder: Path) -> Iterator[Path]:
    """The files of a folder and its folders, without what is hidden, a link, or a lock."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name[0] == "." or path.is_symlink() or path.suffix == ".lock":
            continue
        if path.is_dir() and path.name not in SKIPPED:
            yield from _visible(path)
        elif path.is_file() and path.name not in SKIPPED:
            yield path


def checkpoint_of(name: str) -> str:
    """Return the checkpoint's folder that a file belongs to, such as last/epoch-0007, or ""."""
    parts = PurePosixPath(name).parts
    inside = len(parts) >= 3 and parts[-3] in KINDS and parts[-2].startswith("epoch-")
    return "/".join(parts[:-1]) if inside else ""


def _place_in_order(name: str) -> tuple[int, str]:
    last = PurePosixPath(name).name
    if checkpoint_of(name):
        return 2 * (last == META), checkpoint_of(name)
    return {METRICS: 1, JOURNAL: 4, RECIPE: 5}.get(last, 3), name


class Background:
    """Does one kind of work in a thread, whenever it is asked for, until it succeeds.

    Args:
        every: seconds after which it is done without being asked for; None for never.
    """

    def __init__(self, work: Callable[[], object], name: str, every: float | None = None) -> None:
        self.work, self.name, self.every = work, name, every
        self.asked = self.done = 0
        self.problem = ""
        self.closing = self.hopeless = False
        self.news = threading.Condition()
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def ask(self) -> int:
        """Ask for the work; return what `wait` waits for."""
        with self.news:
            self.asked += 1
            self.news.notify_all()
            return self.asked

    def wait(self, asked: int, seconds: float | None = None, while_well: bool = False) -> bool:
        """Wait until the work that was asked for is done; return whether it is.

        Args:
            while_well: wait no longer than it goes well.
        """
        with self.news:
            self.news.wait_for(
                lambda: self.done >= asked or (while_well and self.problem != ""), seconds
            )
            return self.done >= asked

    def close(self, seconds: float, while_well: bool = False) -> str:
        """Do the work a last time; return what stood in the way, or "". Args: see `wait`."""
        done = self.wait(self.ask(), seconds, while_well)
        with self.news:
            self.closing, self.hopeless = True, not done
            self.news.notify_all()
        self.thread.join(FIRST_PAUSE)
        return "" if done else self.problem or f"no end after {seconds:.0f} s"

    def _run(self) -> None:
        while True:
            with self.news:
                self.news.wait_for(lambda: self.asked > self.done or self.closing, self.every)
                if self.closing and (self.hopeless or self.asked == self.done):
                    return
                asked = self.asked
            if self._tried():
                with self.news:
                    self.done = asked
                    self.news.notify_all()

    def _tried(self) -> bool:
        """Work until it succeeds, or nobody waits for it any more."""
        pause = FIRST_PAUSE
        while True:
            try:
                self.work()
            except Exception as error:  # Whatever storage does, the training goes on.
                self._note(reason(error))
            else:
                self._note("")
                return True
            with self.news:
                if self.news.wait_for(lambda: self.hopeless, pause):
                    return False
            pause = min(2 * pause, LONGEST_PAUSE)

    def _note(self, problem: str) -> None:
        if problem and not self.problem:
            log.warning("%s: %s; it is tried again, and nothing waits", self.name, problem)
        with self.news:
            self.problem = problem
            self.news.notify_all()
