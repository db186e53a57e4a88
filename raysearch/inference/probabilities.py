"""What every candidate of an ensemble says of a split: computed once, kept on disk.

`<run>/probabilities/<split>/<trial>-<epoch>.npy` is flat float16: the probabilities (K, H, W) of
each image at its native size, or (K,) of a classified one, in the order of the split. The JSON of
the same name says which weights and images they come from; what does not match is computed again.
One image is mapped at a time, so memory depends on neither images nor candidates.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from raysearch.data import Data
from raysearch.errors import RunError
from raysearch.inference.asking import asked
from raysearch.training.checkpoint import BEST, FINAL, META, WEIGHTS
from raysearch.training.metrics import build_metrics
from raysearch.training.trained import Trained, load_trained

PROBABILITIES = "probabilities"
LEAST = 1e-7  # Under what float16 can tell from 0.


@dataclass(frozen=True)
class Candidate:
    """A kept checkpoint of a search: the best epoch of a trial, or its last one.

    Attributes:
        place: folder of the checkpoint, such as trials/0007/best.
        checksum: of the weights.
        size: of the weights' file in bytes.
    """

    place: Path
    epoch: int
    checksum: str
    size: int

    @property
    def trial(self) -> int:
        return int(self.place.parent.name)

    @property
    def run(self) -> Path:
        """Folder of the search."""
        return self.place.parents[2]

    @property
    def name(self) -> str:
        return f"{self.trial:04d}-{self.epoch:04d}"

    def answers(self, split: str) -> Path:
        """Return the file of what it says of a split."""
        return self.run / PROBABILITIES / split / f"{self.name}.npy"


@dataclass(frozen=True)
class Probabilities:
    """A candidate's answers, on disk.

    Attributes:
        shapes: of each image's answer, in the order of the split: (K, H, W), or (K,).
        metrics: of the candidate alone on the split, as validation measures them.
        seconds_per_image: of the network, the median over batches where it was asked.
    """

    candidate: Candidate
    path: Path
    shapes: tuple[tuple[int, ...], ...]
    metrics: dict[str, float]
    seconds_per_image: float

    @cached_property
    def offsets(self) -> list[int]:
        return _offsets(self.shapes)

    def image(self, position: int, step: int = 1) -> Tensor:
        """Return one image's probabilities, float32 (1, K, h, w) or (1, K).

        Args:
            step: take every so manyth row and column, from the middle of the first.
        """
        stored = np.load(self.path, mmap_mode="r")
        begin, end = self.offsets[position : position + 2]
        one = stored[begin:end].reshape(self.shapes[position])
        if one.ndim == 3:
            one = one[:, step // 2 :: step, step // 2 :: step]
        return torch.from_numpy(one.astype(np.float32))[None]

    def rows(self, positions: range) -> Tensor:
        """Return what is said of whole images that follow each other, float32 (N, K)."""
        begin, end = self.offsets[positions[0]], self.offsets[positions[-1] + 1]
        rows = np.load(self.path, mmap_mode="r")[begin:end].astype(np.float32)
        return torch.from_numpy(rows).view(len(positions), -1)


def as_logits(probabilities: Tensor) -> Tensor:
    """Return logits whose softmax is these probabilities."""
    return probabilities.clamp_min(LEAST).log()


def candidates(run: Path) -> list[Candidate]:
    """Return the kept checkpoints of a search's ended trials that did not fail, by number."""
    found = []
    for folder in sorted((run / "trials").glob("[0-9]*")):
        end = folder / "end.json"
        if not end.is_file() or json.loads(end.read_text(encoding="utf-8"))["value"] is None:
            continue
        for place in (folder / BEST, folder / FINAL):
            found += [_candidate(path) for path in sorted(place.glob("epoch-*"))[-1:]]
    return found


def _candidate(path: Path) -> Candidate:
    meta = json.loads((path / META).read_text(encoding="utf-8"))
    size = (path / WEIGHTS).stat().st_size
    return Candidate(path.parent, meta["epoch"], meta["sha256"][WEIGHTS], size)


Map = Callable[[Callable[[Candidate], Probabilities], Iterable[Candidate]], Iterable[Probabilities]]


