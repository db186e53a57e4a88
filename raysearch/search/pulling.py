"""Bringing a trial's folder from storage to this node, where storage has come further."""

import shutil
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath

from filelock import FileLock

from raysearch.search.uploads import KINDS, checkpoint_of
from raysearch.storage import Storage
from raysearch.training.checkpoint import BEST, EVERY, LAST, META, newest, place

Place = tuple[int, int]  # epoch, and step of the next one


def pull_trial(storage: Storage, folder: Path, last: bool = True) -> None:
    """Bring a trial's folder up to date; what this node has of a later moment stays.

    Args:
        storage: of this trial.
        last: whether what it resumes from comes too.

    Raises:
        OSError: storage cannot be reached; nothing is half there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".pull"):
        there = storage.files()
        if newest_there(there) > newest(folder):
            wanted = _whole(there)
            _take(storage, folder, wanted if last else [n for n in wanted if not _of(n, LAST)])
            _drop_others(folder, {checkpoint_of(name) for name in wanted})
        else:
            kinds = {kind for kind in KINDS if (folder / kind).is_dir()}
            lacking = (n for n in _whole(there) if not (folder / n).exists())
            _take(storage, folder, (n for n in lacking if not any(_of(n, kind) for kind in kinds)))


def newest_there(there: Iterable[str]) -> Place:
    """Return epoch and step of the newest whole checkpoint in storage; (0, 0) for none."""
    found = (checkpoint_of(n) for n in there if _of(n, LAST) and n.endswith(f"/{META}"))
    return max(map(place, found), default=(0, 0))


def _of(name: str, kind: str) -> bool:
    return bool(checkpoint_of(name)) and PurePosixPath(name).parts[-3] == kind


def _whole(there: Mapping[str, int]) -> list[str]:
    """The files to take: of checkpoints only whole ones, and none of epochs that are to come again.

    Those can be there of a process that was lost between its best epoch and its last.
    """
    end = newest_there(there)

    def good(name: str) -> bool:
        folder = checkpoint_of(name)
        if not folder:
            return True
        later = end != (0, 0) and (_of(name, BEST) or _of(name, EVERY)) and place(folder) > end
        return f"{folder}/{META}" in there and not later

    return [name for name in there if good(name)]


def _take(storage: Storage, folder: Path, names: Iterable[str]) -> None:
    """Download files; a checkpoint's folder gets its name when it is whole."""
    asides: dict[str, Path] = {}
    for name in names:
        checkpoint = checkpoint_of(name)
        target = folder / name
        if checkpoint:
            final = folder / checkpoint
            asides[checkpoint] = final.with_name(f".{final.name}.pulled")
            target = asides[checkpoint] / target.name
        storage.download(name, target)
    for checkpoint, aside in asides.items():
        shutil.rmtree(folder / checkpoint, ignore_errors=True)
        aside.rename(folder / checkpoint)


def _drop_others(folder: Path, kept: Collection[str]) -> None:
    """Delete checkpoints of this node that storage, which has come further, no longer has."""
    for path in folder.glob("*/epoch-*"):
        if path.parent.name in KINDS and path.relative_to(folder).as_posix() not in kept:
            shutil.rmtree(path, ignore_errors=True)
