"""The pictures of the page, each as a data URI that an <img> shows without a further file."""

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from raysearch.config import Study
from raysearch.data.display import for_display
from raysearch.data.formats import Reader
from raysearch.errors import DataError
from raysearch.inspection.look import Look, held_classes
from raysearch.records.style import COLOURS, LINES, class_colours, figure, tidy

HEIGHT, WIDEST = 168, 336
COVER = 0.38
HATCH = 9
QUALITY = 88
LEGEND = 14  # As many as there are colours.
BARS = 40


def tile(reader: Reader, study: Study, look: Look, only: int | None = None) -> str | None:
    """Return a small picture of a sample, its mask laid over it; None where it cannot be read.

    Args:
        only: the one class that is laid over; None takes all but the background.
    """
    try:
        picture = shrunk(for_display(reader.image(look.sample)))
        if study.what.segments and look.fault is None:
            mask = reader.target(look.sample)
            if only is not None:
                others = (mask != only) & (mask != study.data.ignore_index)
                mask = np.where(others, np.uint8(0), mask)
            size = picture.shape[1], picture.shape[0]
            small = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
            picture = painted(picture, small, class_colours(len(study.data.classes)))
    except DataError:
        return None
    return _jpeg(picture)


def shrunk(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture (H, W, 3) at the height of a tile, and no wider than two of them."""
    height, width = picture.shape[:2]
    scale = min(HEIGHT / height, WIDEST / width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(picture, size, interpolation=how), dtype=np.uint8)


def painted(
    picture: NDArray[np.uint8], mask: NDArray[np.uint8], colours: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Return a picture with each foreground class washed over in its colour and outlined.

    Ignored pixels are hatched.
    """
    known = mask < len(colours)
    wash = 255 * colours[np.where(known, mask, 0)]
    foreground = (known & (mask > 0))[..., None]
    mixed = np.where(foreground, (1 - COVER) * picture + COVER * wash, picture)
    kernel = np.ones((3, 3), dtype=np.uint8)
    edge = cv2.dilate(mask, kernel) != cv2.erode(mask, kernel)
    lines = 255 * colours[np.where(known, mask, 0)]
    mixed = np.where(edge[..., None] & foreground, lines, mixed)
    rows, columns = np.indices(mask.shape)
    hatched = ~known & ((rows + columns) % HATCH == 0)
    mixed = np.where(hatched[..., None], 0.4 * mixed + 0.6 * 255, mixed)
    return mixed.clip(0, 255).astype(np.uint8)


def size_scatter(study: Study, looks: Sequence[Look]) -> str:
    """Draw width against height, coloured by class: a size that one class has stands out."""
    drawn = figure(6.4, 3.8)
    axes = drawn.subplots()
    tidy(axes, "", "width in pixels", "height in pixels")
    shapes = np.array([look.shape for look in looks], dtype=np.float64).reshape(-1, 2)
    random = np.random.default_rng(0)
    spread = 0.012 * max(1.0, float(shapes.max(initial=1)))
    held = held_classes(looks, study.what.num_classes)
    first = 1 if study.what.segments else 0
    image, number = np.nonzero(held[:, first:])
    # In a random order, so that no class covers the others where all have one size.
    order = random.permutation(len(image))
    image, number = image[order], number[order]
    points = shapes[image] + random.normal(0, spread, (len(image), 2))
    palette = np.array(COLOURS)
    axes.scatter(
        points[:, 1], points[:, 0], s=12, c=palette[number % len(palette)], alpha=0.6, lw=0
    )
    for place, name in enumerate(study.data.classes[first:][:LEGEND]):
        axes.scatter([], [], s=16, color=palette[place], label=name)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return _png(drawn)


def band_picture(looks: Sequence[Look]) -> str:
    """Draw the distribution of every band's values, 1st to 99th percentile."""
    values = np.concatenate([look.values for look in looks])
    count = values.shape[1]
    columns = min(4, count)
    rows = -(-count // columns)
    drawn = figure(1.9 * columns + 0.4, 1.35 * rows + 0.3)
    grid = drawn.subplots(rows, columns, squeeze=False)
    for number, axes in enumerate(grid.flat):
        axes.set_visible(number < count)
        if number < count:
            band = values[:, number]
            band = band[np.isfinite(band)]
            tidy(axes, f"band {number + 1}")
            axes.set_yticks([])
            axes.spines["left"].set_visible(False)
            if len(band):
                low, high = np.percentile(band, (1, 99))
                inside = band[(band >= low) & (band <= high)]
                axes.hist(inside, bins=_edges(inside), color=LINES[0], alpha=0.8)
    return _png(drawn)


def _edges(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return about 40 edges; between whole numbers where there are few of them."""
    low, high = float(values.min()), float(values.max())
    if high - low < BARS or not np.array_equal(values, values.round()):
        return np.linspace(low, max(high, low + 1e-6), BARS + 1)
    step = -(-(high - low) // BARS)
    return np.arange(low - 0.5, high + step, step)


def _jpeg(picture: NDArray[np.uint8]) -> str:
    file = BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + b64encode(file.getvalue()).decode()


def _png(drawn: Figure) -> str:
    file = BytesIO()
    drawn.savefig(file, format="png")
    return "data:image/png;base64," + b64encode(file.getvalue()).decode()
