"""Room for the cache of decoded images, and for checkpoints."""

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from raysearch.diagnosis.result import Result, gigabytes

LEAST, ENOUGH = 1e9, 1e10  # bytes: below the first nothing can be trained for long.


def disk(paths: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Look at the disks below folders, which need not exist yet.

    Returns:
        For each path: free (bytes), and writable: whether this user may write there.
    """
    return {path: _disk(Path(path).expanduser()) for path in paths}


def _disk(path: Path) -> dict[str, Any]:
    there = nearest(path)
    writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    return {"free": shutil.disk_usage(there).free, "writable": writable}


def nearest(path: Path) -> Path:
    """Return what exists of a path: itself, or the closest folder above it."""
    path = path.absolute()
    return next(one for one in (path, *path.parents) if one.exists())


def judge_disk(
    node: str, told: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]
) -> list[Result]:
    """Judge each folder of `disk`.

    Args:
        names: what each path is for, such as cache.
    """
    return [_judge(node, names[path], path, one) for path, one in told.items()]


def _judge(node: str, name: str, path: str, told: Mapping[str, Any]) -> Result:
    check = f"disk for {name}"
    if not told["writable"]:
        repair = f"give this user the right to write {path}, or choose another folder"
        return Result(check, node, f"{path}: cannot be written", "failed", repair)
    text = f"{gigabytes(told['free'])} free for {path}"
    if told["free"] >= ENOUGH:
        return Result(check, node, text)
    repair = "free the disk (`python -m raysearch.runs clean` removes runs), or choose another"
    return Result(check, node, text, "failed" if told["free"] < LEAST else "warning", repair)
