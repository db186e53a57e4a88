"""The trials of a search whose weights are kept, for other searches to build upon."""

from pathlib import Path

from raysearch.errors import RunError
from raysearch.records.leaderboard import ranked
from raysearch.records.run_folder import RunFolder
from raysearch.study import load_study
from raysearch.training.checkpoint import BEST


def best_folders(run: RunFolder) -> dict[str, Path]:
    """Return the folder of each architecture's best trial that keeps its weights, best first."""
    objective = load_study(str(run.study_file)).objective
    folders: dict[str, Path] = {}
    for record in ranked(run.trials(), objective):
        folder = run.trial_folder(record.number)
        if record.value is not None and any((folder / BEST).glob("epoch-*")):
            folders.setdefault(record.recipe.architecture, folder)
    return folders


def best_folder(run: RunFolder) -> Path:
    """Return the folder of a search's best trial.

    Raises:
        RunError: no trial has kept its weights.
    """
    folders = best_folders(run)
    if not folders:
        raise RunError(f"{run.path}: no trial of it has kept its weights; choose another search")
    return next(iter(folders.values()))
