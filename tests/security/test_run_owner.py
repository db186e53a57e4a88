"""A run folder of another user is read, and never written in or resumed."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from raysearch import runs
from raysearch.errors import RunError
from raysearch.records.run_folder import RunFolder, find_ended
from tests.records import fakes

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
OTHER = 12345

PARTS: dict[str, Callable[[RunFolder], Path]] = {
    "the folder": lambda run: run.path,
    "run.json": lambda run: run.info_file,
    "study.yaml": lambda run: run.study_file,
    "splits.json": lambda run: run.splits_file,
    "optuna.journal": lambda run: run.journal,
    "trials": lambda run: run.trials_folder,
}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = fakes.new_run(tmp_path / "results")
    run.journal.write_text("")
    run.write(run.splits_file.name, "{}")
    fakes.add_trial(run, 0, 0.5)
    return run


@needs_root
@pytest.mark.parametrize("part", PARTS)
def test_what_belongs_to_another_user_is_not_resumed(run: RunFolder, part: str) -> None:
    assert RunFolder.open(run.path).is_mine
    os.chown(PARTS[part](run), OTHER, OTHER)
    with pytest.raises(RunError, match="belongs to another user; copy the folder"):
        RunFolder.open(run.path)
    with pytest.raises(RunError, match="belongs to another user"):
        find_ended(run.output, run.name, "measure")
    assert RunFolder.read(run.path).trials()


@needs_root
def test_the_commands_say_so(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    from raysearch import tune

    os.chown(run.path, OTHER, OTHER)
    assert tune.main(["animals", "--resume", "--output", str(run.output)]) == 2
    assert "belongs to another user" in " ".join(capsys.readouterr().err.split())
    assert runs.main(["clean", run.name, "--yes", "--output", str(run.output)]) == 2
    assert run.path.is_dir()


def test_a_folder_that_was_passed_on_is_not_resumed(run: RunFolder) -> None:
    run.describe(owner=os.getuid() + 1)
    with pytest.raises(RunError, match="belongs to another user"):
        RunFolder.open(run.path)


@pytest.mark.parametrize("part", [name for name in PARTS if name not in ("the folder", "run.json")])
def test_a_part_that_lies_elsewhere_is_not_followed(run: RunFolder, part: str) -> None:
    path = PARTS[part](run)
    elsewhere = run.output / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    with pytest.raises(RunError, match="belongs to another user"):
        RunFolder.open(run.path)
