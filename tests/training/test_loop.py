"""The loop: same numbers after a resume and on two ranks, and what was sampled is what trains."""

import json
import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from raysearch.config import Objective, Recipe, Task
from raysearch.data import Data, open_data
from raysearch.errors import TrialError
from raysearch.models import build
from raysearch.study import load_study
from raysearch.training import checkpoint
from raysearch.training.history import read_history
from raysearch.training.keeping import newest_of_all
from raysearch.training.live import check_live
from raysearch.training.loop import Training
from raysearch.training.machine import Machine
from raysearch.training.unfinished import Preempted
from tests.data.voc_miniature import CLASSES, config, write_plain
from tests.training.two_ranks import on_two_ranks

TASK = Task("segmentation", 3, CLASSES)
SPEC: dict[str, Any] = {"type": "unet", "width": 4, "depth": 2}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    folder = tmp_path_factory.mktemp("loop")
    return open_data(config(), write_plain(folder / "voc"), folder / "cache", seed=0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "trial").mkdir()
    return tmp_path / "trial"


def recipe(**values: Any) -> Recipe:
    base = {"architecture": "unet", "image_size": 32, "crop_size": 32, "batch_size": 4, "epochs": 3}
    return Recipe.model_validate({**base, **values})


def training(data: Data, folder: Path, machine: Machine | None = None, **values: Any) -> Training:
    machine = machine or Machine(device=CPU)
    return Training(recipe(**values), SPEC, TASK, data, Objective(), folder, machine)


def fit(trial: Training) -> list[dict[str, Any]]:
    reports: list[dict[str, Any]] = []
    trial.fit(reports.append)
    return reports


class Leaving:
    """Says after so many steps, validation's included, that the process must go."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self) -> bool:
        self.left -= 1
        return self.left == 0


TIMES = ("seconds", "second", "time", "share", "memory", "began", "build_s")


def numbers(reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The metrics without what a clock or the memory says."""
    return [{k: v for k, v in r.items() if not any(t in k for t in TIMES)} for r in reports]


def test_every_epoch_is_reported_recorded_and_kept(data: Data, folder: Path) -> None:
    reports = fit(training(data, folder))
    assert [r["epoch"] for r in reports] == [1, 2, 3]
    assert reports[-1]["finished"] == "max epochs"
    assert read_history(folder) == reports
    best = max(reports, key=lambda r: r["miou"])
    kept = checkpoint.load(folder / "best")
    assert kept is not None
    assert kept.epoch == next(r["epoch"] for r in reports if r["miou"] == best["miou"])
    assert (folder / "predictions.npz").is_file()


@pytest.mark.parametrize("after", range(1, 9))
def test_a_trial_that_must_go_keeps_the_steps_of_its_epoch(
    data: Data, tmp_path: Path, after: int
) -> None:
    values = {"ema_decay": 0.9, "early_stopping": 9, "learning_rate": 0.01}
    whole = fit(training(data, tmp_path / "whole", **values))
    broken_off, reports = tmp_path / "broken off", list[dict[str, Any]]()
    leaving = Machine(device=CPU, must_go=Leaving(after))
    with pytest.raises(Preempted):
        training(data, broken_off, leaving, **values).fit(reports.append)
    kept = next(iter(sorted((broken_off / "last").glob("epoch-*"), reverse=True)))
    assert "+" in kept.name
    again = fit(training(data, broken_off, **values))
    assert numbers(again) == numbers(whole[max(0, len(reports) - 1) :])  # The last told again.
    reports = [*reports[:-1], *again]
    assert read_history(broken_off) == reports