def compute_all(
    wanted: Iterable[Candidate],
    data: Data,
    split: str,
    device: torch.device,
    how: Map = map,
) -> Iterator[Probabilities]:
    """Yield each candidate's answers, those first that are on the disk already.

    Args:
        how: maps a function, which pickles, over candidates: one after the other, or over machines.
    """
    missing = []
    for candidate in wanted:
        there = stored(candidate, data, split)
        if there is None:
            missing.append(candidate)
        else:
            yield there
    if missing:
        yield from how(partial(compute, data=data, split=split, device=device), missing)


def stored(candidate: Candidate, data: Data, split: str) -> Probabilities | None:
    """Return a candidate's answers, or None where they are not there, or not of these images."""
    path = candidate.answers(split)
    told, identity = _told(path), _identity(candidate, data, split)
    if told is None or any(told.get(key) != value for key, value in identity.items()):
        return None
    shapes = _shapes(data, split)
    return Probabilities(candidate, path, shapes, told["metrics"], told["seconds_per_image"])


def compute(candidate: Candidate, data: Data, split: str, device: torch.device) -> Probabilities:
    """Ask a candidate about a split, and keep its answers.

    Raises:
        RunError: no weights that can be read, or no room on the disk.
    """
    path, shapes = candidate.answers(split), _shapes(data, split)
    # Not in inference mode, in which some networks cannot be built.
    trained = load_trained(candidate.place, device)
    told = _ask(trained, data, split, path, shapes)
    described = json.dumps(_identity(candidate, data, split) | told, indent=2)
    path.with_suffix(".json").write_text(described, encoding="utf-8")
    return Probabilities(candidate, path, shapes, told["metrics"], told["seconds_per_image"])


def _identity(candidate: Candidate, data: Data, split: str) -> dict[str, str]:
    return {"checksum": candidate.checksum, "images": _images(data, split)}


def _told(path: Path) -> dict[str, Any] | None:
    """What is known of a file that is whole."""
    try:
        told: dict[str, Any] = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return told if path.is_file() else None


@torch.inference_mode()
def _ask(
    trained: Trained, data: Data, split: str, path: Path, shapes: tuple[tuple[int, ...], ...]
) -> dict[str, Any]:
    offsets, device = _offsets(shapes), trained.normalise.scale.device
    assert isinstance(device, torch.device)
    path.parent.mkdir(parents=True, exist_ok=True)
    _make_room(path, 2 * offsets[-1])
    path.with_suffix(".json").unlink(missing_ok=True)
    aside = path.with_name(f".{path.name}")
    open_memmap(aside, mode="w+", dtype=np.float16, shape=(offsets[-1],))
    metrics, seconds = build_metrics(trained.task, device), []
    positions = {index: position for position, index in enumerate(data.indices(split))}
    for batch, logits, spent in asked(trained, data, split):
        seconds.append(spent)
        stored = np.load(aside, mmap_mode="r+")
        for index, native, target in batch.native(logits):
            metrics.update(native, target.to(device))
            place = positions[index]
            begin, end = offsets[place : place + 2]
            stored[begin:end] = native.softmax(1).cpu().numpy().reshape(-1)
        stored.flush()
        del stored
    aside.replace(path)
    return {"metrics": metrics.compute(), "seconds_per_image": median(seconds)}


def _make_room(path: Path, size: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if size > free:
        raise RunError(
            f"{path}: needs {size / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free; free the "
            "disk, or take fewer images"
        )


def _shapes(data: Data, split: str) -> tuple[tuple[int, ...], ...]:
    if not data.cache.segmented:
        return tuple((data.num_classes,) for _ in data.indices(split))
    return tuple((data.num_classes, *data.cache.shape(index)) for index in data.indices(split))


def _offsets(shapes: Iterable[tuple[int, ...]]) -> list[int]:
    return [0, *np.cumsum([np.prod(shape, dtype=np.int64) for shape in shapes]).tolist()]


def _images(data: Data, split: str) -> str:
    """Return a digest of which images are meant, and of their bytes."""
    names = "\n".join([data.digest, *getattr(data.splits, split)])
    return hashlib.sha256(names.encode()).hexdigest()
