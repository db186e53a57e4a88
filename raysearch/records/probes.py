"""The ensemble's answers to the validation images that every trial keeps its answers to."""

import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from raysearch.config import Study
from raysearch.data import Data, rasters
from raysearch.data.batch import as_tensor
from raysearch.data.formats import reader
from raysearch.inference.evaluation import data_of_run
from raysearch.inference.models import ENSEMBLE, Model, load_model
from raysearch.inference.tiling import segment
from raysearch.records.evaluation import cache_folder, data_root
from raysearch.records.gallery import ENSEMBLE_FOLDER
from raysearch.records.run_folder import RunFolder
from raysearch.training.device import find_device
from raysearch.training.probe import FILE, Probe

EXAMPLE = "example"
EXAMPLE_SIDE = 64


def answer_probes(run: RunFolder, study: Study, device: torch.device | None = None) -> Path:
    """Write <run>/ensemble/predictions.npz, and a small image `example` as the data set's are.

    Nothing is done where they are there and no older than ensemble.json.

    Returns:
        The folder.

    Raises:
        DataError, RunError: the images are not at hand, or no longer those of the search.
    """
    folder = run.path / ENSEMBLE_FOLDER
    made, kept = run.path / ENSEMBLE, folder / FILE
    if kept.is_file() and kept.stat().st_mtime >= made.stat().st_mtime:
        return folder
    data = data_of_run(
        study.data,
        data_root(run, study),
        cache_folder(study),
        run.info["data_digest"],
        run.splits_file,
    )
    folder.mkdir(exist_ok=True)
    probe = Probe(data)
    model = load_model(run.path, device or find_device())
    for index in probe.indices:
        _ask(model, data, probe, index)
    _write_example(study, data.cache.names[probe.indices[0]], folder / EXAMPLE)
    probe.save(folder)
    return folder


def _ask(model: Model, data: Data, probe: Probe, index: int) -> None:
    image = data.cache.image(index)
    if model.task.segments:
        (mask,) = segment(model, [image])
        probe.keep_mask(index, mask)
    else:
        probability, number = model.probabilities([as_tensor(image)])[0].max(0)
        probe.keep_class(index, int(number), float(probability))


def _write_example(study: Study, name: str, path: Path) -> None:
    """Write a small part of one of the data set's images, or that image reduced, as PNG or TIFF."""
    assert study.data.path is not None
    samples = reader(study.data.format)(study.data.path, study.data).samples()
    source = next(sample.image for sample in samples if sample.name == name)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    if rasters.is_tiff(source):
        corner = rasters.read(source, rows=slice(0, EXAMPLE_SIDE))[:, :EXAMPLE_SIDE]
        height, width, bands = corner.shape
        with rasters.created(aside, source, bands, (height, width), str(corner.dtype)) as raster:
            raster.write(np.moveaxis(corner, 2, 0))
    else:
        with Image.open(source) as picture:
            picture.thumbnail((EXAMPLE_SIDE, EXAMPLE_SIDE))
            picture.save(aside, format="PNG")
    aside.replace(path)
