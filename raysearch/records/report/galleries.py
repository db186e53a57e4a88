"""The model's kept predictions, or else the best trial's, from right to wrong."""

from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from matplotlib.colors import to_hex
from PIL import Image

from raysearch.records.gallery import ENSEMBLE_FOLDER, read_answers, read_panels
from raysearch.records.predictions import Answer, Panel, in_a_row, three_bands
from raysearch.records.report.known import Known
from raysearch.records.style import class_colours
from raysearch.training.probe import FILE

EACH = 4
QUALITY = 88
One = TypeVar("One")


@dataclass(frozen=True)
class Shown:
    """A prediction as the page shows it; `right` colours its title."""

    source: str
    title: str
    caption: str
    right: bool


@dataclass(frozen=True)
class Gallery:
    """Best, median and worst of the kept predictions.

    Attributes:
        wide: whether each picture is a strip of image, label, prediction and error.
        colours: of the foreground classes that occur in it, by their names.
    """

    parts: dict[str, list[Shown]]
    wide: bool
    colours: dict[str, str]
    kept: int


def has_model(known: Known) -> bool:
    """Whether the ensemble's predictions of the same images were kept."""
    return known.ensemble is not None and _kept(known).is_file()


def _kept(known: Known) -> Path:
    return known.run.path / ENSEMBLE_FOLDER / FILE


def gallery(known: Known) -> Gallery | None:
    """Return the gallery of the model or of the best trial; None where none was kept."""
    if known.best is None:
        return None
    path = _kept(known) if has_model(known) else known.run.trial_folder(known.best.number) / FILE
    if known.study.what.segments:
        return _of_panels(known, read_panels(path))
    return _of_answers(known, read_answers(path))


def _of_panels(known: Known, panels: Sequence[Panel]) -> Gallery | None:
    """Segmented images are ranked by the share of their labelled pixels that is right."""
    ignored, classes = known.study.data.ignore_index, known.study.data.classes
    shares = [_accuracy(panel, ignored) for panel in panels]
    labelled = [(s, p) for s, p in zip(shares, panels, strict=True) if s is not None]
    if not labelled:
        return None
    colours = class_colours(len(classes))

    def show(one: tuple[float, Panel]) -> Shown:
        share, panel = one
        said = f"{100 * share:.1f} % of its pixels are right"
        return Shown(_jpeg(in_a_row(panel, colours, ignored)), said, "", True)

    present = {int(c) for _, p in labelled for mask in p[1:] for c in np.unique(mask)}
    named = {classes[c]: to_hex(colours[c]) for c in sorted(present) if 0 < c < len(classes)}
    ordered = sorted(labelled, key=lambda one: -one[0])
    return Gallery(_parts(ordered, show), True, named, len(ordered))


def _accuracy(panel: Panel, ignored: int) -> float | None:
    """The share of labelled pixels that is right; None where none is labelled."""
    _, label, prediction = panel
    counted = label != ignored
    return float((label == prediction)[counted].mean()) if counted.any() else None


def _of_answers(known: Known, answers: Sequence[Answer]) -> Gallery | None:
    """Answers are ranked from right and certain to wrong and certain."""
    classes = known.study.data.classes
    if not answers:
        return None

    def show(answer: Answer) -> Shown:
        right = answer.label == answer.prediction
        said = f"{classes[answer.prediction]} {answer.probability:.0%}"
        truth = "right" if right else f"it is {classes[answer.label]}"
        return Shown(_jpeg((255 * three_bands(answer.image)).astype(np.uint8)), said, truth, right)

    ordered = sorted(answers, key=_certainty, reverse=True)
    return Gallery(_parts(ordered, show), False, {}, len(ordered))


def _certainty(answer: Answer) -> float:
    return answer.probability if answer.label == answer.prediction else -answer.probability


def _parts(ordered: Sequence[One], show: Callable[[One], Shown]) -> dict[str, list[Shown]]:
    """At most four each of the first, the middle and the last, none of them twice."""
    each = min(EACH, max(1, len(ordered) // 3))
    middle = (len(ordered) - each) // 2
    places = {
        "Best": range(each),
        "Median": range(middle, middle + each),
        "Worst": range(len(ordered) - each, len(ordered)),
    }
    parts: dict[str, list[Shown]] = {}
    seen: set[int] = set()
    for name, wanted in places.items():
        fresh = [place for place in wanted if place not in seen]
        seen.update(fresh)
        if fresh:
            parts[name] = [show(ordered[place]) for place in fresh]
    return parts


def _jpeg(picture: Any) -> str:
    data = BytesIO()
    Image.fromarray(picture).save(data, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{b64encode(data.getvalue()).decode('ascii')}"
