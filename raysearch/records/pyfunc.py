"""A bundle as MLflow loads and serves it: images in, masks or classes out.

`mlflow.pyfunc.load_model("models:/animals@champion").predict(images)` takes an image, or a list of
them, or {"image": [...]}, or a table with a column `image`. Each of them is

- a path of a file that `python -m raysearch.predict` reads too,
- the bytes of such a file, or the same in base64,
- an array (H, W, bands) that holds what the file would.

It answers with one mapping an image. Masks are those that `predict` writes:

- `mask`: class ids (H, W), uint8; pixels without data have the ignore index.
- `probabilities`: (K, H, W), float32, with params={"probabilities": True}.

Where whole images are classified, the likeliest classes come first:

- `classes`: their names, as many as params={"top_k": 5} says.
- `probabilities`: of these classes.

Over HTTP, `mlflow models serve` takes {"inputs": ["<base64>", ...], "params": {...}}. What came in
base64 is answered in base64: `mask` is a PNG and `probabilities` a file of numpy.save. A server
opens no path that it is sent. Class names by number stand in the model's metadata.
"""

import base64
import io
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image

from raysearch.config import Task
from raysearch.data import rasters
from raysearch.data.batch import as_tensor
from raysearch.errors import DataError, RunError
from raysearch.inference.files import NewImage, Picture, data_of, read_picture
from raysearch.inference.models import is_bundle, load_model
from raysearch.inference.tiling import segment
from raysearch.training.device import find_device

COLUMN = "image"
PARAMS: dict[str, Any] = {"probabilities": False, "top_k": 5}
SERVING = "_MLFLOW_IS_IN_SERVING_ENVIRONMENT"  # Set by MLflow's scoring server.


def _load_pyfunc(path: str) -> "ImageModel":
    """Load what `raysearch.inference.models.write_bundle` has written; MLflow calls this."""
    if not is_bundle(Path(path)):
        raise RunError(f"{path}: is no model that raysearch has registered")
    return ImageModel(Path(path))


class ImageModel:
    """A model that answers images in the forms that this module's text lists.

    Args:
        folder: a bundle, a search or a trial.
    """

    def __init__(self, folder: Path, device: torch.device | None = None) -> None:
        self.model = load_model(folder, device or find_device())
        self.data = data_of(folder, self.model.task)

    @property
    def task(self) -> Task:
        return self.model.task

    def predict(
        self, model_input: Any, params: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """Answer images one by one, so that no answer depends on what else was asked.

        Raises:
            DataError: an image cannot be read, or is none.
        """
        asked = PARAMS | dict(params or {})
        return [self._answer(one, at, asked) for at, one in enumerate(images_of(model_input), 1)]

    def _answer(self, given: Any, at: int, params: Mapping[str, Any]) -> dict[str, Any]:
        with as_file(given, f"image {at}") as path:
            picture = read_picture(NewImage(path, f"image {at}"), self.data, self.task)
            if not self.task.segments:
                return self._classified(picture, int(params["top_k"]))
            answer = self._segmented(picture, bool(params["probabilities"]))
        in_text = isinstance(given, str) and not _is_path(given)
        return {key: _text(array) for key, array in answer.items()} if in_text else answer

    def _segmented(self, picture: Picture, probabilities: bool) -> dict[str, Any]:
        size = picture.pixels.shape[:2]
        said = np.zeros((self.task.num_classes, *size), np.float32) if probabilities else None

        def seen(top: int, band: torch.Tensor) -> None:
            if said is not None:
                said[:, top : top + band.shape[2]] = band[0].cpu().numpy()

        (mask,) = segment(self.model, [picture.pixels], seen=seen)
        if picture.missing is not None:
            mask[picture.missing] = self.task.ignore_index
        return {"mask": mask} if said is None else {"mask": mask, "probabilities": said}

    def _classified(self, picture: Picture, top_k: int) -> dict[str, Any]:
        (said,) = self.model.probabilities([as_tensor(picture.pixels[:])]).cpu().numpy()
        best = np.argsort(-said, kind="stable")[:top_k]
        return {
            "classes": [self.task.classes[number] for number in best],
            "probabilities": [float(said[number]) for number in best],
        }


def images_of(given: Any) -> list[Any]:
    """Return the images of anything that `ImageModel.predict` takes, one by one."""
    if isinstance(given, pd.DataFrame):
        return list(given[COLUMN] if COLUMN in given else given.iloc[:, 0])
    if isinstance(given, Mapping):
        if COLUMN not in given:
            raise DataError(f"no '{COLUMN}' among {', '.join(map(str, given))}")
        return images_of(given[COLUMN])
    if isinstance(given, np.ndarray) and (given.ndim == 4 or given.dtype.kind in "OUS"):
        return list(given.reshape(-1) if given.dtype.kind in "OUS" else given)
    if isinstance(given, list | tuple | pd.Series):
        return [one[COLUMN] if isinstance(one, Mapping) else one for one in given]
    return [given]


@contextmanager
def as_file(given: Any, name: str) -> Iterator[Path]:
    """Yield a file that holds an image, as long as it is read.

    Raises:
        DataError: it is no image.
    """
    if isinstance(given, os.PathLike) or (isinstance(given, str) and _is_path(given)):
        yield Path(given)
        return
    with tempfile.TemporaryDirectory(prefix="raysearch-") as folder:
        path = Path(folder) / name
        if isinstance(given, np.ndarray):
            _write_array(path, given)
        else:
            path.write_bytes(_bytes(given, name))
        yield path


def _is_path(text: str) -> bool:
    """Whether a text names a file rather than holding one; a server is never told of its files."""
    if os.environ.get(SERVING) == "true":
        return False
    return not _decoded(text) or os.path.isfile(text)


def _bytes(given: Any, name: str) -> bytes:
    if isinstance(given, str):
        given = _decoded(given)
    if not isinstance(given, bytes | bytearray) or not given:
        raise DataError(
            f"{name}: is no image; give a path, an array (H, W, bands), a file's bytes, or these "
            "in base64"
        )
    return bytes(given)


def _decoded(text: str) -> bytes | None:
    """The bytes of base64, in lines or not; None where it is none."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        return None


def _write_array(path: Path, array: NDArray[Any]) -> None:
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.dtype.kind not in "uif":
        raise DataError(
            f"{path.name}: an array {array.shape} of {array.dtype} is no image; "
            "give (H, W, bands) of numbers"
        )
    height, width, bands = array.shape
    with rasters.created(path, None, bands, (height, width), str(array.dtype)) as raster:
        raster.write(np.moveaxis(array, 2, 0))


def _text(array: NDArray[Any]) -> str:
    """Base64 of a mask as PNG, or of probabilities as numpy.save writes them."""
    file = io.BytesIO()
    if array.ndim == 2:
        Image.fromarray(array).save(file, format="PNG")
    else:
        np.save(file, array, allow_pickle=False)
    return base64.b64encode(file.getvalue()).decode("ascii")
