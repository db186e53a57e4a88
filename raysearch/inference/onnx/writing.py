"""Write a model as an ONNX file that has been found to say what PyTorch says.

The graph takes prepared images in the units that they are stored in, and holds normalisation,
networks, test-time views, temperature and vote. What it leaves to its user (resizing and padding
before it, threshold and post-processing after it) the file says in its metadata.
"""

import json
import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import Dim

from raysearch import __version__
from raysearch.data.augmentation.classification import SIZE, for_evaluation
from raysearch.data.batch import as_tensor
from raysearch.data.validation import STRIDE
from raysearch.errors import ConfigError, RunError, closest
from raysearch.inference.models import Model
from raysearch.inference.onnx.graph import VIEWS, Graph, image_sizes
from raysearch.inference.onnx.operators import TRANSLATIONS
from raysearch.inference.onnx.runner import EXTENT, KEY, OnnxModel, in_box
from raysearch.inference.outputs import aside
from raysearch.inference.tta import IDENTITY, TRANSFORMS

TOLERANCE = 1e-3  # Of a probability.
MOST_BYTES = 2_000_000_000  # Of an ONNX file without a second one beside it.
IMAGES, ANSWER = "images", "probabilities"

Size = tuple[int, int]


@dataclass(frozen=True)
class Written:
    """An ONNX file that has passed its check.

    Attributes:
        difference: the largest between its probabilities and PyTorch's.
        seconds: that writing and checking took.
    """

    path: Path
    about: dict[str, Any]
    difference: float
    seconds: float


def adapted(model: Model, size: Size | None = None, tta: bool = True) -> Model:
    """Return a model as it is asked when it is exported.

    Args:
        size: the fixed height and width of the graph's images; None keeps the members' own way.
        tta: whether it keeps its views.

    Raises:
        ConfigError: a view that a graph cannot hold, or a size that the model cannot have.
    """
    if not tta:
        model = replace(model, tta=(IDENTITY,))
    for name in model.tta:
        if name not in VIEWS:
            raise ConfigError(
                f"the view '{name}' of this model cannot be put into a graph; export it without "
                f"views by --no-tta. {closest(name, VIEWS)}"
            )
    if size is None:
        return model
    height, width = size
    if model.task.segments:
        _check_box(model, size)
    elif height != width or height < STRIDE:
        raise ConfigError(
            f"--size {height}x{width}: classified images are squares; give one number, 32 or more"
        )
    side = None if model.task.segments else height
    members = tuple(
        replace(one, recipe=one.recipe.model_copy(update={"image_size": side}))
        for one in model.members
    )
    return replace(model, members=members)


def _check_box(model: Model, size: Size) -> None:
    if any(side < STRIDE or side % STRIDE for side in size):
        near = "x".join(str(max(STRIDE, STRIDE * round(side / STRIDE))) for side in size)
        raise ConfigError(
            f"--size {size[0]}x{size[1]}: both must be multiples of {STRIDE}; the nearest is {near}"
        )
    several = image_sizes(model)
    if len(several) > 1:
        told = ", ".join("their own size" if one is None else f"{one} pixels" for one in several)
        raise ConfigError(
            f"--size: the members see images at {told}, which one size would change; leave it "
            "out, or export one of them by --member"
        )


