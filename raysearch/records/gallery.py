"""Which figures a run folder holds, and where: of each trial, and of the whole search."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from raysearch.config import Study
from raysearch.inference.choose import MODEL
from raysearch.records import confusion, pictures, predictions
from raysearch.records.predictions import Answer, Panel
from raysearch.records.run_folder import RunFolder
from raysearch.records.trial_record import TrialRecord

CURVES, BEST = "learning_curves.png", "best_so_far.png"
TRIAL_CURVES, PREDICTIONS, CONFUSION = "curves.png", "predictions.png", "confusion.png"
ENSEMBLE_FOLDER = "ensemble"


def draw_trial(run: RunFolder, study: Study, record: TrialRecord) -> list[Path]:
    """Draw a trial's curves, and its predictions and its confusion matrix where it kept them.

    Returns what was drawn.
    """
    folder, classes = run.trial_folder(record.number), study.data.classes
    drawn = []
    if record.history:
        path = folder / TRIAL_CURVES
        drawn.append(pictures.trial_curves(record, study.objective, study.what, path))
    drawn += draw_predictions(folder, study)
    counts = confusion.read_confusion(folder / confusion.FILE, len(classes))
    if counts is not None:
        drawn.append(confusion.draw_confusion(counts, classes, folder / CONFUSION))
    return drawn


def draw_ensemble(run: RunFolder, study: Study, told: Mapping[str, Any]) -> list[Path]:
    """Draw what an ensemble answers for the same images as the trials', and its confusion matrix
    of the test split, where these were kept; return what was drawn.

    Args:
        told: what ensemble.json holds.
    """
    folder = run.path / ENSEMBLE_FOLDER
    drawn = draw_predictions(folder, study) if folder.is_dir() else []
    counts = told["test"]["rows"][MODEL]["confusion"] if told.get("test") else None
    if counts is not None:
        folder.mkdir(exist_ok=True)
        classes = study.data.classes
        drawn.append(confusion.draw_confusion(np.array(counts), classes, folder / CONFUSION))
    return drawn


def draw_predictions(folder: Path, study: Study) -> list[Path]:
    """Draw the predictions.npz of a folder; return what was drawn."""
    kept, path = folder / "predictions.npz", folder / PREDICTIONS
    classes = study.data.classes
    if study.what.segments:
        panels = read_panels(kept)
        ignored = study.data.ignore_index
        return [predictions.segmented(panels, classes, path, ignored)] if panels else []
    answers = read_answers(kept)
    return [predictions.classified(answers, classes, path)] if answers else []


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
