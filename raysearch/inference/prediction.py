"""Ask a model for many new images, and write what it says of each."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from raysearch.config import DataConfig
from raysearch.data.batch import as_tensor
from raysearch.errors import ConfigError, DataError
from raysearch.inference import outputs
from raysearch.inference.files import NewImage, Picture, read_picture
from raysearch.inference.models import Model
from raysearch.inference.scenes import Scene
from raysearch.inference.tiling import segment
from raysearch.inference.tta import IDENTITY, SETS

CLASSES, ANSWERS, PROBABILITIES = "classes.csv", "predictions.csv", "probabilities.csv"
BATCH, PIXELS = 16, 4_000_000  # What is asked about at once, at most.
READERS = 2


@dataclass(frozen=True)
class Wanted:
    """What is written beside masks and tables, and how images are asked about.

    Attributes:
        tile: see `raysearch.inference.tiling.by_rows`.
        top_k: how many classes a classification names.
    """

    overlay: bool = False
    palette: bool = False
    probabilities: bool = False
    tile: int | None = None
    top_k: int = 5


@dataclass
class Outcome:
    """How many images were written, and what is wrong with the others.

    Attributes:
        longest: the longest side among those written, in pixels.
    """

    written: int = 0
    longest: int = 0
    faults: list[str] = field(default_factory=list)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Watcher:
    """Called on the way.

    Attributes:
        advance: with the images (or parts of one) that are done since the last call.
        fault: with what is wrong with an image.
    """

    advance: Callable[[float], None] = lambda _: None
    fault: Callable[[str], None] = lambda _: None


def adjusted(
    model: Model,
    tta: bool | None = None,
    threshold: float | None = None,
    size: int | None = None,
) -> Model:
    """Return a model that is asked in another way than was found best in validation.

    Args:
        tta: whether images are mirrored too; None, or True where the model has more positions
            already, leaves it as it is.
        threshold: least probability of the positive class.
        size: the longer side that images are brought to before they are asked about.

    Raises:
        ConfigError: the model has no use for one of them.
    """
    task = model.task
    if threshold is not None:
        if not task.binary:
            raise ConfigError("--threshold: is for masks of two classes, which these are not")
        if not 0 <= threshold <= 1:
            raise ConfigError(f"--threshold {threshold:g}: must lie between 0 and 1")
        model = replace(model, threshold=threshold)
    if tta is False:
        model = replace(model, tta=(IDENTITY,))
    elif tta and len(model.tta) == 1:
        model = replace(model, tta=SETS[0])
    if size is None:
        return model
    if size < 32:
        raise ConfigError(f"--size {size}: must be 32 or more")
    update = {"image_size": size}
    recipes = [member.recipe.model_copy(update=update) for member in model.members]
    pairs = zip(model.members, recipes, strict=True)
    return replace(model, members=tuple(replace(m, recipe=recipe) for m, recipe in pairs))


def predict(
    model: Model,
    images: Sequence[NewImage],
    data: DataConfig,
    folder: Path,
    wanted: Wanted,
    watcher: Watcher | None = None,
) -> Outcome:
    """Write masks and a table of classes, or a table of the likeliest classes, into a folder.

    An image that cannot be read is told of and passed over. Tables are written where the work
    breaks off too, with the images that are done.

    Raises:
        RunError: a file cannot be written.
    """
    watcher, outcome = watcher or Watcher(), Outcome()
    ask = _segment if model.task.segments else _classify
    pictures = _readable(model, images, data, outcome, watcher)
    try:
        for batch in _batches(pictures, model.task.segments):
            try:
                ask(model, batch, folder, wanted, outcome, watcher)
            except DataError as error:  # Of a file that is read as it is asked about.
                _pass_over(str(error), outcome, watcher)
                continue
            outcome.written += len(batch)
            sides = (side for picture in batch for side in picture.pixels.shape[:2])
            outcome.longest = max(outcome.longest, *sides)
    finally:
        for name, rows in outcome.tables.items():
            outputs.write_table(folder / name, rows)
    return outcome


def _readable(
    model: Model,
    images: Sequence[NewImage],
    data: DataConfig,
    outcome: Outcome,
    watcher: Watcher,
) -> Iterator[Picture]:
    """Pictures, read ahead in threads."""

    def read(image: NewImage) -> Picture | str:
        try:
            return read_picture(image, data, model.task)
        except DataError as error:
            return str(error)
        except (OSError, MemoryError) as error:
            return f"{image.path}: cannot be read ({error})"

    for found in _ahead(read, images):
        if isinstance(found, str):
            _pass_over(found, outcome, watcher)
            watcher.advance(1)
        else:
            yield found


def _pass_over(fault: str, outcome: Outcome, watcher: Watcher) -> None:
    outcome.faults.append(fault)
    watcher.fault(fault)


def _ahead(function: Callable[[NewImage], Any], items: Iterable[NewImage]) -> Iterator[Any]:
    """Results in order; no more than a few are kept, however long the caller takes."""
    pool = ThreadPoolExecutor(READERS)
    waiting: deque[Future[Any]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > READERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _batches(pictures: Iterable[Picture], of_one_size: bool) -> Iterator[list[Picture]]:
    """Pictures that follow each other, a few at a time."""
    batch: list[Picture] = []
    pixels = 0
    for picture in pictures:
        shape = picture.pixels.shape
        pixels += shape[0] * shape[1]
        other = of_one_size and batch and _kind(picture) != _kind(batch[0])
        if batch and (other or len(batch) == BATCH or pixels > PIXELS):
            yield batch
            batch, pixels = [], shape[0] * shape[1]
        batch.append(picture)
    if batch:
        yield batch


def _kind(picture: Picture) -> tuple[Any, ...]:
    if isinstance(picture.pixels, Scene):
        return (picture.image.name,)
    return picture.pixels.shape, picture.pixels.dtype


def _segment(
    model: Model,
    batch: Sequence[Picture],
    folder: Path,
    wanted: Wanted,
    outcome: Outcome,
    watcher: Watcher,
) -> None:
    task, height = model.task, batch[0].pixels.shape[0]
    with ExitStack() as stack:
        files = [outputs.probability_file(folder, p, task) for p in batch if wanted.probabilities]
        writers = [stack.enter_context(file) for file in files]

        def seen(top: int, probabilities: Tensor) -> None:
            for write, one in zip(writers, probabilities, strict=False):
                write(top, one.cpu().numpy())
            watcher.advance(len(batch) * probabilities.shape[2] / height)

        masks = segment(model, [picture.pixels for picture in batch], wanted.tile, seen)
    for picture, mask in zip(batch, masks, strict=True):
        if picture.missing is not None:
            mask[picture.missing] = task.ignore_index
        outputs.write_mask(folder, picture, mask, task, wanted.palette)
        if wanted.overlay:
            outputs.write_overlay(folder, picture, mask, task)
        rows = outputs.class_rows(picture.image.path, mask, task)
        outcome.tables.setdefault(CLASSES, []).extend(rows)


def _classify(
    model: Model,
    batch: Sequence[Picture],
    folder: Path,
    wanted: Wanted,
    outcome: Outcome,
    watcher: Watcher,
) -> None:
    task = model.task
    asked = [as_tensor(picture.pixels[:]) for picture in batch]
    told = model.probabilities(asked).cpu().numpy().astype(np.float32)
    for picture, one in zip(batch, told, strict=True):
        path = picture.image.path
        rows = outputs.top_rows(path, one, task, wanted.top_k)
        outcome.tables.setdefault(ANSWERS, []).extend(rows)
        if wanted.probabilities:
            row = outputs.probability_row(path, one, task)
            outcome.tables.setdefault(PROBABILITIES, []).append(row)
    watcher.advance(len(batch))
