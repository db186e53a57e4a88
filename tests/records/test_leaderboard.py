"""The leaderboard, the summary, and who is best."""

import json

import pandas as pd
import pytest

from raysearch.config import Objective, Study
from raysearch.records.goals import verdict
from raysearch.records.leaderboard import (
    best_over_time,
    best_trial,
    busy_share,
    ranked,
    table,
    write_leaderboard,
    write_summary,
)
from raysearch.records.run_folder import RunFolder
from raysearch.study import load_study
from tests.records import fakes
from tests.records.fakes import add_epochs, add_trial

BASELINE = {"name": "predicting background alone", "value": 0.1}


@pytest.fixture
def mixed(run: RunFolder) -> RunFolder:
    """Trials in every state; the failed one had the best epochs."""
    add_trial(run, 0, 0.3)
    add_trial(run, 1, 0.5, state="pruned", architecture="resnet", loss="focal + 0.5*dice")
    add_trial(run, 2, 0.9, state="failed")
    add_trial(run, 3, 0.2, state="stopped")
    add_trial(run, 4, 0.4, state="running")
    add_trial(run, 5, 0.4, epochs=0, state="running")
    return run


def test_failed_is_never_above_a_score(mixed: RunFolder) -> None:
    order = [record.number for record in ranked(mixed.trials(), Objective())]
    assert order == [1, 4, 0, 3, 5, 2]


def test_less_is_better_turns_the_order(mixed: RunFolder) -> None:
    order = [record.number for record in ranked(mixed.trials(), Objective(metric="val_loss"))]
    assert order == [3, 0, 4, 1, 5, 2]


def test_no_best_without_a_score(run: RunFolder) -> None:
    assert best_trial(run.trials(), Objective()) is None
    add_trial(run, 0, 0.9, state="failed")
    assert best_trial(run.trials(), Objective()) is None
    write_leaderboard(run, fakes.study())
    assert not run.best_file.exists()
    assert write_summary(run, fakes.study(), seconds=1, busy_share=None)["best"] is None


def test_columns_of_the_file(mixed: RunFolder) -> None:
    write_leaderboard(mixed, fakes.study())
    frame = pd.read_csv(mixed.leaderboard)
    asked = ["trial", "state", "architecture", "epochs", "seconds", "miou", "lowest_iou"]
    asked += ["parameters", "peak_memory_mb", "learning_rate", "loss", "batch_size"]
    assert set(asked) <= set(frame.columns)
    best = frame.iloc[0]
    assert best["trial"] == 1
    assert best["architecture"] == "resnet"
    assert best["loss"] == "focal + 0.5*dice"
    assert best["lowest_iou"] == pytest.approx(best["miou"] / 2, rel=1e-4)
    assert best["peak_memory_mb"] == 103
    assert frame[frame.state == "failed"].miou.isna().all()


def test_the_scores_of_each_class_have_columns(mixed: RunFolder) -> None:
    write_leaderboard(mixed, fakes.study())
    best = pd.read_csv(mixed.leaderboard).iloc[0]
    assert best["iou/cheetah"] == pytest.approx(best["miou"], rel=1e-4)
    assert best["iou/background"] == 0.9
    assert "expectations" not in best.index


def test_many_classes_have_columns_where_something_is_expected(run: RunFolder) -> None:
    classes = [f"dish {number}" for number in range(30)]
    expected = {"dish 3": (0.5, 0.7), "dish 4": (0.5, 0.7), "dish 5": (0.5, 0.7)}
    study = fakes.classification(classes, objective={"expected": expected})
    scores = {f"accuracy/{name}": 0.1 for name in classes}
    scores |= {"accuracy/dish 3": 0.6, "accuracy/dish 4": 0.8}
    add_epochs(run, 0, study, [{"top1": 0.25, "top5": 0.6, "train_accuracy": 0.5, **scores}])
    row = table(run.trials(), study).iloc[0]
    assert [name for name in row.index if name.startswith("accuracy/")] == [
        "accuracy/dish 3", "accuracy/dish 4", "accuracy/dish 5",
    ]  # fmt: skip
    assert row["expectations"] == "2/3 met"
    assert (row["top1"], row["top5"], row["train_accuracy"]) == (0.25, 0.6, 0.5)
    assert "miou" not in row.index


def test_a_class_may_be_the_objective(run: RunFolder) -> None:
    study = fakes.study(objective={"metric": "iou/lion"})
    add_epochs(run, 0, study, [{"iou/lion": 0.3, "miou": 0.4}])
    frame = table(run.trials(), study)
    assert list(frame.columns).count("iou/lion") == 1
    assert frame["iou/lion"][0] == 0.3


GOAL = {"metric": "pixel_accuracy", "target": 0.7, "stretch": 0.9}


