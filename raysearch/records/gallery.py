"""Which figures a run folder holds, and where: of each trial, and of the whole search."""

import zipfile
from pathlib import Path

import numpy as np

from raysearch.config import Study
from raysearch.records import pictures
from raysearch.records.run_folder import RunFolder
from raysearch.records.trial_record import TrialRecord

CURVES, BEST = "learning_curves.png", "best_so_far.png"
TRIAL_CURVES, PREDICTIONS = "curves.png", "predictions.png"


def draw_trial(run: RunFolder, study: Study, record: TrialRecord) -> list[Path]:
    """Draw a trial's curves, and its predictions where it kept some; return what was drawn."""
    folder, classes = run.trial_folder(record.number), study.data.classes
    drawn = []
    if record.history:
        path = folder / TRIAL_CURVES
        drawn.append(pictures.trial_curves(record, study.objective, classes, path))
    panels = read_panels(folder / "predictions.npz")
    if panels:
        ignored = study.data.ignore_index
        drawn.append(pictures.predictions(panels, classes, folder / PREDICTIONS, ignored))
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


def read_panels(path: Path) -> list[pictures.Panel]:
    """Read image0, label0, prediction0, image1, ... of an .npz; empty where there is none."""
    if not path.is_file():
        return []
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            count = sum(name.startswith("image") for name in arrays)
            kinds = ("image", "label", "prediction")
            return [tuple(arrays[f"{kind}{n}"] for kind in kinds) for n in range(count)]
    except (ValueError, KeyError, OSError, zipfile.BadZipFile):
        return []  # Pictures are a help to the eye; a torn file costs one, not the search.
