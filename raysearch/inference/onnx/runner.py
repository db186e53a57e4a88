"""Ask an exported model: images of any size in, probabilities out, without its PyTorch networks.

model = OnnxModel("model.onnx")
classes = model.classes(model.probabilities(images))
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate

from raysearch.config import Recipe, Task
from raysearch.data.augmentation.classification import SIZE, for_evaluation
from raysearch.data.resize import by_fours, fitted, resize_image
from raysearch.data.validation import prepared
from raysearch.errors import RunError
from raysearch.inference.models import Model
from raysearch.inference.probabilities import as_logits
from raysearch.training.normalisation import Normalisation
from raysearch.training.trained import Trained

KEY = "raysearch"  # Of what the file says of itself.
CPU = "CPUExecutionProvider"
EXTENT = "size"  # The name of the input for height and width.

Feeds = dict[str, NDArray[Any]]


class OnnxModel:
    """An exported model, which answers as `raysearch.inference.models.Model` does.

    Attributes:
        about: what `model.json` says of it.
        judge: a model of the same task, threshold and post-processing, without networks.
    """

    def __init__(
        self, path: Path | str, threads: int | None = None, providers: Sequence[str] = (CPU,)
    ) -> None:
        """Load a file.

        Args:
            threads: of one operator; None takes as many as PyTorch does.

        Raises:
            RunError: it cannot be read, or was not written by raysearch.
        """
        self.path = Path(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), options, providers=list(providers)
            )
            told = self.session.get_modelmeta().custom_metadata_map[KEY]
        except KeyError as error:
            raise RunError(f"{path}: was not written by `python -m raysearch.export`") from error
        except Exception as error:  # onnxruntime's own errors have no common base.
            raise RunError(f"{path}: is no ONNX file that can be run ({error})") from error
        self.about: dict[str, Any] = json.loads(told)
        self.task = Task(**{**self.about["task"], "classes": tuple(self.about["task"]["classes"])})
        self.judge = judge(
            self.task, self.path, self.about["threshold"], self.about["postprocessing"]
        )

    def probabilities(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        """Return float32 (N, K, h, w), or (N, K) of whole images; see `Model.probabilities`.

        Args:
            images: (N, C, h, w) as stored: uint8 or float32, at their own size; of several sizes
                where whole images are classified.
        """
        said = torch.from_numpy(self.run(self.prepare(images)))
        if not self.task.segments or self.about["size"] is None:
            return said
        height, width = images[0].shape[-2:]
        inside = boxed((height, width), self.about["size"])
        said = said[..., : inside[0], : inside[1]]
        if inside == (height, width):
            return said
        logits = interpolate(as_logits(said), (height, width), mode="bilinear", align_corners=False)
        return logits.softmax(1)

    def classes(self, probabilities: Tensor) -> Tensor:
        """Return class ids, int64 (N, h, w) or (N,), by the model's threshold, post-processed."""
        return self.judge.classes(probabilities)

    def run(self, feeds: Feeds) -> NDArray[np.float32]:
        """Return what the graph says of prepared images."""
        said: NDArray[np.float32] = self.session.run(None, feeds)[0]
        return said

    def prepare(self, images: Tensor | Sequence[Tensor]) -> Feeds:
        """Return the graph's inputs, as `about["preparation"]` describes them."""
        arrays = [image.movedim(0, -1).cpu().numpy() for image in images]
        feeds = {
            one["name"]: as_input([self._prepared(array, one["image_size"]) for array in arrays])
            for one in self.about["inputs"]
        }
        if self.task.segments and self.about["size"] is None:
            feeds[EXTENT] = np.array(arrays[0].shape[:2], np.int64)
        return feeds

    def _prepared(self, image: NDArray[Any], image_size: int | None) -> NDArray[Any]:
        if not self.task.segments:
            return for_evaluation(image, image_size or SIZE)
        if self.about["size"] is not None:
            return in_box(image, self.about["size"])
        return prepared(image, fitted(image.shape, image_size), self.about["stride"])


def as_input(images: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """Return images (H, W, C) as a graph takes them, (N, C, H, W)."""
    return np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2), np.float32)


def boxed(shape: Sequence[int], box: Sequence[int]) -> tuple[int, int]:
    """Return (height, width) of a shape (H, W, ...) brought into a box with its proportions."""
    scale = min(box[0] / shape[0], box[1] / shape[1])
    return (
        min(box[0], max(1, round(shape[0] * scale))),
        min(box[1], max(1, round(shape[1] * scale))),
    )


def in_box(image: NDArray[Any], box: Sequence[int]) -> NDArray[Any]:
    """Resize (H, W, C) until it just fits a box, then pad at the right and below by mirroring."""
    image = resize_image(image, boxed(image.shape, box))
    below, right = (most - side for most, side in zip(box, image.shape[:2], strict=True))
    if not below and not right:
        return image
    return by_fours(
        lambda part: cv2.copyMakeBorder(part, 0, below, 0, right, cv2.BORDER_REFLECT_101), image
    )


def judge(task: Task, path: Path, threshold: float | None, postprocessing: Any) -> Model:
    """Return a model that has no networks, to tell classes from probabilities and to be measured
    by; its only member is named by a path."""
    none = Normalisation(torch.zeros(task.bands), torch.ones(task.bands))
    recipe = Recipe(architecture="onnx")
    member = Trained(nn.Identity(), none, task, recipe, threshold, {}, path)
    return Model((member,), (1.0,), threshold=threshold, postprocessing=postprocessing)
