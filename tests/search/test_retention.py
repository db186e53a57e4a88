"""The best epochs of the best trials stay, and what running trials resume from."""

from pathlib import Path

import pytest
import torch

from raysearch.config import Objective, Recipe, Study
from raysearch.records.run_folder import RunFolder, TrialRecord
from raysearch.search.retention import Retention, kept_trials
from raysearch.training import checkpoint


def record(number: int, value: float | None, architecture: str = "unet") -> TrialRecord:
    return TrialRecord(number, Recipe(architecture=architecture), "completed", value)


def test_the_best_twenty_stay_and_three_of_each_architecture() -> None:
    strong = [record(number, 0.9 - 0.01 * number) for number in range(25)]
    weak = [record(30 + number, 0.1 - 0.01 * number, "wide") for number in range(5)]
    failed = [record(40, None, "other")]
    assert kept_trials([*strong, *weak, *failed], Objective()) == {*range(20), 30, 31, 32}


def test_an_ended_trial_keeps_its_best_and_a_running_one_its_last(
    run: RunFolder, study: Study
) -> None:
    for number in range(2):
        run.begin_trial(number, Recipe(architecture="unet"))
        for kind in ("last", "best"):
            (run.trial_folder(number) / kind).mkdir()
    line = '{"epoch": 1, "miou": 0.5}\n'
    (run.trial_folder(0) / "metrics.jsonl").write_text(line, encoding="utf-8")
    retention = Retention()
    retention.search_started(run, study)
    retention.trial_ended(run.end_trial(0, "completed", "max epochs", study.objective))
    retention.close()
    left = [sorted(p.name for p in run.trial_folder(n).iterdir() if p.is_dir()) for n in range(2)]
    assert left == [["best"], ["best", "last"]]


def test_a_better_trial_takes_the_place_of_the_weakest(run: RunFolder, study: Study) -> None:
    values = [0.5 + 0.01 * number for number in range(22)]  # The search was resumed after trial 20.
    for number, value in enumerate(values):
        run.begin_trial(number, Recipe(architecture="unet"))
        (run.trial_folder(number) / "best").mkdir()
        line = f'{{"epoch": 1, "miou": {value}}}\n'
        (run.trial_folder(number) / "metrics.jsonl").write_text(line, encoding="utf-8")
    for number in range(20):
        run.end_trial(number, "completed", "max epochs", study.objective)
    retention = Retention()
    retention.search_started(run, study)
    for number in (20, 21):
        retention.trial_ended(run.end_trial(number, "completed", "max epochs", study.objective))
    retention.close()
    kept = {number for number in range(22) if (run.trial_folder(number) / "best").is_dir()}
    assert kept == set(range(2, 22))


@pytest.mark.parametrize("averaged", [False, True])
def test_the_last_epoch_stays_as_validation_measured_it(tmp_path: Path, averaged: bool) -> None:
    raw, mean = torch.zeros(3), torch.ones(3)
    state = {"ema": {"module.w": mean, "n_averaged": torch.tensor(2)} if averaged else {}}
    checkpoint.save(tmp_path / "best", 1, {"w": raw})
    checkpoint.save(tmp_path / "last", 2, {"w": raw}, state, {"miou": 0.5}, {"spec": {}})
    checkpoint.finish(tmp_path, keep=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "final"]
    kept = checkpoint.load(tmp_path / "final")
    assert kept is not None
    assert (kept.epoch, kept.state, kept.metrics, kept.model) == (
        2,
        {},
        {"miou": 0.5},
        {"spec": {}},
    )
    assert torch.equal(kept.weights["w"], mean if averaged else raw)


def test_a_last_epoch_that_is_the_best_stays_once(tmp_path: Path) -> None:
    for kind in ("best", "last"):
        checkpoint.save(tmp_path / kind, 2, {"w": torch.zeros(3)}, {"ema": {}})
    checkpoint.finish(tmp_path, keep=True)
    assert [path.name for path in tmp_path.iterdir()] == ["best"]
