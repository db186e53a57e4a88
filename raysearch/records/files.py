"""Files that are whole after a kill at any moment: written aside, flushed to the disk, renamed."""

import errno
import json
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from raysearch.errors import RunError
from raysearch.redaction import all_redacted

FULL = (errno.ENOSPC, errno.EDQUOT)  # The disk, or the user's share of it.


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step.

    Raises:
        RunError: the folder cannot be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with aside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            aside.unlink()
        raise RunError(f"{path}: cannot be written ({error.strerror}); {_repair(error)}") from error


def _repair(error: OSError) -> str:
    if error.errno in FULL:
        return "make room there, then finish the search with --resume"
    return "change the folder's permissions, or choose another folder with --output"


def write_json(path: Path, values: Any) -> None:
    """Write values as JSON in one step, credentials in them hidden."""
    write_text(path, json.dumps(all_redacted(values), indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a mapping from JSON.

    Raises:
        RunError: the file is missing, cannot be read or is no mapping.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: cannot be read ({error}); restore it from a backup") from error
    if not isinstance(values, dict):
        raise RunError(f"{path}: holds no mapping; restore it from a backup")
    return values


def _flush_folder(folder: Path) -> None:
    """Put a folder's names on the disk; Windows has no such call and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