@pytest.mark.parametrize("values", [{}, {"ema_decay": 0.9, "schedule": "plateau"}])
def test_a_resumed_trial_ends_with_the_same_numbers(
    data: Data, tmp_path: Path, values: dict[str, Any]
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    expected = fit(training(data, whole, **values))

    class Killed(Exception):
        pass

    def kill(metrics: dict[str, Any]) -> None:
        if metrics["epoch"] == 2:
            raise Killed

    with pytest.raises(Killed):
        training(data, broken, **values).fit(kill)
    again = fit(training(data, broken, **values))
    assert [r["epoch"] for r in again] == [2, 3]
    assert numbers(read_history(broken)) == numbers(expected)


def test_a_trial_that_had_finished_reports_its_end_again(data: Data, folder: Path) -> None:
    expected = fit(training(data, folder))
    assert fit(training(data, folder)) == [expected[-1]]


def test_a_damaged_newest_checkpoint_costs_one_epoch(
    data: Data, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = fit(training(data, folder))
    weights = folder / "last" / "epoch-0003" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    again = fit(training(data, folder))
    assert "epoch-0003 is damaged" in caplog.text
    assert numbers(again) == numbers(expected[1:])


def test_an_epoch_whose_line_was_lost_is_written_and_told_again(data: Data, folder: Path) -> None:
    expected = fit(training(data, folder))
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[:-1]))
    assert fit(training(data, folder)) == [expected[-1]]
    assert read_history(folder) == expected


def on_rank(rank: int, data: Data, folder: Path, batch: int) -> list[dict[str, Any]]:
    machine = Machine(rank=rank, world=2, device=CPU)
    trial = training(data, folder, machine, batch_size=batch, augment_strength=1.0, epochs=2)
    return fit(trial)


