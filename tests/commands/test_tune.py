"""`python -m raysearch.tune` from a folder of images to a leaderboard, and through its faults."""

import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import ray

from raysearch.records.run_folder import RunFolder
from raysearch.study import load_study, to_yaml

from .conftest import STUDY, Workplace

FIXED = STUDY["fixed"]
NOISE = re.compile(r"Warning|Traceback|Error\b|deprecat", re.IGNORECASE)


def test_a_search_ends_with_a_leaderboard_and_records(workplace: Workplace) -> None:
    output = workplace.run("tiny.yaml", "--seed", "3")
    assert not NOISE.search(output.replace("calibration error", "")), output
    summary, board = workplace.summary(), workplace.leaderboard()
    assert set(summary) >= {
        "study", "metric", "mode", "best", "trials", "seconds", "busy_share", "data_digest",
        "splits", "command",
    }  # fmt: skip
    assert sum(summary["trials"].values()) == len(board) == 4
    assert summary["best"]["trial"] == board.trial[0]
    assert summary["best"]["value"] == pytest.approx(board.miou.max(), abs=1e-5)
    assert set(board) >= {
        "trial", "state", "architecture", "epochs", "seconds", "miou", "lowest_iou", "parameters",
        "peak_memory_mb", "learning_rate",
    }  # fmt: skip
    assert board[board.trial == 0].learning_rate.item() == 0.005
    parents, children = workplace.mlflow_runs(f"sqlite:///{workplace.path}/results/mlflow.db")
    assert (len(parents), len(children)) == (1, 4)
    for run in children:
        assert run.info.status == "FINISHED"
        assert run.data.params["learning_rate"]
        assert run.data.tags["seed"] == "3"
        assert run.data.tags["data_digest"] == summary["data_digest"]
    files = {path.name for path in workplace.latest.iterdir()}
    assert files >= {"study.yaml", "best.yaml", "leaderboard.csv", "summary.json"}
    assert "next" in output


@pytest.mark.slow
def test_the_best_trial_trains_again_to_the_same_numbers(workplace: Workplace) -> None:
    workplace.tune("--trials", "2")
    best = workplace.summary()["best"]
    workplace.tune(study=str(workplace.latest.resolve() / "best.yaml"))
    assert workplace.summary()["best"] == {"trial": 0, "value": pytest.approx(best["value"])}


def test_both_launchers_give_the_same_numbers(workplace: Workplace) -> None:
    found = []
    for launcher in ("inline", "train"):
        workplace.tune("--launcher", launcher, "--trials", "1", "--epochs", "2")
        found.append(
            [(m["epoch"], m["loss"], m["val_loss"], m["miou"]) for m in workplace.history(0)]
        )
    assert found[0] == found[1]


def test_two_workers_a_trial_measure_as_one_and_are_freed_when_stopped(
    workplace: Workplace,
) -> None:
    """A trial whose weights stay at their seeded beginning is measured alone, then by two workers.

    ASHA stops it there after one that learns.
    """
    learns = {"architecture": "narrow", "learning_rate": 0.03}
    still = {"architecture": "narrow", "learning_rate": 1e-12}
    fixed = {**FIXED, "weight_decay": 0.0}
    workplace.write_study(start=[still], fixed=fixed, budget={"trials": 1, "epochs": 1})
    workplace.tune()
    alone = workplace.history(0)[0]
    workplace.write_study(
        start=[learns, still],
        fixed=fixed,
        budget={"trials": 2, "epochs": 9, "first_rung": 0.5, "reduction_factor": 2},
        resources={"workers_per_trial": 2},
    )
    workplace.tune()
    for key in ("miou", "pixel_accuracy", "val_loss"):
        assert workplace.history(1)[0][key] == pytest.approx(alone[key], abs=1e-3), key
    states = workplace.leaderboard().set_index("trial").state
    assert (states[0], states[1]) == ("completed", "pruned")
    assert workplace.history(1)[-1]["epoch"] < 9
    deadline = time.monotonic() + 20
    while ray.available_resources().get("CPU") != 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert ray.available_resources()["CPU"] == 2


@pytest.mark.slow
def test_a_failure_under_train_is_recorded_with_its_traceback(workplace: Workplace) -> None:
    start = [{"architecture": "wide", "loss": "1e39*cross_entropy"}]
    workplace.write_study(start=start, budget={"trials": 1, "epochs": 2})
    output = workplace.tune("--launcher", "train", code=1)
    assert "the loss is not finite" in output
    assert workplace.leaderboard().reason[0] == "not finite"


