"""Predictions beside labels: masks over images, or images with the class that was told of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch
from numpy.typing import NDArray

from raysearch.records.style import INK, QUIET, RIGHT, WRONG, class_colours, figure, save

Panel = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]
GAP = 0.04  # Of a panel's width.
FEW, WIDE = 6, 6  # Up to so many answers are drawn large; of more, so many in a row.


@dataclass(frozen=True)
class Answer:
    """What a network said of one image.

    Attributes:
        image: (H, W, bands) uint8.
        label, prediction: class ids.
        probability: of the prediction.
    """

    image: NDArray[np.uint8]
    label: int
    prediction: int
    probability: float


def classified(answers: Sequence[Answer], classes: Sequence[str], path: Path) -> Path:
    """Draw images with the true and the predicted class below, green where the two are one."""
    columns, side = (min(3, len(answers)), 2.7) if len(answers) <= FEW else (WIDE, 2.0)
    rows = -(-len(answers) // columns)
    drawn = figure(side * columns, (side + 0.4) * rows)
    grid = drawn.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, answer in zip(grid.flat, answers, strict=False):
        _draw_answer(axes, answer, classes)
    return save(drawn, path)


def _draw_answer(axes: Axes, answer: Answer, classes: Sequence[str]) -> None:
    right = answer.label == answer.prediction
    axes.imshow(three_bands(answer.image), interpolation="nearest")
    said = f"{classes[answer.prediction]} {answer.probability:.0%}"
    axes.set_title(said, fontsize=9, color=RIGHT if right else WRONG, fontweight="bold")
    truth = "right" if right else f"it is {classes[answer.label]}"
    axes.text(
        0.5, -0.03, truth, transform=axes.transAxes, ha="center", va="top", fontsize=8, color=QUIET
    )


def segmented(
    panels: Sequence[Panel], classes: Sequence[str], path: Path, ignore_index: int = 255
) -> Path:
    """Draw image, label, prediction and error side by side, one row an image.

    Args:
        panels: image (H, W, bands) uint8, label and prediction (H, W) of class ids.
        classes: names, the background first.
        ignore_index: pixels of the label that do not count; white, and never an error.
    """
    colours = class_colours(len(classes))
    strips = [in_a_row(panel, colours, ignore_index) for panel in panels]
    heights = [7.8 * strip.shape[0] / strip.shape[1] for strip in strips]
    drawn = figure(8.0, 0.75 + sum(heights))
    column = drawn.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, strip in zip(column, strips, strict=True):
        axes.imshow(strip, interpolation="nearest")
        axes.set_axis_off()
    for place, title in enumerate(("image", "label", "prediction", "error")):
        column[0].text(
            place * (1 + GAP) / (4 + 3 * GAP), 1.02, title, transform=column[0].transAxes,
            fontsize=9, color=INK, fontweight="bold", va="bottom",
        )  # fmt: skip
    present = np.unique(np.concatenate([np.unique(p[i]) for p in panels for i in (1, 2)]))
    handles = [Patch(color=colours[c], label=classes[c]) for c in present if 0 < c < len(classes)]
    handles.append(Patch(color=WRONG, label="wrong"))
    drawn.legend(handles=handles, loc="outside lower center", ncols=7, frameon=False, fontsize=8)
    return save(drawn, path)


def in_a_row(panel: Panel, colours: NDArray[np.float64], ignored: int) -> NDArray[np.uint8]:
    """Image, label, prediction and error in one row, a white gap between two."""
    image, label, prediction = panel
    height, width = label.shape
    strip = np.ones((height, round((4 + 3 * GAP) * width), 3))
    shown = (
        three_bands(image),
        _coloured(label, image, colours, ignored),
        _coloured(prediction, image, colours, ignored),
        _errors(image, label, prediction, ignored),
    )
    for place, picture in enumerate(shown):
        left = round(place * (1 + GAP) * width)
        strip[:, left : left + width] = picture
    return (255 * strip).astype(np.uint8)


def three_bands(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The first three bands as colours in 0..1; fewer than three as grey."""
    bands = image[..., :3] if image.shape[-1] >= 3 else image[..., :1].repeat(3, axis=-1)
    return bands / 255.0


def _grey(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """A pale grey image to lay colours on."""
    grey = three_bands(image).mean(axis=-1, keepdims=True).repeat(3, axis=-1)
    return 0.45 + 0.5 * grey


def _coloured(
    mask: NDArray[np.uint8], image: NDArray[np.uint8], colours: NDArray[np.float64], ignored: int
) -> NDArray[np.float64]:
    """Classes laid over the pale image; ignored pixels are white."""
    known = mask < len(colours)
    painted = 0.22 * _grey(image) + 0.78 * colours[np.where(known, mask, 0)]
    picture = np.where(((mask > 0) & known)[..., None], painted, _grey(image))
    return np.where((mask == ignored)[..., None], 1.0, picture)


def _errors(
    image: NDArray[np.uint8], label: NDArray[np.uint8], prediction: NDArray[np.uint8], ignored: int
) -> NDArray[np.float64]:
    wrong = (label != prediction) & (label != ignored)
    picture = np.where(wrong[..., None], np.array(to_rgb(WRONG)), _grey(image))
    return np.where((label == ignored)[..., None], 1.0, picture)
