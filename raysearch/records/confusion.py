"""The confusion matrix of a trial's best epoch: which class is taken for which other."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from raysearch.records.style import INK, QUIET, figure, save

NUMBERED, NAMED = 12, 30
FILE = "confusion.npy"


def read_confusion(path: Path, classes: int) -> NDArray[np.int64] | None:
    """Read a matrix (K, K), rows true classes; None where there is none that is whole."""
    try:
        counts = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None  # A picture less, not a search.
    return counts if counts.shape == (classes, classes) else None


def shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each true class's shares of predicted classes, (K, K); NaN where it never occurs."""
    totals = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)


def draw_confusion(counts: NDArray[np.int64], classes: Sequence[str], path: Path) -> Path:
    """Draw the shares of predicted classes, one row a true class.

    Up to 12 classes have numbers in their fields, and up to 30 have names.
    """
    count = len(classes)
    side = float(np.clip(0.42 * count, 3.2, 8.0))
    drawn = figure(side + 2.2, side + 1.2)
    axes = drawn.subplots()
    share = shares(counts)
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    bar = drawn.colorbar(picture, ax=axes, shrink=0.7, aspect=30)
    bar.ax.tick_params(labelsize=7, colors=QUIET, length=0)
    bar.outline.set_visible(False)
    axes.set_xlabel("predicted", fontsize=9, color=QUIET)
    axes.set_ylabel("true", fontsize=9, color=QUIET)
    _name(axes, classes if count <= NAMED else [])
    if count <= NUMBERED:
        _number(axes, share)
    return save(drawn, path)


def _name(axes: Axes, classes: Sequence[str]) -> None:
    places = range(len(classes))
    axes.set_xticks(places, classes, rotation=90)
    axes.set_yticks(places, classes)
    axes.tick_params(colors=INK, labelsize=7, length=0)
    axes.spines[:].set_visible(False)


def _number(axes: Axes, share: NDArray[np.float64]) -> None:
    """Write each share into its field, white on dark ones; nothing where it is zero."""
    for (row, column), value in np.ndenumerate(share):
        if value > 0:
            colour = "white" if value > 0.55 else INK
            axes.text(
                column, row, f"{value:.2f}".removeprefix("0"), ha="center", va="center",
                fontsize=7, color=colour,
            )  # fmt: skip
