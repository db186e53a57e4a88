"""Which figures a run folder holds, and where: of each trial, and of the whole search."""

import zipfile
from pathlib import Path

import numpy as np

from raysearch.config import Study
from raysearch.records import confusion, pictures, predictions
from raysearch.records.predictions import Answer, Panel
from raysearch.records.run_folder import RunFolder
from raysearch.records.trial_record import TrialRecord

CURVES, BEST = "learning_curves.png", "best_so_far.png"
TRIAL_CURVES, PREDICTIONS, CONFUSION = "curves.png", "predictions.png", "confusion.png"


def draw_trial(run: RunFolder, study: Study, record: TrialRecord) -> list[Path]:
    """Draw a trial's curves, and its predictions and its confusion matrix where it kept them.

    Returns what was drawn.
    """
    folder, classes = run.trial_folder(record.number), study.data.classes
    drawn = []
    if record.history:
        path = folder / TRIAL_CURVES
        drawn.append(pictures.trial_curves(record, study.objective, study.what, path))
    kept, path = folder / "predictions.npz", folder / PREDICTIONS
    if study.what.segments:
        panels = read_panels(kept)
        if panels:
            ignored = study.data.ignore_index
            drawn.append(predictions.segmented(panels, classes, path, ignored))
    else:
        answers = read_answers(kept)
        if answers:
            drawn.append(predictions.classified(answers, classes, path))
    counts = confusion.read_confusion(folder / confusion.FILE, len(classes))
    if counts is not None:
        drawn.append(confusion.draw_confusion(counts, classes, folder / CONFUSION))
    return drawn


def draw_search(run: RunFolder, study: Study) -> list[Path]:
    """Draw a search's learning curves and its best value over time; return what was drawn."""
    records = run.trials()
    if not any(record.history for record in records):
        return []
    return [
        pictures.learning_curves(records, study.objective, run.path / CURVES),
        pictures.best_so_far(records, study.objective, run.clock(), run.path / BEST),
    ]


def read_panels(path: Path) -> list[Panel]:
    """Read image0, label0, prediction0, image1, ... of an .npz; empty where there is none."""
    rows = _read(path, ("image", "label", "prediction"))
    return [(image, label, prediction) for image, label, prediction in rows]


def read_answers(path: Path) -> list[Answer]:
    """Read image0, label0, prediction0, probability0, ... of an .npz; empty where there is none."""
    rows = _read(path, ("image", "label", "prediction", "probability"))
    return [Answer(image, int(k), int(p), float(share)) for image, k, p, share in rows]


def _read(path: Path, kinds: tuple[str, ...]) -> list[list[np.ndarray]]:
    """The arrays of each kept picture, in the order of kinds."""
    if not path.is_file():
        return []
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            count = sum(name.startswith("image") for name in arrays)
            return [[arrays[f"{kind}{n}"] for kind in kinds] for n in range(count)]
    except (ValueError, KeyError, OSError, zipfile.BadZipFile):
        return []  # Pictures are a help to the eye; a torn file costs one, not the search.