def goal_run(run: RunFolder, study: Study) -> None:
    """Trial 1 reaches the target first; trial 0 goes beyond it later, failed trial 2 everything."""
    for number, values in enumerate([(0.5, 0.6, 0.75), (0.6, 0.7, 0.65)]):
        lines = [{"miou": value / 2, "pixel_accuracy": value} for value in values]
        add_epochs(run, number, study, lines)
    add_epochs(run, 2, study, [{"miou": 0.9, "pixel_accuracy": 0.99}])
    run.end_trial(2, "failed", "exception", study.objective)
    run.describe(started=fakes.STARTED)


def test_the_first_to_reach_the_goal_is_kept(run: RunFolder) -> None:
    study = fakes.study(objective={"goal": GOAL})
    goal_run(run, study)
    goal = write_summary(run, study, seconds=60, busy_share=None)["goal"]
    assert goal["reached"] == {
        "target": {"trial": 1, "epoch": 2, "seconds": 20.0},
        "stretch": None,
    }
    reached = table(run.trials(), study).set_index("trial").reached
    assert reached[0] == reached[1] == "target"
    assert pd.isna(reached[2])


def test_a_stretch_is_beyond_the_target(run: RunFolder) -> None:
    study = fakes.study(objective={"goal": GOAL})
    add_epochs(run, 0, study, [{"miou": 0.5, "pixel_accuracy": 0.95}])
    run.describe(started=fakes.STARTED)
    reached = write_summary(run, study, seconds=60, busy_share=None)["goal"]["reached"]
    assert reached["target"] == reached["stretch"] == {"trial": 0, "epoch": 1, "seconds": 10.0}
    assert table(run.trials(), study).reached[0] == "stretch"


@pytest.mark.parametrize(
    ("value", "judged"),
    [(None, "not measured"), (0.1, "short"), (0.5, "met"), (0.7, "met"), (0.71, "above")],
)
def test_expectations_are_judged_by_their_range(value: float | None, judged: str) -> None:
    assert verdict(value, (0.5, 0.7)) == judged


def test_an_empty_leaderboard_has_the_same_columns(run: RunFolder) -> None:
    study = fakes.study()
    add_trial(run, 0, 0.3)
    full = list(table(run.trials(), study).columns)
    assert list(table([], study).columns) == full


def test_best_yaml_trains_the_best_trial_again(mixed: RunFolder) -> None:
    write_leaderboard(mixed, fakes.study())
    again = load_study(str(mixed.best_file))
    assert again.space == {}
    assert again.recipe({}, seed=3) == mixed.trial(1).recipe


def test_summary_has_the_keys_that_are_promised(mixed: RunFolder) -> None:
    write_summary(mixed, fakes.study(), seconds=60, busy_share=0.9, baseline=BASELINE)
    summary = json.loads(mixed.summary_file.read_text())
    assert summary["best"] == {"trial": 1, "value": mixed.trial(1).value}
    assert summary["trials"] == {
        "completed": 1, "pruned": 1, "stopped": 1, "failed": 1, "running": 2,
    }  # fmt: skip
    assert summary["splits"] == "honest"
    assert summary["command"].startswith("python -m")
    asked = {"study", "metric", "mode", "seconds", "busy_share", "data_digest"}
    assert asked <= summary.keys()
    assert summary["baseline"] == BASELINE
    assert summary["goal"] is summary["expectations"] is None


def test_busy_share_by_hand(run: RunFolder) -> None:
    """Two trials of three epochs, 9 busy seconds each, on two slots over 100 s."""
    for number in range(2):
        add_trial(run, number, 0.5)
    start = fakes.STARTED
    records = run.trials()
    assert busy_share(records, 2, [(start, start + 100)]) == pytest.approx(54 / 200)
    assert busy_share(records, 2, [(start + 15, start + 115)]) == pytest.approx(36 / 200)
    assert busy_share(records, 2, []) is None


def test_gpu_hours_are_told_where_a_trial_had_a_gpu(run: RunFolder) -> None:
    study = fakes.study()
    add_trial(run, 0, 0.3)
    assert "gpu_hours" not in table(run.trials(), study)
    assert write_summary(run, study, seconds=60, busy_share=None)["gpu_hours"] is None
    lines = [{"miou": 0.4, "gpu_hours": 0.5}, {"miou": 0.5, "gpu_hours": 1.25}]
    add_epochs(run, 1, study, lines)
    add_epochs(run, 2, study, lines)
    assert table(run.trials(), study).set_index("trial").gpu_hours[1] == 1.25
    assert write_summary(run, study, seconds=60, busy_share=None)["gpu_hours"] == 2.5


def test_best_over_time_leaves_failures_out(run: RunFolder) -> None:
    add_trial(run, 0, 0.3)
    add_trial(run, 1, 0.5, started=fakes.STARTED + 60)
    add_trial(run, 2, 0.9, state="failed")
    run.describe(sessions=[(fakes.STARTED, fakes.STARTED + 40), (fakes.STARTED + 60, None)])
    steps = best_over_time(run.trials(), Objective(), run.clock())
    values = [value for _, value, _ in steps]
    assert values == sorted(values)
    assert steps[-1][2].number == 1
    assert steps[-1][0] == pytest.approx((90 - 20) / 60)
