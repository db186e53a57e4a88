"""The MLflow tree, on a real database."""

import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest

from raysearch.config import Study
from raysearch.records import gallery
from raysearch.records.leaderboard import write_leaderboard, write_summary
from raysearch.records.mlflow_tree import MlflowTree, _packed, connect, tracking_uri
from raysearch.records.run_folder import RunFolder
from raysearch.records.tracking import MlflowTracking, fill
from raysearch.study import to_yaml
from tests.records import fakes
from tests.records.fakes import add_predictions, add_trial

# MLflow 3.17 uses a loader strategy that SQLAlchemy 2.1 will drop.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")
AWAY = "http://127.0.0.1:9"


def client(run: RunFolder) -> Any:
    return connect(tracking_uri(run.output))


def runs(run: RunFolder) -> list[Any]:
    records = client(run)
    experiment = records.get_experiment_by_name("animals")
    return list(records.search_runs([experiment.experiment_id]))


def children(run: RunFolder) -> dict[str, Any]:
    return {r.data.tags["trial"]: r for r in runs(run) if "trial" in r.data.tags}


def parent(run: RunFolder) -> Any:
    (found,) = [r for r in runs(run) if r.data.tags["raysearch.role"] == "search"]
    return found


def artifacts(run: RunFolder, run_id: str, folder: str | None = None) -> set[str]:
    return {Path(file.path).name for file in client(run).list_artifacts(run_id, folder)}


def search(run: RunFolder, study: Study, tracking: MlflowTracking, numbers: range) -> None:
    """A search whose trials end at once; trial 2 fails, and is no number in the summary."""
    tracking.search_started(run, study)
    for number in numbers:
        state = "failed" if number == 2 else "completed"
        record = add_trial(run, number, 0.3 + number / 10, state=state)
        tracking.trial_started(record)
        for metrics in record.history:
            tracking.epoch(number, metrics)
        tracking.trial_ended(record)
    write_leaderboard(run, study)
    tracking.search_ended(write_summary(run, study, seconds=9, busy_share=0.9))


def test_a_search_is_one_parent_and_its_trials(recorded_run: RunFolder) -> None:
    run, study, tracking = recorded_run, fakes.study(), MlflowTracking()
    add_trial(run, 0, 0.3)
    add_predictions(run, 0)
    (run.trial_folder(0) / "error.txt").write_text("Traceback")
    gallery.draw_search(run, study)
    search(run, study, tracking, range(3))
    assert tracking.problem == ""
    assert len(runs(run)) == 4

    whole = parent(run)
    assert whole.info.status == "FINISHED"
    assert whole.data.tags["best_trial"] == "1"
    assert whole.data.metrics["trials_completed"] == 2
    assert whole.data.metrics["busy_share"] == 0.9
    assert whole.data.params["budget.trials"] == "4"
    kept = {"leaderboard.csv", "best.yaml", "study.yaml", "summary.json", "run.json"}
    assert artifacts(run, whole.info.run_id) == kept | {"best_so_far.png", "learning_curves.png"}

    child = children(run)["0"]
    assert child.info.status == "FINISHED"
    assert children(run)["2"].info.status == "FAILED"
    assert child.data.params == {k: str(v) for k, v in run.trial(0).recipe.flat().items()}
    told = {
        "mlflow.parentRunId": whole.info.run_id, "architecture": "unet", "trial": "0",
        "state": "completed", "seed": "3", "data_digest": "abc123", "profile": "quick",
        "collapsed": "false", "version.torch": "2.11.0", "version.ray": "2.60.0",
        "version.raysearch": "0.1.0", "network": "type unet, width 8", "parameters": "1234",
    }  # fmt: skip
    assert told.items() <= child.data.tags.items()
    assert artifacts(run, child.info.run_id, "pictures") == {"curves.png", "predictions.png"}
    assert artifacts(run, child.info.run_id) == {"pictures", "images", "recipe.json", "error.txt"}
    assert (run.output / "mlartifacts").is_dir()


def test_metrics_stand_at_their_epoch_and_time(recorded_run: RunFolder) -> None:
    run = recorded_run
    history = add_trial(run, 0, 0.5).history
    fill(run)
    points = client(run).get_metric_history(children(run)["0"].info.run_id, "iou/cheetah")
    assert [(p.step, p.timestamp) for p in points] == [
        (m["epoch"], int(m["time"] * 1000)) for m in history
    ]
    assert [p.value for p in points] == [m["iou/cheetah"] for m in history]
    assert parent(run).info.status == "KILLED"


def test_a_search_that_is_broken_off_does_not_seem_to_run(recorded_run: RunFolder) -> None:
    run, study, tracking = recorded_run, fakes.study(), MlflowTracking()
    add_trial(run, 0, 0.5, state="running")
    search(run, study, tracking, range(1, 2))
    assert parent(run).info.status == "KILLED"
    assert children(run)["0"].info.status == "KILLED"
    tracking = MlflowTracking()
    tracking.search_started(run, study)
    tracking.trial_started(run.trial(0))
    tracking.trial_ended(add_trial(run, 0, 0.5))
    tracking.search_ended(write_summary(run, study, seconds=9, busy_share=0.9))
    assert parent(run).info.status == "FINISHED"
    assert children(run)["0"].info.status == "FINISHED"


