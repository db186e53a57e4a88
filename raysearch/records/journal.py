"""What the sampler has written down of a search."""

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import optuna

START = "start"  # The attribute of a trial that began as a start point of the study: its place.


def mend(path: Path) -> None:
    """Cut off a last line that a full disk or a kill has torn; what is appended would join it."""
    if not path.is_file():
        return
    whole = path.read_bytes()
    end = whole.rfind(b"\n") + 1
    if end < len(whole):
        os.truncate(path, end)


def load_journal(path: Path) -> "optuna.Study | None":
    """Load the Optuna study of a journal, without changing it; None where there is none yet."""
    if not path.is_file():
        return None
    import optuna
    from optuna.exceptions import ExperimentalWarning
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        storage = JournalStorage(JournalFileBackend(str(path)))
        names = optuna.get_all_study_names(storage)
        return optuna.load_study(study_name=names[0], storage=storage) if names else None


def start_trials(path: Path) -> dict[int, int]:
    """Return the place in `start` of each trial that began as one of the study's start points."""
    study = load_journal(path)
    trials = study.get_trials(deepcopy=False) if study else []
    return {t.number: int(t.user_attrs[START]) for t in trials if START in t.user_attrs}