def test_a_failed_trial_is_recorded_and_the_search_goes_on(workplace: Workplace) -> None:
    start = [{"architecture": "wide", "loss": "1e39*cross_entropy"}, {"architecture": "narrow"}]
    workplace.write_study(start=start, budget={"trials": 2, "epochs": 2})
    output = workplace.tune()
    board = workplace.leaderboard()
    assert sorted(board.trial) == [0, 1]
    assert (board.trial.iloc[-1], board.state.iloc[-1]) == (0, "failed")
    assert board.reason.iloc[-1] == "not finite"
    assert board.state.iloc[0] == "completed"
    assert "not finite" in output
    error = (workplace.latest / "trials" / "0000" / "error.txt").read_text()
    assert "Traceback" in error
    _, children = workplace.mlflow_runs()
    assert sorted(run.info.status for run in children) == ["FAILED", "FINISHED"]


@pytest.mark.slow
def test_a_finished_search_is_extended(workplace: Workplace) -> None:
    workplace.tune("--trials", "2")
    workplace.tune("--resume", "--trials", "+2")
    assert sorted(workplace.leaderboard().trial) == [0, 1, 2, 3]
    parents, children = workplace.mlflow_runs()
    assert (len(parents), len(children)) == (1, 4)


def test_ctrl_c_leaves_a_search_that_resumes(
    workplace: Workplace, change: Callable[..., None]
) -> None:
    change(budget={"trials": 3, "epochs": 30})
    process = workplace.start("tiny.yaml")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(workplace.path.rglob("metrics.jsonl")):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == 130, workplace.output
    assert "finishing the running epochs" in workplace.output
    assert workplace.output.strip().endswith(f"--resume tiny/{workplace.latest.resolve().name}")
    assert "Traceback" not in workplace.output
    board = workplace.output.partition("lowest IoU")[2]
    assert "unfinished" in board
    assert "running" not in board
    described = (workplace.latest / "run.json").read_text()
    plan = workplace.tune("--resume", "--dry-run")
    assert "so far" in plan
    assert "unfinished" in plan
    assert "start points" not in plan
    assert (workplace.latest / "run.json").read_text() == described
    workplace.tune("--resume")
    assert sorted(workplace.leaderboard().trial) == [0, 1, 2]


def test_a_time_budget_ends_cleanly(workplace: Workplace, change: Callable[..., None]) -> None:
    change(budget={"epochs": 5000})
    workplace.tune("--minutes", "0.2")
    summary = workplace.summary()
    assert summary["trials"]["stopped"] == 2
    assert summary["trials"]["running"] == 0
    assert summary["best"]["value"] > 0
    assert 11 < summary["seconds"] < 60
    _, children = workplace.mlflow_runs()
    assert {run.data.tags["state"] for run in children} == {"stopped"}


def test_a_search_whose_trials_all_fail_stops_early(workplace: Workplace) -> None:
    fixed = {"image_size": 32, "crop_size": 32, "batch_size": 4, "loss": "1e39*cross_entropy"}
    workplace.write_study(fixed=fixed, budget={"trials": 50, "epochs": 2}, start=[])
    output = workplace.tune(code=1)
    assert "every trial failed" in output
    assert "Traceback" in output
    assert "not finite" in output
    assert 3 <= workplace.summary()["trials"]["failed"] < 10
    workplace.tune("--resume", "--trials", "+3", code=1)
    assert workplace.summary()["trials"]["failed"] >= 6


@pytest.mark.slow
def test_another_search_gives_the_start(workplace: Workplace, change: Callable[..., None]) -> None:
    change(space={"loss": ["focal", "cross_entropy + 0.5*dice"]})
    workplace.tune("--trials", "2", "--epochs", "2")
    before = workplace.leaderboard()
    workplace.tune(
        "--start-from", str(workplace.latest.resolve()), "--trials", "2", "--epochs", "1"
    )
    again = workplace.leaderboard()
    keys = ["architecture", "learning_rate", "loss"]
    assert set(again[keys].itertuples(index=False)) == set(before[keys].itertuples(index=False))


@pytest.mark.parametrize("trials", ["1", "0", "-3", "+0", "many"])
def test_a_resume_refuses_fewer_trials_than_there_are(workplace: Workplace, trials: str) -> None:
    run = RunFolder.create(workplace.path / "results", "tiny")
    workplace.write_study()
    run.write("study.yaml", to_yaml(load_study("tiny.yaml")))
    for number in range(2):
        run.begin_trial(number, load_study("tiny.yaml").recipe({"architecture": "wide"}))
    before = run.study_file.read_text()
    output = workplace.tune("--resume", f"--trials={trials}", code=2)
    assert "--trials" in output
    assert run.study_file.read_text() == before