class OnRank:
    """A picklable call for a spawned rank."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __call__(self, rank: int) -> list[dict[str, Any]]:
        return on_rank(rank, *self.arguments)


def common_place(rank: int, held: list[list[tuple[int, int]]], folder: Path) -> tuple[int, int]:
    """Where a rank resumes from whose node holds these checkpoints."""
    own = folder / f"node{rank}"
    for epoch, step in held[rank]:
        checkpoint.save(own / "last", epoch, {"w": torch.ones(1)}, {"s": 1}, {}, step=step, keep=9)
    trial: Any = SimpleNamespace(folder=own, ranks=True, device=CPU)
    found = newest_of_all(trial)
    return (found.epoch, found.step) if found else (0, 0)


@pytest.mark.parametrize(
    ("held", "common"),
    [
        ([[(6, 0), (7, 0)], [(6, 0), (7, 0)]], (7, 0)),
        ([[(6, 0), (7, 0)], [(6, 0)]], (6, 0)),
        ([[(5, 0), (7, 60), (7, 100)], [(5, 0), (7, 0)]], (5, 0)),
        ([[(7, 60), (7, 100)], [(7, 0)]], (0, 0)),  # Nothing that both have: all over again.
    ],
)
def test_ranks_of_different_nodes_resume_from_what_all_of_them_hold(
    held: list[list[tuple[int, int]]], common: tuple[int, int], tmp_path: Path
) -> None:
    found = on_two_ranks(partial(common_place, held=held, folder=tmp_path), tmp_path)
    assert found == [common, common]


@pytest.mark.parametrize("batch", [4, 3])
def test_two_ranks_train_as_one(data: Data, tmp_path: Path, batch: int) -> None:
    (tmp_path / "two").mkdir()
    both = on_two_ranks(OnRank(data, tmp_path / "two", batch), tmp_path)
    alone = fit(training(data, tmp_path / "one", batch_size=batch, augment_strength=1.0, epochs=2))
    for reports in both:
        for found, expected in zip(reports, alone, strict=True):
            for key in ("miou", "pixel_accuracy", "lowest_iou"):
                assert found[key] == pytest.approx(expected[key], abs=2e-3), key
            # Each rank balances the boundary by its own share of a batch.
            for key in ("loss", "val_loss"):
                assert found[key] == pytest.approx(expected[key], abs=1e-2), key
    assert read_history(tmp_path / "two") == both[0]


def test_accumulation_leaves_the_number_of_steps(data: Data, folder: Path) -> None:
    trial = training(data, folder, accumulation=2)
    steps = len(trial.batches)
    trial.train_epoch(1)
    assert trial.schedule.steps == steps == math.ceil(len(data.indices("train")) / 4)


def test_early_stopping_ends_a_trial_that_gains_nothing(data: Data, folder: Path) -> None:
    values = {"learning_rate": 1e-12, "early_stopping": 2, "epochs": 9, "weight_decay": 0.0}
    reports = fit(training(data, folder, **values))
    last = reports[-1]
    assert last["finished"] == "early stopping"
    assert last["epoch"] == last["best_epoch"] + 2 < 9


def test_a_loss_that_is_not_finite_ends_the_trial(data: Data, folder: Path) -> None:
    trial = training(data, folder)
    with torch.no_grad():
        next(trial.network.parameters()).fill_(math.nan)
    with pytest.raises(TrialError, match="not finite"):
        trial.train_epoch(1)


@pytest.mark.parametrize("precision", ["bf16", "fp16", "float32"])
def test_each_precision_trains_on_a_cpu(data: Data, folder: Path, precision: str) -> None:
    trial = training(data, folder, precision=precision, epochs=1, learning_rate=1e-2)
    before = [p.detach().clone() for p in trial.network.parameters()]
    assert math.isfinite(fit(trial)[0]["loss"])
    assert trial.precision.scaler.is_enabled() == (precision == "fp16")
    after = list(trial.network.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_validation_measures_the_average_where_there_is_one(data: Data, folder: Path) -> None:
    trial = training(data, folder, ema_decay=0.5, learning_rate=1e-2)
    trial.train_epoch(1)
    averaged = trial.validate()["val_loss"]
    trial.ema = None
    assert trial.validate()["val_loss"] != averaged


def test_compiled_networks_are_saved_under_plain_names(data: Data, folder: Path) -> None:
    trial = training(data, folder)
    compiled = training(data, folder, compile=True)
    assert list(trial.network.state_dict()) == list(compiled.network.state_dict())
    assert type(compiled.ready).__name__ == "OptimizedModule"


ANIMALS = load_study("animals")
ENDS = [
    (key, end)
    for key, dimension in ANIMALS.space.items()
    for end in dimension.ends()
    if not key.startswith(("architecture", "network.", "schedule"))
]


@pytest.mark.parametrize(("key", "value"), ENDS)
def test_each_searched_value_reaches_the_live_parts(
    data: Data, folder: Path, key: str, value: Any
) -> None:
    terms = {"loss": "focal + dice"} if key.startswith("focal") else {}
    trial = training(data, folder, **{**terms, key: value})
    live = trial.live_values()
    asked = trial.recipe.model_dump()[key]
    assert live[key] == pytest.approx(asked)


@pytest.mark.parametrize("attention", [None, "scse"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_each_searched_value_of_a_network_reaches_it(attention: str | None, dropout: float) -> None:
    study = load_study("animals", "quick")
    for name, key in (("unet", "dropout"), ("efficientnet_b3", "decoder_attention_type")):
        value = dropout if key == "dropout" else attention
        recipe = study.recipe({"architecture": name, f"network.{key}": value})
        spec = {**study.network_spec(recipe)}
        if "encoder_weights" in spec:
            spec["encoder_weights"] = None
        parts = [type(m).__name__ for m in build(spec, study.what).modules()]
        rates = {m.p for m in build(spec, study.what).modules() if isinstance(m, nn.Dropout2d)}
        if key == "dropout":
            assert (dropout in rates) == (dropout > 0)
        else:
            assert ("SCSEModule" in parts) == (attention == "scse")


def test_a_schedule_reaches_the_optimizer(data: Data, folder: Path) -> None:
    rates = {}
    for name in ("multistep", "cosine", "one_cycle", "warm_restarts"):
        trial = training(data, folder, schedule=name, epochs=10, warmup=0.1)
        for _ in range(trial.schedule.total_steps // 2 - 1):
            trial.optimizer.step()
            trial.schedule.step()
        rates[name] = round(trial.optimizer.param_groups[0]["lr"], 9)
    assert len(set(rates.values())) == 4


@pytest.mark.parametrize("key", ["learning_rate", "weight_decay", "boundary_weight", "crop_size"])
def test_a_value_that_did_not_reach_its_part_fails_the_trial(
    data: Data, folder: Path, key: str
) -> None:
    trial = training(data, folder)
    live = trial.live_values()
    check_live(trial.recipe, live)
    with pytest.raises(TrialError, match=key):
        check_live(trial.recipe, {**live, key: live[key] * 2})


def test_a_torn_last_line_is_no_epoch(folder: Path) -> None:
    lines = [json.dumps({"epoch": 1, "miou": 0.1}), '{"epoch": 2, "mi']
    (folder / "metrics.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert [m["epoch"] for m in read_history(folder)] == [1]