def test_a_resumed_search_repeats_nothing(recorded_run: RunFolder) -> None:
    run, study = recorded_run, fakes.study()
    add_trial(run, 0, 0.5)
    add_trial(run, 1, 0.5, epochs=2, state="running")
    first = MlflowTree(client(run), run, study)
    for number in (0, 1):
        first.trial(number)
    assert children(run)["1"].info.status == "RUNNING"

    # Epoch 2 is trained again after the kill, a little later.
    (run.trial_folder(1) / "metrics.jsonl").unlink()
    add_trial(run, 1, 0.5, started=fakes.STARTED + 100)
    search(run, study, MlflowTracking(), range(0))
    fill(run)
    assert len(runs(run)) == 3
    for number, child in children(run).items():
        points = client(run).get_metric_history(child.info.run_id, "miou")
        assert [point.step for point in points] == [1, 2, 3], number
        assert child.info.status == "FINISHED"
    points = client(run).get_metric_history(parent(run).info.run_id, "busy_share")
    assert len(points) == 1


def test_telling_is_quick(recorded_run: RunFolder) -> None:
    run, tracking = recorded_run, MlflowTracking()
    record = add_trial(run, 0, 0.5, epochs=50)
    tracking.search_started(run, fakes.study())
    slowest = 0.0
    for metrics in record.history:
        began = time.thread_time()
        tracking.epoch(0, metrics)
        slowest = max(slowest, time.thread_time() - began)
    tracking.search_ended({})
    assert slowest < 0.001
    assert len(children(run)) == 1


def test_a_server_that_is_away_loses_nothing(
    recorded_run: RunFolder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    run, study, tracking = recorded_run, fakes.study(), MlflowTracking(AWAY)
    began = time.monotonic()
    search(run, study, tracking, range(3))
    assert time.monotonic() - began < 20
    assert tracking.problem
    (said,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert AWAY in said
    assert "runs fill" in said
    fill(run)
    assert children(run).keys() == {"0", "1", "2"}
    assert parent(run).info.status == "FINISHED"


def test_a_search_that_takes_too_long_to_record_is_left(
    recorded_run: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    tracking = MlflowTracking(patience=0.0)
    add_trial(recorded_run, 0, 0.5)
    tracking.search_started(recorded_run, fakes.study())
    tracking.search_ended({})
    assert "behind" in caplog.text
    assert tracking.thread is not None
    tracking.thread.join()


def test_a_fresh_database_says_nothing(
    run: RunFolder, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    add_trial(run, 0, 0.5)
    fill(run)
    assert capfd.readouterr() == ("", "")
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_a_deleted_experiment_is_restored(recorded_run: RunFolder) -> None:
    fill(recorded_run)
    records = client(recorded_run)
    records.delete_experiment(records.get_experiment_by_name("animals").experiment_id)
    fill(recorded_run)
    assert len(runs(recorded_run)) == 1


def test_names_that_mlflow_refuses_are_changed(recorded_run: RunFolder) -> None:
    run = recorded_run
    add_trial(run, 0, 0.5, state="running", epochs=0)
    line = fakes.metrics(1, 0.5) | {"iou/sea snot (foam)": 0.25, "loss": float("nan")}
    fakes.append_epoch(run.trial_folder(0), line)
    fill(run)
    metrics = children(run)["0"].data.metrics
    assert metrics["iou/sea snot _foam_"] == 0.25
    assert "loss" not in metrics


@pytest.mark.parametrize("name", ["n/a", "..", "a//b", "tar/"])
def test_a_class_name_is_no_path_to_elsewhere(recorded_run: RunFolder, name: str) -> None:
    run = recorded_run
    add_trial(run, 0, 0.5, state="running", epochs=0)
    fakes.append_epoch(run.trial_folder(0), fakes.metrics(1, 0.5) | {f"iou/{name}": 0.25})
    fill(run)
    assert 0.25 in children(run)["0"].data.metrics.values()


def test_the_goal_the_expectations_and_the_baseline_are_told(recorded_run: RunFolder) -> None:
    run = recorded_run
    goal = {"metric": "pixel_accuracy", "target": 0.7, "stretch": 0.9}
    study = fakes.study(objective={"goal": goal, "expected": {"cheetah": (0.1, 0.9)}})
    run.write("study.yaml", to_yaml(study))
    add_trial(run, 0, 0.5)
    baseline = {"name": "predicting background alone", "value": 0.125}
    write_summary(run, study, seconds=9, busy_share=0.9, baseline=baseline)
    fill(run)
    whole, child = parent(run), children(run)["0"]
    assert whole.data.metrics["baseline"] == 0.125
    told = {"baseline": baseline["name"], "goal_reached": "target", "expectations": "1/1 met"}
    assert told.items() <= whole.data.tags.items()
    assert whole.data.params["goal.target"] == "0.7"
    assert whole.data.tags["task"] == "segmentation"
    assert child.data.tags["goal_reached"] == "target"
    assert child.data.tags["expectations"] == "1/1 met"


def test_batches_keep_epochs_whole() -> None:
    assert list(_packed([[1] * 3, [2] * 3, [3] * 9, []], 5)) == [
        [1] * 3, [2] * 3, [3] * 5, [3] * 4,
    ]  # fmt: skip
    assert list(_packed([[1], [2], [3]], 5)) == [[1, 2, 3]]
