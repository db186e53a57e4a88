"""What the node cache is worth: images a second, and memory of each further trial.

    python benchmarks/data.py --data DIR

Speed: one thread, files and cache both in the page cache of the operating system, image and mask
read by the study's format, whole or augmented for training. Memory: trial processes that are alive
at the same time and have each gone through a training and a validation epoch, without a network;
private memory (unique set size) above that of a process which has only imported the same.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from raysearch.config import DataConfig, Recipe, Task
from raysearch.data import Data, open_data, training_batches, validation_batches
from raysearch.data.augmentation import augmentation, reseed
from raysearch.data.formats import reader
from raysearch.data.sample import generate
from raysearch.study import load_study

MEGABYTE = 1e6
PASS, ROUNDS = 100, 5


def main() -> None:
    arguments = parse()
    data = load_study(arguments.study).data
    recipe = Recipe(
        architecture="none",
        image_size=arguments.image_size,
        crop_size=arguments.image_size,
        elastic=False,
    )
    task = Task("segmentation", data.bands, tuple(data.classes), data.ignore_index)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = arguments.data or generate("animals", Path(folder))
        began = time.perf_counter()
        opened = open_data(data, root, Path(folder) / "cache", seed=0)
        built = time.perf_counter() - began
        stored = sum(path.stat().st_size for path in opened.cache.path.iterdir()) / MEGABYTE
        print(f"{len(opened.cache)} images of {root}: cache of {stored:.0f} MB in {built:.1f} s\n")
        print_speed(speeds(data, root, opened, recipe, task), arguments.image_size)
        print_memory(memory(opened, recipe, task, arguments.trials))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="the data set's folder; left out: sample data")
    parser.add_argument("--study", default="animals", help="whose data settings to read it with")
    parser.add_argument("--image-size", type=int, default=128, help="pixels, for the augmentation")
    parser.add_argument("--trials", type=int, default=3, help="processes alive at the same time")
    return parser.parse_args()


def speeds(
    data: DataConfig, root: Path, opened: Data, recipe: Recipe, task: Task
) -> dict[str, tuple[float, float]]:
    """Return images a second (from files, from the cache), whole and augmented."""
    source = reader(data.format)(root, data)
    samples = source.samples()
    transform = augmentation(recipe, task)

    def from_files(index: int) -> tuple[np.ndarray, np.ndarray]:
        return source.image(samples[index]), source.target(samples[index])

    def from_cache(index: int) -> tuple[np.ndarray, np.ndarray]:
        return opened.cache.image(index), opened.cache.mask(index)

    def whole(image: np.ndarray, mask: np.ndarray) -> None:
        # A copy, since a view alone would not touch the pages.
        image.copy(), mask.copy()

    def augmented(image: np.ndarray, mask: np.ndarray) -> None:
        reseed(transform, len(image))
        transform(image=image, mask=mask)

    indices = np.random.default_rng(0).permutation(len(samples))[:PASS].tolist()
    found = {}
    for name, use in (("whole", whole), ("augmented", augmented)):
        files, cache = fastest([from_files, from_cache], use, indices)
        found[name] = (files, cache)
    return found


def fastest(
    reads: Sequence[Callable[[int], Any]], use: Callable[..., None], indices: Sequence[int]
) -> list[float]:
    """Return images a second of each way to read: the best of passes taken in turn."""
    seconds = [float("inf")] * len(reads)
    for _ in range(ROUNDS):
        for number, read in enumerate(reads):
            began = time.perf_counter()
            for index in indices:
                use(*read(index))
            seconds[number] = min(seconds[number], time.perf_counter() - began)
    return [len(indices) / passed for passed in seconds]


def memory(opened: Data, recipe: Recipe, task: Task, trials: int) -> list[tuple[str, float]]:
    """Return private megabytes of an idle process and of each trial, all alive at once."""
    context = get_context("spawn")
    processes, pipes = [], []
    for work in (None, *[(opened, recipe, task)] * trials):
        here, there = context.Pipe()
        process = context.Process(target=trial, args=(there, work), daemon=True)
        process.start()
        processes.append(process)
        pipes.append(here)
    for pipe in pipes:
        pipe.recv()
    names = ["idle", *(f"trial {number}" for number in range(1, trials + 1))]
    private = [psutil.Process(p.pid).memory_full_info().uss / MEGABYTE for p in processes]
    for process in processes:
        process.kill()
        process.join()
    return list(zip(names, private, strict=True))


def trial(pipe: Connection, work: tuple[Data, Recipe, Task] | None) -> None:
    """Go through an epoch as a trial does, then wait to be measured."""
    torch.set_num_threads(1)
    if work:
        opened, recipe, task = work
        for _ in training_batches(opened, recipe, task):
            pass
        for batch in validation_batches(opened, recipe):
            batch.images.float()
    pipe.send("ready")
    time.sleep(3600)


def print_speed(found: dict[str, tuple[float, float]], size: int) -> None:
    print(f"images a second     {'files':>10} {'cache':>10} {'ratio':>8}")
    for name, (files, cache) in found.items():
        label = name if name == "whole" else f"{name}, {size} px"
        print(f"{label:<19} {files:>10.0f} {cache:>10.0f} {cache / files:>7.1f}x")


def print_memory(found: list[tuple[str, float]]) -> None:
    idle = found[0][1]
    print(f"\nprivate memory      {'MB':>10} {'above idle':>21}")
    for name, private in found:
        print(f"{name:<19} {private:>10.0f} {private - idle:>21.0f}")


if __name__ == "__main__":
    main()
