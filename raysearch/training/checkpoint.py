"""Checkpoints that survive a kill at any moment: written aside, renamed, verified when read.

A checkpoint is a folder `epoch-0007` with `weights.safetensors`, `state.pt` (tensors and plain
values that load with `weights_only=True`) and `meta.json`, which holds the checksums of the two.
One that was written in the middle of epoch 8, after 123 steps of it, is `epoch-0007+000123`.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

log = logging.getLogger(__name__)

# Of a trial: its best epoch, its newest to resume from, those kept every so many epochs, and, when
# it has ended later than at its best, what its last epoch had learned.
BEST, LAST, EVERY, FINAL = "best", "last", "every", "final"


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint as read: epochs count from 1. `model` says what the weights belong to.

    step: how far the next epoch had come.
    metrics: of the epoch.
    """

    epoch: int
    weights: dict[str, Tensor]
    state: dict[str, Any]
    metrics: dict[str, Any]
    model: dict[str, Any]
    step: int = 0


def save(
    folder: Path,
    epoch: int,
    weights: Mapping[str, Tensor],
    state: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
    keep: int | None = 2,
    step: int = 0,
) -> Path:
    """Write a checkpoint into folder and delete all but the `keep` newest there (None: none)."""
    folder.mkdir(parents=True, exist_ok=True)
    for broken_off in folder.glob(".epoch-*"):
        shutil.rmtree(broken_off, ignore_errors=True)
    aside = folder / f".{_name(epoch, step)}.{os.getpid()}"
    aside.mkdir()
    save_file({k: v.detach().cpu().contiguous() for k, v in weights.items()}, aside / WEIGHTS)
    torch.save(dict(state or {}), aside / STATE)
    meta = {
        "epoch": epoch,
        "step": step,
        "metrics": dict(metrics or {}),
        "model": dict(model or {}),
    }
    checksums = {name: _checksum(aside / name) for name in (WEIGHTS, STATE)}
    whole = meta | {"sha256": checksums | {META: _digest(meta)}}
    (aside / META).write_text(json.dumps(whole), encoding="utf-8")
    for path in aside.iterdir():
        path.chmod(0o644)  # safetensors writes for the owner alone.
        _flush(path)
    final = folder / _name(epoch, step)
    shutil.rmtree(final, ignore_errors=True)
    aside.rename(final)
    _flush(folder)
    for old in [] if keep is None else list(_newest_first(folder))[keep:]:
        shutil.rmtree(old, ignore_errors=True)
    return final


WEIGHTS, STATE, META = "weights.safetensors", "state.pt", "meta.json"


def load(
    folder: Path, at_most: tuple[int, int] | None = None, ended: bool = False
) -> Checkpoint | None:
    """Read the newest whole checkpoint of folder; a damaged one is passed over with a warning.

    Args:
        at_most: pass over checkpoints of later epochs and steps.
        ended: pass over those in the middle of an epoch.
    """
    for path in _newest_first(folder):
        epoch, step = place(path)
        if (at_most is not None and (epoch, step) > at_most) or (ended and step):
            continue
        try:
            return _read(path)
        except Exception as error:
            log.warning("%s is damaged (%s); the checkpoint before it is used", path, error)
    return None


def newest(trial: Path) -> tuple[int, int]:
    """Return epoch and step of the newest checkpoint that a trial could resume from."""
    path = next(_newest_first(trial / LAST), None)
    return place(path) if path else (0, 0)


def finish(trial: Path, keep: bool) -> None:
    """Delete what an ended trial would resume from.

    Args:
        trial: its folder.
        keep: leave in `final` what validation measured at the last epoch, where that is not the
            best one.
    """
    found = load(trial / LAST, ended=True) if keep else None
    if found is not None and not (trial / BEST / _name(found.epoch)).is_dir():
        averaged = found.state["ema"]
        inner = "module."
        weights = {k.removeprefix(inner): v for k, v in averaged.items() if k.startswith(inner)}
        save(
            trial / FINAL, found.epoch, weights or found.weights,
            metrics=found.metrics, model=found.model, keep=1,
        )  # fmt: skip
    shutil.rmtree(trial / LAST, ignore_errors=True)


def _name(epoch: int, step: int = 0) -> str:
    return f"epoch-{epoch:04d}+{step:06d}" if step else f"epoch-{epoch:04d}"


def place(checkpoint: PurePath | str) -> tuple[int, int]:
    """Return epoch and step of a checkpoint's folder, such as last/epoch-0007+000123."""
    epoch, _, step = PurePath(checkpoint).name.removeprefix("epoch-").partition("+")
    return int(epoch), int(step or 0)


def _read(path: Path) -> Checkpoint:
    meta = json.loads((path / META).read_text(encoding="utf-8"))
    checksums = meta.pop("sha256")
    if checksums.pop(META, _digest(meta)) != _digest(meta):  # Earlier versions wrote none.
        raise ValueError(f"the checksum of {META} does not match")
    for name, checksum in checksums.items():
        if _checksum(path / name) != checksum:
            raise ValueError(f"the checksum of {name} does not match")
    state = torch.load(path / STATE, weights_only=True, map_location="cpu")
    weights = load_file(path / WEIGHTS)
    return Checkpoint(
        meta["epoch"], weights, state, meta["metrics"], meta["model"], meta.get("step", 0)
    )


def _newest_first(folder: Path) -> Iterator[Path]:
    return iter(sorted(folder.glob("epoch-*"), key=place, reverse=True))


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(meta: Mapping[str, Any]) -> str:
    """Checksum of what a checkpoint says beside its checksums."""
    return hashlib.sha256(json.dumps(meta).encode()).hexdigest()


def _flush(path: Path) -> None:
    """Make sure that a file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
