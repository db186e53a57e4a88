"""The folder of one search, `<output>/<study>/<run>`: the first and last word on what happened.

study.yaml        the study as resolved          run.json       command, versions, seed, owner
splits.json       names of each split            optuna.journal what the sampler knows
trials/0007/      recipe.json, metrics.jsonl, end.json, error.txt, last/, best/, pictures
leaderboard.csv   best.yaml   summary.json   figures
test.json         what the best trial is worth on the test split, and how often that was opened
"""

import getpass
import math
import os
import time
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from raysearch.config import Objective, Recipe
from raysearch.errors import RunError, closest
from raysearch.records.files import read_json, write_json, write_text
from raysearch.records.lock import Owner, lock, owner
from raysearch.records.trial_record import TrialRecord, result, so_far
from raysearch.training.clock import shared_clock
from raysearch.training.history import read_history

INFO, LATEST = "run.json", "latest"
RECIPE, END, ERROR = "recipe.json", "end.json", "error.txt"


class RunFolder:
    """Paths of one search, and reading and writing its files in whole steps."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.info_file = self.path / INFO
        self.study_file = self.path / "study.yaml"
        self.splits_file = self.path / "splits.json"
        self.journal = self.path / "optuna.journal"
        self.trials_folder = self.path / "trials"
        self.leaderboard = self.path / "leaderboard.csv"
        self.best_file = self.path / "best.yaml"
        self.summary_file = self.path / "summary.json"
        self.test_file = self.path / "test.json"
        self.probabilities = self.path / "probabilities"

    @classmethod
    def create(cls, output: Path | str, study_name: str, **about: Any) -> Self:
        """Make the folder of a new search, named by the time, and point `latest` at it.

        Args:
            about: more that run.json says from the first moment on; a run with `again`, which only
                trains again what a search has found, is never the latest.

        Raises:
            RunError: the output folder cannot be written.
        """
        parent = Path(output).absolute() / study_name
        try:
            parent.mkdir(parents=True, exist_ok=True)
            run = cls(_new_folder(parent))
            run.trials_folder.mkdir()
        except OSError as error:
            raise RunError(
                f"{parent}: cannot be written ({error.strerror}); change its permissions, or "
                "choose another folder with --output"
            ) from error
        run.describe(
            id=uuid.uuid4().hex, study=study_name, started=shared_clock(run.path)(), owner=_user(),
            user=_login(), **about,
        )  # fmt: skip
        point_latest(parent)
        return run

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Open the folder of a search of this user, to write in it.

        Raises:
            RunError: it is not the folder of a search, or it belongs to another user.
        """
        run = cls.read(path)
        if not run.is_mine:
            raise RunError(
                f"{run.path}: belongs to another user; copy the folder and resume your copy, or "
                "use --start-from to begin with its best points"
            )
        return run

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """Open the folder of anyone's search, to read it.

        Raises:
            RunError: it is not the folder of a search.
        """
        run = cls(Path(path).resolve())
        if not run.info_file.is_file():
            raise RunError(
                f"{path}: not the folder of a search ({INFO} is missing); "
                "`python -m raysearch.runs list` shows those that there are"
            )
        return run

    @property
    def is_mine(self) -> bool:
        """Whether this user made the folder and what a resumed search would follow in it, and
        nobody has passed it on."""
        files = (self.info_file, self.study_file, self.splits_file, self.journal)
        inner = [path for path in (*files, self.trials_folder) if os.path.lexists(path)]
        mine = all(path.lstat().st_uid == _user() for path in inner)
        mine = mine and self.path.stat().st_uid == _user()
        linked = any(path.is_symlink() for path in inner)
        return mine and not linked and self.info.get("owner", _user()) == _user()

    @property
    def name(self) -> str:
        """Study and run, such as animals/20260131-120000."""
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def output(self) -> Path:
        """The folder that holds all studies, and their MLflow records."""
        return self.path.parent.parent

    @property
    def info(self) -> dict[str, Any]:
        """What run.json holds: id, study, started (Unix seconds), owner, command, versions, ..."""
        return read_json(self.info_file)

    def describe(self, **values: Any) -> None:
        """Add values to run.json."""
        known = self.info if self.info_file.is_file() else {}
        write_json(self.info_file, known | values)

    def clock(self) -> Callable[[float], float]:
        """Return what turns Unix seconds into seconds of search, the pauses between sessions out.

        run.json's `sessions` lists begin and end of each; the end of one that runs is null.
        """
        info = self.info
        sessions = info.get("sessions") or [(info["started"], None)]

        def searched(moment: float) -> float:
            ends = [(begin, math.inf if end is None else end) for begin, end in sessions]
            return sum(max(0.0, min(moment, end) - begin) for begin, end in ends)

        return searched

    def summary(self) -> dict[str, Any]:
        """Return what summary.json holds; empty before the search's first end."""
        return read_json(self.summary_file) if self.summary_file.is_file() else {}

    def write(self, name: str, text: str) -> Path:
        """Write a text file of this folder, such as study.yaml, in one step."""
        write_text(self.path / name, text)
        return self.path / name

    def lock(self) -> AbstractContextManager[Owner]:
        """Hold this folder while a search runs in it.

        Raises:
            RunError: on entering, where another search holds it.
        """
        return lock(self.path)

    def owner(self) -> Owner | None:
        """Return the process whose search runs here, or None."""
        return owner(self.path)

    def trial_folder(self, number: int) -> Path:
        return self.trials_folder / f"{number:04d}"

    def begin_trial(self, number: int, recipe: Recipe) -> TrialRecord:
        """Write a trial's recipe; return what is known of it, which is more after a resume."""
        folder = self.trial_folder(number)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / END).unlink(missing_ok=True)
        write_json(folder / RECIPE, recipe.model_dump(mode="json"))
        return self.trial(number)

    def end_trial(self, number: int, state: str, reason: str, objective: Objective) -> TrialRecord:
        """Write how a trial ended, one of `STATES`, and what its history comes to."""
        folder = self.trial_folder(number)
        end = {"state": state, "reason": reason, **result(read_history(folder), objective)}
        if state == "failed":
            end |= {"value": None, "best_epoch": None}
        write_json(folder / END, end)
        return self.trial(number)

    def trial(self, number: int) -> TrialRecord:
        """Read one trial.

        Raises:
            RunError: a file of it is missing or damaged.
        """
        folder = self.trial_folder(number)
        try:
            recipe = Recipe.model_validate(read_json(folder / RECIPE))
        except ValidationError as error:
            raise RunError(f"{folder / RECIPE}: no recipe of this version: {error}") from error
        history = read_history(folder)
        end = read_json(folder / END) if (folder / END).is_file() else so_far(history)
        known = TrialRecord.__dataclass_fields__.keys() - {"number", "recipe", "history"}
        return TrialRecord(
            number, recipe, history=history, **{k: v for k, v in end.items() if k in known}
        )

    def trials(self) -> list[TrialRecord]:
        """Read all trials, by number."""
        return [self.trial(number) for number in self.numbers()]

    def numbers(self) -> list[int]:
        """Return the numbers of all trials that have begun."""
        found = (path.parent for path in self.trials_folder.glob(f"*/{RECIPE}"))
        return sorted(int(folder.name) for folder in found if folder.name.isdigit())

    def error(self, number: int) -> str:
        """Return a failed trial's traceback; empty where there is none."""
        path = self.trial_folder(number) / ERROR
        return path.read_text(encoding="utf-8") if path.is_file() else ""


