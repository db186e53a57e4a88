"""What each technique does to a whole trial: stages, averages, teachers, other weights, ends."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raysearch.config import Goal, Objective, Recipe, Task
from raysearch.data import Data, open_data
from raysearch.errors import RunError
from raysearch.models import encoder_of
from raysearch.training import checkpoint
from raysearch.training.loop import Training
from raysearch.training.machine import Machine, Sources
from raysearch.training.trained import load_trained
from tests.data.voc_miniature import CLASSES, config, write_plain
from tests.training.two_ranks import on_two_ranks

TASK = Task("segmentation", 3, CLASSES)
SPEC: dict[str, Any] = {"type": "unet", "width": 4, "depth": 2}
MACHINE = Machine(device=torch.device("cpu"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    folder = tmp_path_factory.mktemp("techniques")
    return open_data(config(), write_plain(folder / "voc"), folder / "cache", seed=0)


def recipe(**values: Any) -> Recipe:
    base = {"architecture": "unet", "image_size": 32, "crop_size": 32, "batch_size": 4, "epochs": 2}
    return Recipe.model_validate({**base, **values})


def training(
    data: Data,
    folder: Path,
    objective: Objective | None = None,
    sources: Sources | None = None,
    task: Task = TASK,
    machine: Machine = MACHINE,
    **values: Any,
) -> Training:
    asked = (objective or Objective(), folder, machine, sources or Sources())
    return Training(recipe(**values), SPEC, task, data, *asked)


def fit(trial: Training) -> list[dict[str, Any]]:
    reports: list[dict[str, Any]] = []
    trial.fit(reports.append)
    return reports


def copied(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> list[bool]:
    return [torch.equal(one[name], two[name]) for name in one]


class TestTwoStages:
    def test_the_encoder_stands_still_in_stage_one_and_moves_in_stage_two(
        self, data: Data, tmp_path: Path
    ) -> None:
        trial = training(data, tmp_path, frozen=0.5, frozen_learning_rate=1e-2)
        start, whole = copied(encoder_of(trial.network)), copied(trial.network)
        trial.train_epoch(1)
        assert all(same(start, copied(encoder_of(trial.network))))
        assert not all(same(whole, copied(trial.network)))
        assert trial.optimizer.param_groups[-1]["lr"] != pytest.approx(1e-2)  # stage two's first
        trial.train_epoch(2)
        assert not any(
            torch.equal(start[name], value)
            for name, value in encoder_of(trial.network).state_dict().items()
        )

    def test_a_resume_in_stage_two_thaws(self, data: Data, tmp_path: Path) -> None:
        class Killed(Exception):
            pass

        def kill(metrics: dict[str, Any]) -> None:
            raise Killed

        values = {"frozen": 0.3, "epochs": 3}
        with pytest.raises(Killed):
            training(data, tmp_path, **values).fit(kill)
        again = training(data, tmp_path, **values)
        start = checkpoint.load(tmp_path / "last")
        assert start is not None
        assert start.epoch == 1
        assert [r["epoch"] for r in fit(again)] == [1, 2, 3]  # The first is told again.
        assert not torch.equal(
            start.weights["network.encoder.0.0.weight"],
            again.network.state_dict()["network.encoder.0.0.weight"],
        )

    def test_two_ranks(self, data: Data, tmp_path: Path) -> None:
        assert on_two_ranks(partial(_two_stages, data, tmp_path), tmp_path) == [(True, False)] * 2


def _two_stages(data: Data, folder: Path, rank: int) -> tuple[bool, bool]:
    machine = Machine(rank, 2, device=torch.device("cpu"))
    trial = training(data, folder / str(rank), machine=machine, frozen=0.5)
    start = copied(encoder_of(trial.network))
    trial.train_epoch(1)
    still = all(same(start, copied(encoder_of(trial.network))))
    trial.train_epoch(2)
    return still, all(same(start, copied(encoder_of(trial.network))))


def test_average_weights_differ_from_the_raw_and_are_kept(data: Data, tmp_path: Path) -> None:
    trial = training(data, tmp_path, ema_decay=0.5)
    fit(trial)
    assert trial.ema is not None
    raw, averaged = trial.network.state_dict(), trial.ema.module.state_dict()
    assert not all(same(dict(raw), dict(averaged)))
    kept = checkpoint.load(tmp_path / "best")
    assert kept is not None
    if kept.epoch == 2:
        assert all(same(kept.weights, dict(averaged)))


def test_accumulation_has_the_gradients_of_one_batch(data: Data, tmp_path: Path) -> None:
    trials = [
        training(data, tmp_path / str(n), accumulation=n, boundary_weight=0.0, clip_norm=None)
        for n in (1, 2)
    ]
    for trial in trials:
        trial.network.eval()  # A micro-batch has statistics of its own.
        batch = next(iter(trial.batches))
        trial.step(batch._replace(targets=batch.targets % TASK.num_classes))
    pairs = zip(*(trial.network.parameters() for trial in trials), strict=True)
    for one, two in pairs:
        torch.testing.assert_close(one.grad, two.grad, rtol=1e-3, atol=1e-5)


def test_recomputed_activations_change_no_number(data: Data, tmp_path: Path) -> None:
    plain = training(data, tmp_path / "plain")
    spared = training(data, tmp_path / "spared", gradient_checkpointing=True)
    assert plain.train_epoch(1)["loss"] == pytest.approx(spared.train_epoch(1)["loss"])
    one, two = copied(plain.network), copied(spared.network)
    for name in one:
        torch.testing.assert_close(one[name], two[name])


@pytest.mark.parametrize("values", [{"mixup_alpha": 0.4}, {"cutmix_alpha": 1.0}])
def test_mixed_batches_train_and_resume_alike(
    data: Data, tmp_path: Path, values: dict[str, float]
) -> None:
    plain = fit(training(data, tmp_path / "plain"))
    mixed = fit(training(data, tmp_path / "mixed", **values))
    again = fit(training(data, tmp_path / "again", **values))
    assert mixed[-1]["loss"] == again[-1]["loss"] != plain[-1]["loss"]


class TestTeachers:
    def test_a_student_comes_closer_to_its_teacher(self, data: Data, tmp_path: Path) -> None:
        teacher = training(data, tmp_path / "teacher", seed=5, epochs=4, learning_rate=5e-3)
        fit(teacher)
        sources = Sources(teachers=(tmp_path / "teacher",))
        soft = training(data, tmp_path / "soft", sources=sources, epochs=6, distill_weight=1.0)
        hard = training(data, tmp_path / "hard", sources=sources, epochs=6, distill_weight=0.0)
        distances = []
        for student in (soft, hard):
            fit(student)
            images = next(iter(student.validation)).images
            taught = load_trained(tmp_path / "teacher").logits(images).softmax(1)
            learned = load_trained(student.folder).logits(images).softmax(1)
            distances.append((taught - learned).abs().mean().item())
        assert distances[0] < distances[1]

    def test_a_teacher_does_not_learn(self, data: Data, tmp_path: Path) -> None:
        fit(training(data, tmp_path / "teacher"))
        before = load_trained(tmp_path / "teacher").network.state_dict()
        sources = Sources(teachers=(tmp_path / "teacher", tmp_path / "teacher"))
        fit(training(data, tmp_path / "student", sources=sources))
        after = load_trained(tmp_path / "teacher").network.state_dict()
        assert all(same(dict(before), dict(after)))


class TestInitFrom:
    def test_begins_with_the_weights_of_the_other_trial(self, data: Data, tmp_path: Path) -> None:
        fit(training(data, tmp_path / "first"))
        sources = Sources(init=tmp_path / "first")
        second = training(data, tmp_path / "second", sources=sources, seed=9)
        first = load_trained(tmp_path / "first").network.state_dict()
        assert all(same(dict(first), dict(second.network.state_dict())))

    def test_a_head_of_other_classes_keeps_those_that_both_know(
        self, data: Data, tmp_path: Path
    ) -> None:
        fit(training(data, tmp_path / "first"))
        first = load_trained(tmp_path / "first").network.state_dict()
        classes = (CLASSES[0], "new", *CLASSES[1:])
        task = Task("segmentation", 3, classes)
        sources = Sources(init=tmp_path / "first")
        network = training(data, tmp_path / "x", sources=sources, task=task, seed=9).network
        weight, known = network.state_dict()["network.head.weight"], first["network.head.weight"]
        assert len(weight) == len(known) + 1
        rows = [0, *range(2, len(weight))]
        assert torch.equal(weight[rows], known)
        assert torch.equal(
            network.state_dict()["network.encoder.0.0.weight"], first["network.encoder.0.0.weight"]
        )

    def test_another_architecture_is_refused(self, data: Data, tmp_path: Path) -> None:
        fit(training(data, tmp_path / "first"))
        with pytest.raises(RunError, match=r"no weights of .* fit"):
            Training(
                recipe(), {"type": "unet", "width": 6, "depth": 2}, TASK, data, Objective(),
                tmp_path / "x", MACHINE, Sources(init=tmp_path / "first"),
            )  # fmt: skip


class TestEnds:
    @pytest.mark.parametrize(("stretch", "reached"), [(0.9999, "target"), (1e-6, "stretch")])
    def test_target(self, data: Data, tmp_path: Path, stretch: float, reached: str) -> None:
        goal = Goal(metric="pixel_accuracy", target=1e-6, stretch=stretch)
        reports = fit(training(data, tmp_path, Objective(goal=goal)))
        assert [r["reached"] for r in reports] == [reached, reached]

    def test_gap_limit(self, data: Data, tmp_path: Path) -> None:
        trial = training(data, tmp_path, gap_limit=0.2)
        assert trial.finished(1, {"accuracy_gap": 0.21}) == "gap limit"
        assert trial.finished(1, {"accuracy_gap": 0.19}) == ""
        told = fit(trial)[0]
        assert told["accuracy_gap"] == pytest.approx(
            told["train_accuracy"] - told["pixel_accuracy"]
        )


def test_a_stop_leaves_the_schedule_as_it_is(data: Data, tmp_path: Path) -> None:
    whole = fit(training(data, tmp_path / "whole", epochs=4, schedule="cosine"))
    ended = fit(training(data, tmp_path / "ended", epochs=4, schedule="cosine", stop_after=2))
    assert [one["learning_rate"] for one in ended] == [one["learning_rate"] for one in whole[:2]]
    assert [one["miou"] for one in ended] == [one["miou"] for one in whole[:2]]
    assert [one["finished"] for one in ended] == ["", "max epochs"]


def test_checkpoints_every_so_many_epochs(data: Data, tmp_path: Path) -> None:
    fit(training(data, tmp_path, epochs=5, save_every=2))
    kept = sorted(path.name for path in (tmp_path / "every").iterdir())
    assert kept == ["epoch-0002", "epoch-0004"]


def test_train_accuracy_is_the_share_of_right_pixels(data: Data, tmp_path: Path) -> None:
    trial = training(data, tmp_path, augment_strength=0.0)
    batch = next(iter(trial.batches))
    mixed = trial.mixed(batch, (0,))
    logits = torch.nn.functional.one_hot(mixed.parts[0].ids % 255, 256).movedim(-1, 1).float()
    wrong = logits.flip(1)
    assert trial.accuracy(logits[:, : TASK.num_classes], mixed) == 1
    assert trial.accuracy(wrong[:, -TASK.num_classes :].flip(1), mixed) == 1
    assert trial.accuracy(logits[:, : TASK.num_classes].flip(1), mixed) < 1


def test_a_checkpoint_says_what_it_is(data: Data, tmp_path: Path) -> None:
    fit(training(data, tmp_path))
    trained = load_trained(tmp_path)
    assert trained.task == TASK
    assert trained.recipe == recipe()
    confusion = np.load(tmp_path / "confusion.npy")
    assert confusion.shape == (TASK.num_classes, TASK.num_classes)
    assert confusion.sum() > 0
    with pytest.raises(RunError, match="no readable checkpoint"):
        load_trained(tmp_path / "nothing")
