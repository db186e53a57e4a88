"""The leaderboard, the summary, and who is best."""

import json

import pandas as pd
import pytest

from raysearch.config import Objective
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
from tests.records.fakes import add_trial


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


def test_the_mode_turns_the_order(mixed: RunFolder) -> None:
    order = [record.number for record in ranked(mixed.trials(), Objective(mode="min"))]
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
    write_summary(mixed, fakes.study(), seconds=60, busy_share=0.9, background_miou=0.1)
    summary = json.loads(mixed.summary_file.read_text())
    assert summary["best"] == {"trial": 1, "value": mixed.trial(1).value}
    assert summary["trials"] == {
        "completed": 1, "pruned": 1, "stopped": 1, "failed": 1, "running": 2,
    }  # fmt: skip
    assert summary["splits"] == "honest"
    assert summary["command"].startswith("python -m")
    asked = {"study", "metric", "mode", "seconds", "busy_share", "data_digest", "background_miou"}
    assert asked <= summary.keys()


def test_busy_share_by_hand(run: RunFolder) -> None:
    """Two trials of three epochs, 9 busy seconds each, on two slots over 100 s."""
    for number in range(2):
        add_trial(run, number, 0.5)
    start = fakes.STARTED
    records = run.trials()
    assert busy_share(records, 2, [(start, start + 100)]) == pytest.approx(54 / 200)
    assert busy_share(records, 2, [(start + 15, start + 115)]) == pytest.approx(36 / 200)
    assert busy_share(records, 2, []) is None


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