def write(
    model: Model,
    path: Path,
    images: Sequence[Tensor],
    size: Size | None = None,
    tolerance: float = TOLERANCE,
) -> Written:
    """Write a model as an ONNX file, once it says of images what PyTorch says.

    Args:
        model: on the CPU, as `adapted` returns it for the same size.
        images: (C, h, w) each, as stored, to check it on.
        size: height and width of the graph's images; None leaves those of masks open, in multiples
            of 32. The number of images is always open.

    Raises:
        ConfigError: the networks are too large for one file.
        RunError: PyTorch's exporter cannot write a network, or the file answers otherwise; there
            is no file then.
    """
    began = time.perf_counter()
    weights = sum(p.numel() for member in model.members for p in member.network.parameters())
    if 4 * weights > MOST_BYTES:
        raise ConfigError(
            f"{4 * weights / 1e9:.1f} GB of weights do not fit into one ONNX file; export one "
            "member of the ensemble by --member"
        )
    about = describe(model, size)
    program = _exported(Graph(model).eval(), about)
    program.model.metadata_props[KEY] = json.dumps(about)
    with aside(path) as other:
        program.save(other)
        del program
        found = difference(model, OnnxModel(other), images)
        if not found <= tolerance:
            raise RunError(
                f"{path}: is not written: its probabilities differ by {found:.2g} from PyTorch's, "
                f"and at most {tolerance:g} is allowed"
            )
    return Written(path, about, found, time.perf_counter() - began)


def _exported(graph: Graph, about: dict[str, Any]) -> torch.onnx.ONNXProgram:
    """Trace a graph with two images, of which only what is said to be fixed stays so."""
    names = [one["name"] for one in about["inputs"]]
    images, shapes = [], []
    for one in about["inputs"]:
        height, width = one["height"] or 3 * STRIDE, one["width"] or 4 * STRIDE
        images.append(torch.zeros(2, about["task"]["bands"], height, width))
        shape: dict[int, Any] = {0: Dim("batch")}
        if one["height"] is None:
            end = one["name"].removeprefix(IMAGES)
            shape |= {2: STRIDE * Dim(f"h{end}"), 3: STRIDE * Dim(f"w{end}")}
        shapes.append(shape)
    asked: tuple[Any, ...] = (images,)
    dynamic: tuple[Any, ...] = (shapes,)
    if about["answer"] == "native":
        asked, dynamic = (images, torch.tensor([100, 140])), (shapes, None)
        names.append(EXTENT)
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                graph, asked, dynamo=True, verbose=False, dynamic_shapes=dynamic,
                input_names=names, output_names=[ANSWER],
                custom_translation_table=TRANSLATIONS,
            )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        first = str(error.__cause__ or error).strip().splitlines()[0]
        raise RunError(
            f"PyTorch cannot write this model as ONNX: {first}. Give a fixed size with --size, or "
            "export another member with --member"
        ) from error
    assert program is not None
    return program


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells its own developers of much that no user can change."""
    logger = logging.getLogger("torch")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def describe(model: Model, size: Size | None) -> dict[str, Any]:
    """Return what a file says of itself; `OnnxModel` needs nothing else."""
    task, first = model.task, model.members[0]
    return {
        "raysearch": __version__,
        "task": {
            "kind": task.kind,
            "bands": task.bands,
            "classes": list(task.classes),
            "ignore_index": task.ignore_index,
        },
        "inputs": _inputs(model, size),
        "output": ANSWER,
        "answer": "native" if task.segments and size is None else "prepared",
        "size": list(size) if size is not None and task.segments else None,
        "stride": STRIDE,
        "preparation": _preparation(model, size),
        "afterwards": _afterwards(model),
        "mean": first.normalise.mean.tolist(),
        "std": first.normalise.std.tolist(),
        "members": [
            {
                "checkpoint": "/".join(member.place.parts[-2:]),
                "architecture": member.recipe.architecture,
                "weight": weight,
            }
            for member, weight in zip(model.members, model.weights, strict=True)
        ],
        "vote": model.vote,
        "tta": list(model.tta),
        "temperature": model.temperature,
        "threshold": model.threshold,
        "postprocessing": dict(model.postprocessing),
    }


def _inputs(model: Model, size: Size | None) -> list[dict[str, Any]]:
    """The graph's images: one input for each size that members see them at."""
    several = image_sizes(model)
    found = []
    for one in several:
        name = IMAGES if len(several) == 1 else f"{IMAGES}_{one or 'full'}"
        side = None if model.task.segments else one or SIZE
        height, width = size if size is not None else (side, side)
        found.append({"name": name, "image_size": one, "height": height, "width": width})
    return found


