"""How many images of a network the GPU holds at once: tried once per kind of GPU, and remembered.

The batch of a recipe is the effective one. A share of it that does not fit is taken in more parts,
whose gradients add up to the same step (batch normalisation alone sees the smaller parts).
"""

import gc
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from filelock import FileLock

GIB = 2**30
# For fault tests: a forward pass of more images than this fails as if the GPU were full.
INJECTED = "RAYSEARCH_INJECT_OOM_ABOVE"
# In a trial's folder: what training itself found out.
MICRO_BATCH = "micro_batch.json"
# What a process takes of a GPU beside torch's own memory: its CUDA context and its kernels.
CONTEXT = 0.75 * GIB
FULL = re.compile(
    r"(CUDA|HIP|MPS backend)( error:)? out of memory|(CUBLAS|CUDNN|HIPBLAS)_STATUS_ALLOC_FAILED"
)


def inject(images: int) -> None:
    """Raise torch.OutOfMemoryError where a fault test asks for it: see `INJECTED`."""
    limit = os.environ.get(INJECTED)
    if limit is not None and images > int(limit):
        raise torch.OutOfMemoryError(f"CUDA out of memory. {INJECTED}={limit}, asked: {images}")


def is_oom(error: BaseException) -> bool:
    """Whether the memory of a GPU was exhausted, whichever library says so."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and FULL.search(str(error)) is not None


def free_memory() -> None:
    """Give back what no tensor holds any longer."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def limit_process(device: torch.device, gpus: float) -> None:
    """Keep a process that shares a GPU to its share, so that none starves the others.

    Args:
        gpus: reserved; from 1 on there is no limit.
    """
    if device.type == "cuda" and 0 < gpus < 1:
        total = torch.cuda.get_device_properties(device).total_memory
        share = max(gpus / 2, gpus - CONTEXT / total)
        torch.cuda.set_per_process_memory_fraction(share, device)


def micro_batches(share: int, least: int = 1, most: int | None = None) -> list[int]:
    """Return, ascending, how many images the largest part of a share may have.

    Args:
        least: parts that the share is taken in.
        most: parts; left out, one for each image.
    """
    return sorted({-(-share // parts) for parts in range(least, (most or share) + 1)})


def parts_for(share: int, largest: int, accumulation: int = 1) -> int:
    """Return the least number of parts, from `accumulation` on, of which none exceeds `largest`."""
    return max(accumulation, -(-share // largest))


class Bounds(NamedTuple):
    """What is known of a key: the most images that fitted, and the fewest that did not."""

    fits: int = 0
    fails: int | None = None

    def unknown(self, sizes: Sequence[int]) -> list[int]:
        """Return the sizes of which neither is known."""
        return [n for n in sizes if n > self.fits and (self.fails is None or n < self.fails)]

    def next(self, sizes: Sequence[int]) -> int:
        """Return the size to try next: the largest, then half of what failed, then the middle."""
        if self.fails is None:
            return sizes[-1]
        if self.fits == 0:
            return max((n for n in sizes if n <= self.fails // 2), default=sizes[0])
        return sizes[len(sizes) // 2]


@dataclass(frozen=True)
class Limits:
    """The bounds of every key on one kind of GPU, in a file that all trials share."""

    path: Path

    @classmethod
    def of(cls, folder: Path, device: torch.device, gpus: float = 1.0) -> "Limits":
        """Return those of a CUDA device, or of a trial's share of it."""
        found = torch.cuda.get_device_properties(device)
        return cls(folder / file_name(found.name, found.total_memory, gpus))

    def known(self, key: str) -> Bounds:
        return Bounds(**self._read().get(key, {}))

    def note(self, key: str, *, fits: int = 0, fails: int | None = None) -> Bounds:
        """Remember one more try, which counts for more than what was known before."""
        with self._lock(self.path.name):
            told = self._read()
            before = Bounds(**told.get(key, {}))
            if fails is None:
                still = before.fails if before.fails and before.fails > fits else None
                bounds = Bounds(max(before.fits, fits), still)
            else:
                least = min(fails, before.fails or fails)
                # What a probe said of more than half is no longer believed.
                bounds = Bounds(before.fits if before.fits < fails else fails // 2, least)
            replace_json(self.path, told | {key: bounds._asdict()})
        return bounds

    def largest(self, key: str, sizes: Sequence[int], step: Callable[[int], object]) -> int:
        """Return the largest size that fits; 0 where not even the smallest does.

        Only what is unknown is tried, and by one process at a time: the others then know it.

        Args:
            sizes: ascending.
            step: trains a part of so many images, or raises that the memory is exhausted.
        """
        with self._lock(key):
            bounds = self.known(key)
            while unknown := bounds.unknown(sizes):
                images = bounds.next(unknown)
                if _fits(step, images):
                    bounds = self.note(key, fits=images)
                elif images > sizes[0]:
                    bounds = self.note(key, fails=images)
                else:  # Not remembered: another process may have filled the GPU.
                    return 0
            return max((n for n in sizes if n <= bounds.fits), default=0)

    def _read(self) -> dict[str, Any]:
        found = read_json(self.path)
        return found if isinstance(found, dict) else {}

    def _lock(self, name: str) -> FileLock:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(self.path.with_name(f".{name}.lock"))


def _fits(step: Callable[[int], object], images: int) -> bool:
    try:
        step(images)
        return True
    except RuntimeError as error:
        if not is_oom(error):
            raise
    free_memory()  # Here, where the error no longer holds the tensors of its frames.
    return False


def file_name(gpu: str, total: int, gpus: float = 1.0) -> str:
    """Return the name of the file of a kind of GPU, such as nvidia-h100-80gb-hbm3-79.json."""
    slug = re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")
    return f"{slug}-{total / GIB:.0f}{f'-{gpus:g}' if gpus < 1 else ''}.json"


def key_of(name: str, told: Mapping[str, Any]) -> str:
    """Return a name with the digest of everything that the memory depends on."""
    text = json.dumps(told, sort_keys=True, default=str)
    return f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def allowed(folder: Path) -> int | None:
    """Return how many images a part of a trial may have since its memory was exhausted."""
    found = read_json(folder / MICRO_BATCH)
    return int(found["largest"]) if found else None


def read_json(path: Path) -> Any:
    """Read what `replace_json` has written; None where there is nothing."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def replace_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a mapping aside and rename it."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    aside.replace(path)
