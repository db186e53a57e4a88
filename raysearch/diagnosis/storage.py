"""Whether what one node writes is what the others read."""

import secrets
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from raysearch.diagnosis.result import HERE, Everywhere, Result, answered
from raysearch.errors import ConfigError, RunError
from raysearch.storage import Storage, reason

REPAIR = (
    "let every node see one file system under this path (NFS, EFS, FSx), or give --storage an "
    "s3:// or gs:// address that every node has the rights to"
)
UNUSABLE = "check its spelling, that the folder or bucket exists, and the rights to write there"


def check_alone(place: str) -> Result:
    """Write, read and remove a file from this process."""
    storage = Storage.of(place)
    try:
        storage.check()
    except ConfigError as error:
        return Result("storage", HERE, str(error), "failed", UNUSABLE)
    return Result("storage", HERE, f"{storage}: written, read, removed")


def write(place: str) -> tuple[str, str]:
    """Write a small file with a new name; return its name and its text.

    Raises:
        RunError: the place cannot be used.
    """
    name = f".raysearch-doctor-{secrets.token_hex(8)}"
    text = f"{socket.gethostname()} {secrets.token_hex(8)}"
    try:
        Storage.of(place).write(name, text.encode())
    except (OSError, ValueError, NotImplementedError) as error:
        raise RunError(f"cannot be written ({reason(error)})") from error
    return name, text


def read(place: str, names: Sequence[str]) -> list[str]:
    """Read files of `write`; the text is empty where one cannot be read."""
    return [_read(Storage.of(place), name) for name in names]


def _read(storage: Storage, name: str) -> str:
    try:
        return storage.read(name).decode()
    except (OSError, ValueError, NotImplementedError):
        return ""


def write_too(place: str, name: str, text: str) -> tuple[str, str]:
    """Write a file where another machine's is seen; one that is not shared is left as it is.

    Raises:
        RunError: the other's file is not there, or the place cannot be written.
    """
    if read(place, [name]) != [text]:
        raise RunError(f"does not see what {text.split()[0]} wrote")
    return write(place)


def check_shared(everywhere: Everywhere, place: str) -> list[Result]:
    """Write a file here and on every node that sees it, and let every node read all of them."""
    made: list[str] = []
    try:
        first = write(place)
        made.append(first[0])
        written, blind = answered("storage", everywhere(write_too, place, *first), REPAIR)
        made += [name for name, _ in written.values()]
        told, silent = answered("storage", everywhere(read, place, made), REPAIR)
    except RunError as error:
        return [Result("storage", HERE, f"{place}: {error}", "failed", UNUSABLE)]
    finally:
        _remove(place, made)
    files = {HERE: first, **written}
    seen = {node: texts for node, texts in told.items() if node in written}
    failures = {result.node: result for result in (*silent, *blind)}
    return [*failures.values(), *(judge_read(place, node, files, seen[node]) for node in seen)]


def _remove(place: str, names: Sequence[str]) -> None:
    for name in names:
        Storage.of(place).delete(name)


def judge_read(
    place: str, node: str, files: Mapping[str, tuple[str, str]], texts: Sequence[str]
) -> Result:
    """Judge what one node has read.

    Args:
        files: name and text of what each machine wrote.
        texts: of these files, as the node has read them.
    """
    read_there = zip(files.items(), texts, strict=True)
    missed = [other for (other, (_, text)), seen in read_there if seen != text]
    if missed:
        text = f"{place}: does not see what {', '.join(missed)} wrote"
        return Result("storage", node, text, "failed", REPAIR)
    return Result("storage", node, f"{place}: written there, read everywhere")


@contextmanager
def kept_as_it_was(folder: Path) -> Iterator[None]:
    """Remove a folder again that was not there before, and those above it."""
    new = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        yield
    finally:
        for one in new:
            if one.is_dir() and not any(one.iterdir()):
                one.rmdir()
