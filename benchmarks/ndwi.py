"""What a tuned NDWI threshold finds of the water, on the tiles that a search held out.

    python benchmarks/ndwi.py RUN [--green 3] [--nir 5]

RUN is the folder of a search with two classes, land and water. NDWI = (green - NIR) / (green + NIR)
(McFeeters 1996, https://doi.org/10.1080/01431169608948714); what reaches the threshold is water.
The threshold is the one with the best IoU of all on the training and validation tiles; IoU of water
is that of one confusion over all pixels. Bands are counted in the files, from 1, whatever the study
takes of them.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysearch.data.formats import Reader, reader
from raysearch.data.samples import Sample
from raysearch.data.splits import read_splits
from raysearch.errors import DataError
from raysearch.study import load_study

Array = NDArray[Any]
WATER = 1


def main() -> None:
    arguments = parse()
    source = open_bands(arguments.run, [arguments.green, arguments.nir])
    splits = read_splits(arguments.run / "splits.json")
    samples = {sample.name: sample for sample in source.samples()}
    tuning = [samples[name] for name in (*splits.train, *splits.val)]
    held_out = [samples[name] for name in splits.test]
    threshold, best = tune(*pixels(source, tuning))
    scores, water = pixels(source, held_out)
    print(f"NDWI >= {threshold:.4f} on bands {arguments.green} (green) and {arguments.nir} (NIR)")
    print(f"IoU of {source.data.classes[WATER]}, best of all thresholds on {len(tuning)} tiles of "
          f"training and validation: {best:.4f}")  # fmt: skip
    print(f"IoU of {source.data.classes[WATER]} on {len(held_out)} test tiles: "
          f"{iou(scores >= threshold, water):.4f}")  # fmt: skip


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="a search's folder, results/<study>/<run>")
    parser.add_argument("--green", type=int, default=3, help="band of the files (default: 3)")
    parser.add_argument("--nir", type=int, default=5, help="band of the files (default: 5)")
    return parser.parse_args()


def open_bands(run: Path, bands: list[int]) -> Reader:
    """Return the run's reader, which gives these bands of the files instead of the study's."""
    data = load_study(str(run / "study.yaml")).data
    if data.path is None or len(data.classes) != 2:
        raise DataError(f"{run}: expected a search on a folder of images with two classes")
    options = {**data.options, "bands": bands}
    picked = data.model_copy(update={"options": options, "bands": len(bands)})
    return reader(data.format)(data.path, picked)


def pixels(source: Reader, samples: Iterable[Sample]) -> tuple[Array, Array]:
    """Return NDWI and whether it is water of every labelled pixel, (N,) each."""
    scores, water = [], []
    for sample in samples:
        mask = source.target(sample)
        labelled = mask != source.data.ignore_index
        scores.append(ndwi(source.image(sample))[labelled])
        water.append(mask[labelled] == WATER)
    return np.concatenate(scores), np.concatenate(water)


def ndwi(image: Array) -> Array:
    """Return the index of green and near infrared (H, W, 2); least where it is not defined."""
    green, infrared = np.moveaxis(image.astype(np.float64), 2, 0)
    both = green + infrared
    defined = np.isfinite(both) & (both != 0)
    index = np.full(both.shape, -np.inf)
    return np.divide(green - infrared, both, out=index, where=defined)


def tune(scores: Array, water: Array) -> tuple[float, float]:
    """Return the threshold with the best IoU of all that differ, and that IoU."""
    order = np.argsort(-scores)
    ranked, hits = scores[order], np.cumsum(water[order])
    called = np.arange(1, len(ranked) + 1)
    found = hits / (called + water.sum() - hits)
    whole = np.append(ranked[1:] < ranked[:-1], True)  # Equal scores fall on one side.
    best = int(np.argmax(np.where(whole, found, -1)))
    return float(ranked[best]), float(found[best])


def iou(called: Array, water: Array) -> float:
    """Return intersection over union of (N,) booleans."""
    return float((called & water).sum() / max(1, (called | water).sum()))


if __name__ == "__main__":
    main()