def find_runs(output: Path | str) -> list[RunFolder]:
    """Return all searches under an output folder, by study, oldest first."""
    parents = sorted(path for path in Path(output).absolute().glob("*") if path.is_dir())
    return [RunFolder(path) for parent in parents for path in _runs_in(parent)]


def find_run(output: Path | str, name: str) -> RunFolder:
    """Find a search by a path, `study/run`, `run`, or `study`, which is its latest.

    Raises:
        RunError: there is none, with the nearest names.
    """
    candidates = [
        Path(name),
        Path(output) / name,
        Path(name) / LATEST,
        Path(output) / name / LATEST,
    ]
    for path in candidates:
        if (path / INFO).is_file():
            return RunFolder.read(path)
    runs = find_runs(output)
    named = [run for run in runs if run.path.name == name]
    if len(named) == 1:
        return named[0]
    if not runs:
        raise RunError(f"{output}: holds no search yet; run one, such as `make animals`")
    known = {name for run in runs for name in (run.name, run.path.parent.name)}
    raise RunError(f"no search is called '{name}' in {output}. {closest(name, known)}")


def find_ended(output: Path | str, name: str, work: str) -> RunFolder:
    """Find a search of this user, to write in it, that does not run.

    Args:
        name: see `find_run`.
        work: what waits for its end, such as "measure".

    Raises:
        RunError: there is none, it is another user's, or it runs.
    """
    run = RunFolder.open(find_run(output, name).path)
    owner = run.owner()
    if owner is not None:
        raise RunError(f"{run.name} runs as {owner}; {work} when the search has ended")
    return run


def point_latest(parent: Path) -> None:
    """Point `latest` at the newest search of a study, or take it away with the last one."""
    runs = _runs_in(parent)
    if not runs:
        (parent / LATEST).unlink(missing_ok=True)
        return
    infos = {path: read_json(path / INFO) for path in runs}
    searches = [path for path in runs if "again" not in infos[path]] or runs
    newest = max(searches, key=lambda path: (infos[path].get("started", 0.0), path.name))
    aside = parent / f".{LATEST}.{os.getpid()}"
    aside.unlink(missing_ok=True)
    aside.symlink_to(newest.name, target_is_directory=True)
    aside.replace(parent / LATEST)


def _runs_in(parent: Path) -> list[Path]:
    """The run folders of a study, without `latest` and what is about to be removed."""
    folders = (path.parent for path in parent.glob(f"*/{INFO}"))
    return sorted(path for path in folders if path.name != LATEST and path.name[0] != ".")


def _new_folder(parent: Path) -> Path:
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for number in range(1, 1000):
        path = parent / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise FileExistsError(17, "a thousand searches were started in this second")


_user: Callable[[], int] = getattr(os, "getuid", lambda: 0)


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # No such user in this container.
        return str(_user())