def _preparation(model: Model, size: Size | None) -> list[str]:
    """What the graph's user does to an image, in words."""
    stored = (
        f"read {model.task.bands} bands, with the values that the files hold (8-bit photographs: "
        "red, green, blue from 0 to 255); the graph subtracts the mean and divides by std itself"
    )
    how = "by OpenCV's INTER_AREA where it shrinks and INTER_LINEAR where it grows, 8-bit stays"
    pad = "mirror at the right and below without the outermost pixel (BORDER_REFLECT_101)"
    ordered = "order as (N, bands, height, width), float32"
    steps = [stored]
    if not model.task.segments:
        steps += [
            "bring the shorter side to image_size / 0.875, rounded, " + how,
            "cut the middle out as a square of image_size",
        ]
    elif size is not None:
        steps += [f"resize with its proportions until it just fits the size, {how}", pad]
    else:
        if any(image_sizes(model)):
            steps.append(f"bring the longer side to image_size where it is not null, {how}")
        steps += [f"{pad} until both sides are multiples of {STRIDE}"]
        ordered += f"; '{EXTENT}' is int64 (2,), height and width as they were read"
    return [*steps, ordered]


def _afterwards(model: Model) -> str:
    if model.threshold is not None and model.task.binary:
        classes = f"class 1 where its probability is at least {model.threshold:g}, else class 0"
    else:
        classes = "the class of the highest probability"
    return f"{classes}, then what postprocessing names" if model.postprocessing else classes


@torch.inference_mode()
def difference(model: Model, onnx: OnnxModel, images: Sequence[Tensor]) -> float:
    """Return the largest difference between the probabilities of a file and of PyTorch.

    Every image is asked about alone, and three views of the first together. Where members vote, it
    is taken of what they are sure of: a tie may fall either way.

    Args:
        images: (C, h, w) each, as stored.
    """
    box = onnx.about["size"]
    if box is not None:
        images = [as_tensor(in_box(one.movedim(0, -1).numpy(), box)) for one in images]
    first = images[0]
    together = torch.stack([first, first.flip(-1), first.flip(-2)])
    worst = 0.0
    for batch in (*(one[None] for one in images), together):
        expected, sure = _expected(model, batch)
        found = (onnx.probabilities(batch) - expected).abs().amax(1)[sure]
        if not torch.isfinite(found).all():
            return float("nan")
        worst = max(worst, found.max().item() if found.numel() else 0.0)
    return worst


def _expected(model: Model, images: Tensor) -> tuple[Tensor, Tensor]:
    """What PyTorch says of images (N, C, h, w), and where it is no tie, (N, ...)."""
    said = _said(model, images)
    sure = torch.ones_like(said[:, 0], dtype=torch.bool)
    if model.vote == "majority":
        for member in model.members:
            alone = replace(model, members=(member,), weights=(1.0,), vote="average")
            first, second = _said(alone, images).topk(2, dim=1).values.unbind(1)
            sure &= first - second > 2 * TOLERANCE
    return said, sure


def _said(model: Model, images: Tensor) -> Tensor:
    """As `Model.probabilities`, but of whole images the views are those of the middle square, as in
    the graph; the middle of a mirrored image may lie a pixel beside it."""
    if model.task.segments:
        return model.probabilities(images)
    parts = []
    for member, weight in zip(model.members, model.weights, strict=True):
        side = member.recipe.image_size or SIZE
        middles = [for_evaluation(one.movedim(0, -1).numpy(), side) for one in images]
        squares = torch.stack([as_tensor(one) for one in middles])
        views = {name: member.logits(TRANSFORMS[name].apply(squares)) for name in model.tta}
        parts.append(weight * model.answer(views))
    return torch.stack(parts).sum(0)
