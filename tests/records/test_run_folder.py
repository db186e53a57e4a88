"""The run folder: what is written can be read, and what cannot be used is said."""

import os
from pathlib import Path

import pytest

from raysearch.errors import RunError
from raysearch.records.files import read_json, write_text
from raysearch.records.repeat import difference, find_trial
from raysearch.records.run_folder import RunFolder, find_run, find_runs, point_latest
from raysearch.study import load_study
from tests.records import fakes


def test_a_new_run_is_described_and_latest(run: RunFolder) -> None:
    latest = run.path.parent / "latest"
    assert os.readlink(latest) == run.path.name
    assert run.info["study"] == "animals"
    assert run.info["data_digest"] == "abc123"
    assert len(run.info["id"]) == 32
    assert run.name == f"animals/{run.path.name}"
    assert run.output.name == "results"
    assert RunFolder.open(latest).path == run.path
    assert load_study(str(run.study_file)) == fakes.study()


def test_runs_of_the_same_second_have_names_of_their_own(tmp_path: Path) -> None:
    runs = [RunFolder.create(tmp_path, "animals") for _ in range(3)]
    assert len({run.path for run in runs}) == 3
    assert {run.path for run in find_runs(tmp_path)} == {run.path for run in runs}
    assert (tmp_path / "animals/latest").resolve() == runs[-1].path


def test_a_trial_reads_back(run: RunFolder) -> None:
    record = fakes.add_trial(run, 7, 0.5, learning_rate=2e-3)
    assert record == run.trial(7)
    assert (record.state, record.epochs, record.best_epoch) == ("completed", 3, 3)
    assert record.value == pytest.approx(record.history[-1]["miou"])
    assert record.seconds == pytest.approx(30)
    assert record.parameters == 1234
    assert record.recipe.learning_rate == 2e-3
    assert record.best_metrics["epoch"] == 3
    assert run.numbers() == [7]


def test_a_running_trial_has_the_value_of_its_last_line(run: RunFolder) -> None:
    record = fakes.add_trial(run, 0, 0.5, epochs=2, state="running")
    assert record.state == "running"
    assert record.value == pytest.approx(record.history[1]["miou"])
    assert record.best_epoch == 2


def test_a_failed_trial_has_no_value(run: RunFolder) -> None:
    record = fakes.add_trial(run, 0, 0.5, state="failed")
    assert (record.value, record.best_epoch, record.epochs) == (None, None, 3)


def test_a_torn_line_is_left_out(run: RunFolder) -> None:
    fakes.add_trial(run, 0, 0.5, epochs=2, state="running")
    with (run.trial_folder(0) / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "mi')
    assert run.trial(0).epochs == 2


def test_a_trial_that_is_not_yet_written_is_no_trial(run: RunFolder) -> None:
    run.trial_folder(4).mkdir(parents=True)
    assert run.trials() == []


def test_a_trial_that_begins_again_keeps_its_history(run: RunFolder) -> None:
    fakes.add_trial(run, 0, 0.5, epochs=2, state="stopped")
    record = run.begin_trial(0, fakes.recipe())
    assert (record.state, record.epochs) == ("running", 2)


@pytest.mark.parametrize("name", ["recipe.json", "end.json"])
def test_a_damaged_file_is_named(run: RunFolder, name: str) -> None:
    fakes.add_trial(run, 0, 0.5)
    (run.trial_folder(0) / name).write_text("{")
    with pytest.raises(RunError, match=name):
        run.trials()


def test_a_recipe_of_another_version_is_named(run: RunFolder) -> None:
    fakes.add_trial(run, 0, 0.5)
    (run.trial_folder(0) / "recipe.json").write_text('{"architecture": "unet", "colour": 1}')
    with pytest.raises(RunError, match="colour"):
        run.trial(0)


def test_writing_leaves_nothing_beside(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "one")
    write_text(tmp_path / "a.txt", "two")
    assert (tmp_path / "a.txt").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_writing_nowhere_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be written"):
        write_text(tmp_path / "missing" / "a.txt", "one")


def test_a_list_is_no_mapping(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(RunError, match="no mapping"):
        read_json(tmp_path / "a.json")


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="--output"):
        RunFolder.create(tmp_path / "file", "animals")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_is_no_search(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not the folder of a search"):
        RunFolder.open(tmp_path)
    with pytest.raises(RunError, match="not the folder of a search"):
        RunFolder.open(tmp_path / "missing")


def test_a_folder_of_another_user(run: RunFolder) -> None:
    run.describe(owner=os.getuid() + 1)
    with pytest.raises(RunError, match="another user"):
        RunFolder.open(run.path)
    assert RunFolder.read(run.path).name == run.name


def test_a_run_is_found_by_many_names(run: RunFolder) -> None:
    output = run.output
    for name in ("animals", "animals/latest", run.name, run.path.name, str(run.path)):
        assert find_run(output, name).path == run.path
    with pytest.raises(RunError, match=f"Did you mean '{run.name}'"):
        find_run(output, f"{run.name[:-1]}x")


def test_no_run_at_all(tmp_path: Path) -> None:
    assert find_runs(tmp_path / "missing") == []
    with pytest.raises(RunError, match="holds no search yet"):
        find_run(tmp_path, "animals")


def test_latest_goes_with_the_last_run(tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to("gone")
    point_latest(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_repetition_is_compared_to_the_last_digit(run: RunFolder) -> None:
    before = fakes.add_trial(run, 0, 0.5)
    same, other = fakes.add_trial(run, 1, 0.5, started=5.0), fakes.add_trial(run, 2, 0.5 + 1e-9)
    unbegun = fakes.add_trial(run, 3, 0.5, epochs=0)
    assert "the same figures as trial 0 in 3 epochs" in difference(before, same, fakes.study())
    assert "first miou at epoch 1" in difference(before, other, fakes.study())
    assert "no epoch" in difference(before, unbegun, fakes.study())


def test_a_trial_is_found_by_run_and_number(run: RunFolder) -> None:
    fakes.add_trial(run, 0, 0.3)
    fakes.add_trial(run, 1, 0.5, architecture="resnet")
    for name in ("animals", run.name, run.info["id"], str(run.path)):
        assert find_trial(run.output, name).record.number == 1
        assert find_trial(run.output, f"{name}/trials/0000").record.number == 0
    again = find_trial(run.output, "animals")
    assert again.seed == 3
    assert again.study.recipe({}, again.seed) == again.record.recipe
    with pytest.raises(RunError, match="has no trial 7"):
        find_trial(run.output, "animals/latest/trials/7")