def test_one_batch_is_learned_by_heart(workplace: Workplace) -> None:
    start = [{"architecture": name, "learning_rate": 0.01} for name in ("narrow", "wide")]
    workplace.write_study(start=start)
    output = workplace.tune("--overfit-batch")
    assert output.count("learns") == 2


def test_a_dry_run_checks_and_plans_and_leaves_no_run(workplace: Workplace) -> None:
    output = workplace.tune("--dry-run")
    for word in ("narrow", "wide", "learning_rate", "6 train", "ASHA"):
        assert word in output
    assert not (workplace.path / "results").exists()


def damage_image(place: Path) -> None:
    for name in ("000", "003"):
        path = next((place / "voc" / "JPEGImages").glob(f"{name}*"))
        path.write_bytes(path.read_bytes()[:40])


def drop_image(place: Path) -> None:
    next((place / "voc" / "JPEGImages").glob("001*")).unlink()


def drop_lists(place: Path) -> None:
    for path in (place / "voc" / "ImageSets" / "Segmentation").glob("train.txt"):
        path.write_text("", encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "arguments", "words"),
    [
        (None, ["--data", "nowhere"], ["nowhere", "no such folder"]),
        (None, ["--set", "budget.trial=3"], ["budget.trial", "'trials'"]),
        (None, ["--set", "budget.epochs=many"], ["budget.epochs", "many"]),
        (None, ["--set", "fixed.loss=focall"], ["focall", "'focal'"]),
        (None, ["--set", "fixed.schedule=cosin"], ["cosin", "'cosine'"]),
        (None, ["--set", "networks.narrow.widht=8"], ["widht", "'width'"]),
        (None, ["--set", "objective.metric=mIoU"], ["mIoU", "'miou'"]),
        (None, ["--set", "fixed.accumulation=3"], ["accumulation 3"]),
        (None, ["--trials", "none"], ["--trials none"]),
        (None, ["--profile", "quik"], ["quik"]),
        (None, ["--resume", "nothing"], ["no search"]),
        (None, ["--resume", "voc"], ["no search"]),
        (None, ["--output", "/proc/none"], ["/proc/none", "--output"]),
        (damage_image, [], ["000", "003", "2 of 12"]),
        (drop_image, [], ["001", "no such file"]),
        (drop_lists, [], ["train"]),
    ],
)
def test_bad_input_is_one_clear_error_and_leaves_nothing(
    workplace: Workplace, damage: Callable[[Path], None] | None, arguments: list[str],
    words: list[str],
) -> None:  # fmt: skip
    if damage:
        damage(workplace.path)
    output = workplace.tune(*arguments, code=2)
    assert output.startswith("error:"), output
    assert "Traceback" not in output
    for word in words:
        assert word in output, output
    assert not (workplace.path / "results").exists()


def test_an_unknown_study_is_answered_with_the_nearest(workplace: Workplace) -> None:
    assert "Did you mean 'animals'?" in workplace.tune(study="animal", code=2)


@pytest.mark.slow
def test_a_recorded_trial_is_repeated_to_the_same_figures(workplace: Workplace) -> None:
    workplace.tune("--trials", "1", "--epochs", "2", "--seed", "5")
    searched = workplace.latest.resolve()
    first = workplace.history(0)
    output = workplace.tune("--repeat", f"tiny/{searched.name}/trials/0")
    assert workplace.latest.resolve() != searched
    again = workplace.history(0)
    for key in ("loss", "val_loss", "miou", "pixel_accuracy", "lowest_iou"):
        assert [m[key] for m in again] == [m[key] for m in first], key
    assert "the same figures as trial 0" in output
    splits = [(folder / "splits.json").read_text() for folder in (searched, workplace.latest)]
    assert splits[0] == splits[1]
    told = RunFolder.read(workplace.latest).info
    assert (told["repeats"], told["seed"]) == (f"tiny/{searched.name}/trials/0", 5)


def test_a_repetition_takes_no_changes(workplace: Workplace) -> None:
    run = RunFolder.create(workplace.path / "results", "tiny")
    run.write("study.yaml", to_yaml(load_study("tiny.yaml")))
    for arguments, words in {
        ("--repeat", "tiny"): "no trial of it has a value",
        ("--repeat", "tiny/latest/trials/3"): "has no trial 3",
        ("--repeat", "tiny", "--epochs", "3"): "--epochs changes",
        ("--repeat", "tiny", "--set", "fixed.batch_size=2"): "--set changes",
        ("--repeat", "nothing"): "no search",
    }.items():
        assert words in workplace.tune(*arguments, code=2)
