"""A run folder and its copy in storage: kept up by the search, brought back to a fresh machine.

What trials write on their nodes reaches storage by themselves (`at_hand`). The search adds what it
writes itself, and takes each trial's files when it has ended. Tune's own files, which are pickled,
are never in storage.
"""

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray.tune.result import AUTO_RESULT_KEYS, DEBUG_METRICS, DONE, EXPERIMENT_TAG
from rich.markup import escape

from raysearch.config import Study
from raysearch.data import Cache
from raysearch.data.shared_cache import share
from raysearch.errors import RunError
from raysearch.records.journal import mend
from raysearch.records.listener import Listener
from raysearch.records.lock import OWNER
from raysearch.records.run_folder import END, ERROR, INFO, RECIPE, RunFolder, point_latest
from raysearch.records.terminal.text import make_console
from raysearch.records.trial_record import TrialRecord
from raysearch.search.at_hand import patiently
from raysearch.search.claim import EVERY_SECONDS, Claim, claim, keep
from raysearch.search.pulling import newest_there, pull_trial
from raysearch.search.uploads import KINDS, Background, Stamp, Upload, checkpoint_of, stamps
from raysearch.storage import Storage, reason
from raysearch.training.checkpoint import FINAL, newest
from raysearch.training.history import add_epoch

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 120.0
OF_TUNE = frozenset({*AUTO_RESULT_KEYS, *DEBUG_METRICS, DONE, EXPERIMENT_TAG})
OWN = (RECIPE, END, ERROR)  # What the search itself writes into a trial's folder.


def check_storage(study: Study) -> None:
    """Raise a ConfigError where a study's storage cannot be used."""
    if study.resources.storage:
        Storage.of(study.resources.storage).check()


def storage_notes(study: Study) -> tuple[str, ...]:
    """Say before a search where it is copied to, and how much its checkpoints may take."""
    resources, said = study.resources, list[str]()
    if resources.storage:
        said.append(f"the run folder is copied to {resources.storage}")
    if resources.disk_gb:
        said.append(f"checkpoints take {resources.disk_gb:g} GB at most")
    return tuple(said)


def shared_caches(study: Study, output: Path) -> Storage:
    """Return where nodes without data find decoded images."""
    return Storage.of(study.resources.storage or str(output)) / "cache"


def share_cache(study: Study, cache: Cache, output: Path, coming: int) -> None:
    """Put decoded images where nodes without data find them, if there may be such nodes.

    Args:
        coming: how many nodes the cluster's autoscaler may start.

    Raises:
        RunError: storage or the output folder cannot be written.
    """
    nodes = sum(node["Alive"] for node in ray.nodes()) + coming
    if nodes == 1 and not study.resources.storage:
        return
    shared = shared_caches(study, output)
    try:
        share(cache, shared)
    except OSError as error:
        raise RunError(
            f"{shared}: decoded images cannot be written ({reason(error)}); make room, or check "
            "its permissions"
        ) from error


def storage_of(study: Study, run: Path) -> Storage | None:
    """Return where a run's files are in storage; None where every node sees the run folder."""
    uri = study.resources.storage
    return Storage.of(uri) / f"{run.parent.name}/{run.name}" if uri else None


@contextmanager
def mirrored(run: RunFolder, study: Study) -> Iterator["Mirror | None"]:
    """Keep the copy of a run up while a search works in its folder, and complete it in the end.

    Raises:
        RunError: on entering, where another process searches in the copy.
    """
    storage = storage_of(study, run.path)
    if storage is None:
        yield None
        return
    mirror = Mirror(run, storage, claim(storage))
    try:
        yield mirror
    finally:
        mirror.close()


class Mirror(Listener):
    """Uploads what the search writes, every few seconds and when a trial begins or ends.

    Args:
        claim: that this process searches there; once another does, nothing more is written.
    """

    def __init__(self, run: RunFolder, storage: Storage, claim: Claim) -> None:
        self.run, self.storage, self.claim = run, storage, claim
        self.upload = Upload(run.path, storage, _of_search)
        self.background = Background(self.work, "upload of the search", EVERY_SECONDS)

    @property
    def taken(self) -> str:
        return self.claim.taken

    def work(self) -> None:
        if not self.taken:
            self.upload()

    def search_started(self, run: RunFolder, study: Study) -> None:
        self.background.ask()

    def trial_started(self, record: TrialRecord) -> None:
        self.background.ask()

    def trial_ended(self, record: TrialRecord) -> None:
        self.background.ask()

    def take(self, number: int) -> None:
        """Bring an ended trial's files to this folder.

        Raises:
            OSError: storage is away for long.
        """
        folder = self.run.trial_folder(number)
        storage = self.storage / f"trials/{folder.name}"
        patiently(lambda: pull_trial(storage, folder), PATIENCE_SECONDS)

    def leave(self, number: int) -> None:
        """Leave of an ended trial's checkpoints in storage what is left of them here.

        Raises:
            OSError: storage is away.
        """
        if self.taken:
            return
        folder = self.run.trial_folder(number)
        storage = self.storage / f"trials/{folder.name}"
        Upload(folder, storage, lambda name: name.startswith(f"{FINAL}/"))()
        for kind in KINDS:
            if not (folder / kind).is_dir():
                storage.delete(kind)

    def close(self) -> None:
        """Complete the copy, or say how that is done later."""
        problem = self.background.close(PATIENCE_SECONDS)
        try:
            if not (problem or self.taken):
                push(self.run, self.storage, self.upload.known)
            self.claim.release(delete=not problem)
        except OSError as error:
            problem = reason(error)
        if self.taken:
            told = f"{self.taken}; nothing more of this one was written there."
            make_console(stderr=True).print(f"[bold red]{escape(told)}[/]", soft_wrap=True)
        elif problem:
            make_console(stderr=True).print(
                f"[yellow]{escape(str(self.storage))} lacks some of this search[/] "
                f"({escape(problem)}). Nothing is lost here: `python -m raysearch.runs push "
                f"{escape(str(self.run.path))}` uploads it later.",
                soft_wrap=True,
            )


