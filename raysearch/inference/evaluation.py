"""Measure a trained network on images that it was not chosen by."""

from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from raysearch.config import DataConfig
from raysearch.data import Data, Splits, open_data
from raysearch.data.cache import open_cache
from raysearch.data.formats import reader
from raysearch.data.samples import SPLITS
from raysearch.data.splits import read_splits
from raysearch.errors import DataError, RunError
from raysearch.inference.asking import asked
from raysearch.inference.tallies import Tallies
from raysearch.training.metrics import build_metrics
from raysearch.training.trained import Trained


@dataclass(frozen=True)
class Evaluation:
    """What a network is worth on one split.

    Attributes:
        metrics: as in training, the positive class's at the threshold that the network keeps.
        intervals: 95 % intervals by a bootstrap over images.
        wilson: Wilson's 95 % intervals, of a classification's shares of right images.
        confusion: (K, K), rows true classes.
        seconds_per_image: of the network alone, the median over batches.
    """

    images: int
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    wilson: dict[str, tuple[float, float]]
    confusion: NDArray[np.int64]
    seconds_per_image: float


@torch.inference_mode()
def evaluate(trained: Trained, data: Data, split: str, device: torch.device) -> Evaluation:
    """Ask a network for every image of a split, and compare at the images' native size.

    Args:
        trained: on the device.
        split: "val" or "test".

    Raises:
        RunError: a two-class network without a threshold, which test images must not choose.
    """
    task, threshold = trained.task, trained.threshold
    if task.binary and threshold is None:
        raise RunError(f"{trained.place}: keeps no threshold; train the trial again")
    metrics = build_metrics(task, device, threshold=threshold)
    tallies, seconds = Tallies(task, threshold), []
    for batch, logits, spent in asked(trained, data, split):
        seconds.append(spent)
        for _, native, target in batch.native(logits):
            metrics.update(native, target.to(device))
            tallies.update(native, target)
    return Evaluation(
        len(tallies),
        metrics.compute(),
        tallies.bootstrap(),
        tallies.wilson(),
        metrics.total().numpy(),
        median(seconds),
    )


def data_of_run(
    config: DataConfig, root: Path, cache: Path, digest: str, splits_file: Path
) -> Data:
    """Open the data that a search was run on, split as they were then.

    Raises:
        DataError: the files are no longer those of the search.
    """
    data = open_data(config, root, cache, seed=0)
    if data.digest != digest:
        raise DataError(
            f"{root}: the files are not those that the search was run on (digest {data.digest}, "
            f"not {digest}); bring them back, or measure on them as another data set with --data"
        )
    return replace(data, splits=read_splits(splits_file))


def other_data(config: DataConfig, root: Path, cache: Path, split: str) -> Data:
    """Open another folder of the same format: the images that its lists name for a split.

    Where it has no lists at all, every image is taken.

    Raises:
        DataError: the folder's lists name no image for this split.
    """
    source = reader(config.format)(root, config)
    samples = source.samples()
    lists = {sample.split for sample in samples if sample.split}
    chosen = [sample for sample in samples if sample.split == split] if lists else samples
    if not chosen:
        there = ", ".join(name for name in SPLITS if name in lists)
        raise DataError(
            f"{root}: no list names images for '{split}'; there are {there or 'no images at all'}"
            + (" (choose with --split)" if there else "")
        )
    opened = open_cache(source, chosen, cache)
    parts = {name: opened.names if name == split else () for name in SPLITS}
    return Data(opened, Splits(**parts, mode="official"), len(config.classes))
