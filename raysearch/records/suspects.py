"""What a search suspects of its labels, in the run folder: a table, and a picture of the worst.

label_suspects.json, label_suspects.csv   all of them, worst first; the former also says which
                                          classes the trials know too little of to judge them
label_suspects/001.jpg ...                image, label, what trials say, and where the two differ
"""

import csv
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raysearch.config import Study
from raysearch.data import Data
from raysearch.data.display import class_colours, for_display
from raysearch.inference.probabilities import Probabilities
from raysearch.inference.suspects import AGREED, Suspect, accused, ask, jury, knowledge
from raysearch.records.files import read_json, write_json, write_text
from raysearch.records.predictions import GAP, in_a_row
from raysearch.records.run_folder import RunFolder

FOLDER = "label_suspects"
MOST = 40  # Pictures.
SIDE, QUALITY = 320, 88
COLUMNS = (
    "rank", "image", "split", "kind", "label", "said", "confidence", "agreement", "pixels",
    "left", "top", "right", "bottom", "score",
)  # fmt: skip


def write_suspects(
    run: RunFolder, found: Sequence[Probabilities], data: Data, study: Study
) -> list[Suspect]:
    """List images and regions whose label is probably wrong; draw the worst 40.

    Args:
        found: candidates whose answers on validation are on the disk.

    Raises:
        RunError: the run folder cannot be written.
    """
    task, told = study.what, []
    jurors, unknown = jury(found, study.objective, task), []
    if jurors:
        known = knowledge(jurors, data, task)
        told = accused(jurors, known, data, task)
        pairs = zip(task.classes, known.judged, strict=True)
        unknown = [name for name, judged in pairs if not judged]
    rows = [_row(study, rank, one) for rank, one in enumerate(told, start=1)]
    aside, folder = run.path / f".{FOLDER}", run.path / FOLDER
    for place in (aside, folder):
        shutil.rmtree(place, ignore_errors=True)
    aside.mkdir()
    for row, one in zip(rows[:MOST], told, strict=False):
        row["picture"] = f"{FOLDER}/{row['rank']:03d}.jpg"
        picture = Image.fromarray(_picture(one, jurors, data, study))
        picture.save(aside / Path(row["picture"]).name, quality=QUALITY)
    aside.rename(folder)
    text = StringIO()
    table = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(run.path / f"{FOLDER}.csv", text.getvalue())
    write_json(
        run.path / f"{FOLDER}.json",
        {
            "images": len(data.indices("val")),
            "trials": [_trial(run, juror) for juror in jurors],
            "agreed": AGREED,
            "unknown": unknown,
            "suspects": rows,
        },
    )
    return told


def read_suspects(run: RunFolder) -> dict[str, Any] | None:
    """Return what label_suspects.json says, or None where nobody has looked."""
    path = run.path / f"{FOLDER}.json"
    return read_json(path) if path.is_file() else None


def _row(study: Study, rank: int, one: Suspect) -> dict[str, Any]:
    classes = study.data.classes
    values = asdict(one) | {"rank": rank, "image": one.name}
    sides = dict(zip(("left", "top", "right", "bottom"), one.box or ("",) * 4, strict=True))
    shown = values | sides | {"label": classes[one.label], "said": classes[one.said]}
    return {
        key: round(shown[key], 6) if isinstance(shown[key], float) else shown[key]
        for key in COLUMNS
    }


def _trial(run: RunFolder, juror: Probabilities) -> str:
    """A trial's number; with its search where that is another one."""
    candidate = juror.candidate
    own = candidate.run.resolve() == run.path.resolve()
    return str(candidate.trial) if own else f"{candidate.run.name} {candidate.trial}"


def _picture(
    one: Suspect, jurors: Sequence[Probabilities], data: Data, study: Study
) -> NDArray[np.uint8]:
    """The image; of a region also label, what trials say and where they differ, all with a box."""
    index = data.indices(one.split)[one.position]
    image = for_display(np.asarray(data.cache.image(index)))
    height, width = image.shape[:2]
    scale = SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    if one.box is None:
        return np.asarray(small, dtype=np.uint8)
    said = ask(jurors, one.position).said
    label, said = (
        cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        for mask in (data.cache.mask(index), said)
    )
    colours = class_colours(len(study.data.classes))
    strip = in_a_row((small, label, said), colours, study.data.ignore_index)
    box = [round(edge * scale) for edge in one.box]
    for place in range(4):
        _mark(strip, round(place * (1 + GAP) * size[0]), size, box)
    return strip


def _mark(strip: NDArray[np.uint8], start: int, size: tuple[int, int], box: Sequence[int]) -> None:
    """Draw a box, two pixels outside and within the panel, white on black."""
    left, top = max(1, box[0] - 3), max(1, box[1] - 3)
    right, bottom = min(size[0] - 2, box[2] + 2), min(size[1] - 2, box[3] + 2)
    for colour, thick in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.rectangle(strip, (start + left, top), (start + right, bottom), colour, thick)