def push(run: RunFolder, storage: Storage, known: Mapping[str, Stamp] | None = None) -> None:
    """Bring everything of a run folder to storage, but what storage has of a later moment.

    Args:
        known: what is known to be there.

    Raises:
        OSError: storage cannot be reached.
    """
    there = storage.files()
    ahead = {folder for folder in map(run.trial_folder, run.numbers()) if _ahead(folder, there)}
    names = {folder.name for folder in ahead}

    def wanted(name: str) -> bool:
        return _of_search(name) or name.split("/")[1] not in names

    upload = Upload(run.path, storage, wanted)
    # What a trial writes it has brought itself, and it changes its size with every epoch.
    same = {n: s for n, s in stamps(run.path).items() if there.get(n) == s[0]}
    upload.known = {n: s for n, s in same.items() if not _of_search(n) and not checkpoint_of(n)}
    upload.known |= known or {}
    upload()


def _ahead(folder: Path, there: Mapping[str, int]) -> bool:
    """Whether a trial has come further in storage than here."""
    start = f"trials/{folder.name}/"
    names = [name.removeprefix(start) for name in there if name.startswith(start)]
    return newest_there(names) > newest(folder)


def _of_search(name: str) -> bool:
    parts = name.split("/")
    return parts[0] != "trials" or (len(parts) == 3 and parts[2] in OWN)


def find_in_storage(uri: str, name: str, output: Path) -> RunFolder:
    """Return the run to go on with, brought here where it is not here yet.

    Args:
        uri: of the storage that searches were started with.
        name: STUDY for its newest run, or STUDY/RUN.

    Raises:
        ConfigError: storage cannot be used.
        RunError: there is no such run, or it is searched in at this moment.
    """
    storage = Storage.of(uri)
    storage.check()
    study, _, run = name.partition("/")
    try:
        # The names of runs begin with their time; what has no description is none.
        newest_first = sorted((storage / study).folders(), reverse=True)
        there = (one for one in newest_first if (storage / study / one).has(INFO))
        found = next((one for one in there if run in ("", one)), "")
    except OSError as error:
        raise RunError(f"{storage}: cannot be read ({reason(error)}); try again") from error
    if not found:
        hint = f" It holds {', '.join(newest_first)}." if newest_first else ""
        raise RunError(f"{storage}: holds no search {name}.{hint} Correct --storage or --resume")
    path = output.absolute() / study / found
    return RunFolder(path) if path.exists() else pull_run(str(storage / study / found), output)


def pull_run(uri: str, output: Path) -> RunFolder:
    """Bring a run from storage into an output folder of this machine, to go on with it.

    What running trials resume from stays in storage; the nodes that train them take it.

    Args:
        uri: of the run, such as s3://bucket/prefix/animals/20260101-120000.

    Raises:
        ConfigError: storage cannot be used.
        RunError: there is no such run, it is searched in at this moment, or it is here already.
    """
    storage = Storage.of(uri, levels=2)
    Storage(storage.uri).check()
    study, _, name = storage.folder.partition("/")
    path = output.absolute() / study / name
    if path.exists():
        raise RunError(
            f"{path}: is here already; go on with it by --resume {study}/{name}, or move it away "
            "to take the one in storage"
        )
    try:
        if not storage.has(INFO):
            raise RunError(f"{storage}: holds no search ({INFO} is missing); correct the URI")
        mine = claim(storage)
        try:
            aside = path.with_name(f".{name}.pulled")
            _pull(storage, aside)
        except BaseException:
            with suppress(OSError):
                mine.release()
            raise
        keep(mine)
    except OSError as error:
        raise RunError(f"{storage}: cannot be read ({reason(error)}); try again") from error
    aside.rename(path)
    point_latest(path.parent)
    return RunFolder(path)


def _pull(storage: Storage, folder: Path) -> None:
    """Download a run's files; ended trials bring all that they have kept."""
    shutil.rmtree(folder, ignore_errors=True)
    names = storage.files()
    for name in names:
        if not name.startswith("trials/") and name != OWNER:
            storage.download(name, folder / name)
    for trial in sorted({name.split("/")[1] for name in names if name.startswith("trials/")}):
        if f"trials/{trial}/{RECIPE}" in names:
            ended = f"trials/{trial}/{END}" in names
            pull_trial(storage / f"trials/{trial}", folder / "trials" / trial, last=ended)
    run = RunFolder(folder)
    run.trials_folder.mkdir(exist_ok=True)
    mend(run.journal)
    run.describe(owner=folder.stat().st_uid)  # It holds none of Tune's pickles, so it can be ours.


def fill_in(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Add an epoch, as its trial reported it, to the history in this machine's folder.

    A trial on another node writes its history there, and it comes here when the trial has ended.
    """
    add_epoch(folder, {key: v for key, v in metrics.items() if key not in OF_TUNE})
