"""What the founding documents name, where it acts: in the studies and in a trial's own steps."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from raysearch.config import Budget, Objective, Recipe, Study, Task
from raysearch.data import Batch, Data, open_data
from raysearch.models import Output
from raysearch.search.ending import Ending, Events
from raysearch.study import load_study
from raysearch.training.loop import Training
from raysearch.training.losses import median_frequency_weights
from raysearch.training.machine import Machine
from raysearch.training.mixing import Mixed, Part
from raysearch.training.optimisation import build_optimizer, build_schedule
from tests.data import marida_miniature, voc_miniature

ANIMALS = Task("segmentation", 3, voc_miniature.CLASSES)
DEBRIS = Task("segmentation", 11, ("other", "debris"))
SPEC: dict[str, Any] = {"type": "unet", "width": 4, "depth": 2}
MACHINE = Machine(device=torch.device("cpu"))


@pytest.fixture(scope="module")
def animals(tmp_path_factory: pytest.TempPathFactory) -> Data:
    folder = tmp_path_factory.mktemp("animals")
    root = voc_miniature.write_plain(folder / "voc")
    return open_data(voc_miniature.config(), root, folder / "cache", seed=0)


@pytest.fixture(scope="module")
def debris(tmp_path_factory: pytest.TempPathFactory) -> Data:
    folder = tmp_path_factory.mktemp("debris")
    root = marida_miniature.write_plain(folder / "marida")
    return open_data(marida_miniature.config(), root, folder / "cache", seed=0)


def training(
    data: Data,
    folder: Path,
    task: Task = ANIMALS,
    objective: Objective | None = None,
    kind: type[Training] = Training,
    machine: Machine = MACHINE,
    **values: Any,
) -> Training:
    base = {"architecture": "unet", "image_size": 32, "crop_size": 32, "batch_size": 4, "epochs": 2}
    recipe = Recipe.model_validate({**base, "boundary_weight": 0.0, **values})
    return kind(recipe, SPEC, task, data, objective or Objective(), folder, machine)


def first_batch(trial: Training) -> Batch:
    return next(iter(trial.batches))


def logits_of(trial: Training, batch: Batch) -> Tensor:
    """What the network says of a batch before it learns from it."""
    with torch.no_grad():
        logits: Tensor = trial.network(trial.normalised(batch.images.float())).semantic
    return logits


def test_class_weights_of_the_data_reach_the_cross_entropy(animals: Data, tmp_path: Path) -> None:
    trial = training(animals, tmp_path, class_weights="frequency")
    weights = median_frequency_weights(torch.from_numpy(animals.class_frequency))
    assert weights.max() > 1.5 * weights.min()
    batch = first_batch(trial)
    expected = F.cross_entropy(
        logits_of(trial, batch), batch.targets.long(), weights, ignore_index=255
    )
    assert trial.step(batch)[0].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("term", ["cross_entropy", "focal"])
def test_confidence_of_the_data_weighs_the_pixels(debris: Data, tmp_path: Path, term: str) -> None:
    values = {"loss": {term: 1.0}, "pixel_weights": True, "focal_alpha": 0.5, "focal_gamma": 0.0}
    trial = training(debris, tmp_path, DEBRIS, **values)
    batch = first_batch(trial)
    assert batch.weights is not None
    known = batch.targets != DEBRIS.ignore_index
    weights = batch.weights[known].double() / 255
    assert len(weights.unique()) == 3  # MARIDA's levels of confidence.
    each = F.cross_entropy(
        logits_of(trial, batch).double(), batch.targets.long(), ignore_index=255, reduction="none"
    )[known]
    half = 0.5 if term == "focal" else 1.0  # Alpha of one half, and no focus.
    loss = trial.step(batch)[0].item()
    assert loss == pytest.approx((half * (each * weights).sum() / weights.sum()).item(), rel=1e-5)
    assert loss != pytest.approx((half * each.mean()).item(), rel=1e-5)


def test_confidence_is_left_out_unless_it_is_asked_for(debris: Data, tmp_path: Path) -> None:
    assert first_batch(training(debris, tmp_path, DEBRIS)).weights is None


@pytest.mark.parametrize("smoothing", [0.0, 0.15])
def test_label_smoothing_in_a_step(animals: Data, tmp_path: Path, smoothing: float) -> None:
    trial = training(animals, tmp_path, label_smoothing=smoothing)
    batch = first_batch(trial)
    expected = F.cross_entropy(
        logits_of(trial, batch), batch.targets.long(), ignore_index=255, label_smoothing=smoothing
    )
    assert trial.step(batch)[0].item() == pytest.approx(expected.item(), rel=1e-5)


def test_losses_are_summed_by_their_weights(animals: Data, tmp_path: Path) -> None:
    """The unity document's four, boundary included, against each of them alone."""
    weights = {"cross_entropy": 0.4, "focal": 0.2, "dice": 0.3, "boundary": 0.1}

    def loss(name: str, asked: dict[str, float]) -> float:
        trial = training(animals, tmp_path / name, loss=asked)
        return trial.step(first_batch(trial))[0].item()

    alone = {name: loss(name, {name: 1.0}) for name in weights}
    assert len({round(value, 4) for value in alone.values()}) == 4
    expected = sum(weights[name] * alone[name] for name in weights)
    assert loss("sum", weights) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("clip_norm", [1.0, None])
def test_gradients_are_clipped_at_a_norm_of_one(
    animals: Data, tmp_path: Path, clip_norm: float | None
) -> None:
    trial = training(animals, tmp_path, clip_norm=clip_norm, loss={"cross_entropy": 100.0})
    trial.step(first_batch(trial))
    norms = [p.grad.norm() for p in trial.network.parameters() if p.grad is not None]
    norm = torch.stack(norms).norm().item()
    assert norm == pytest.approx(1.0, rel=1e-3) if clip_norm else norm > 2


def test_weight_decay_is_decoupled_from_the_gradient() -> None:
    """AdamW: without any gradient, weights shrink by learning_rate * weight_decay a step."""
    recipe = Recipe(architecture="unet", learning_rate=1e-2, weight_decay=1e-1)
    model = torch.nn.Module()
    model.encoder, model.head = torch.nn.Conv2d(2, 2, 3), torch.nn.Conv2d(2, 2, 1)
    optimizer = build_optimizer(recipe, model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for _ in range(2):
        optimizer.step()
    for name, parameter in model.named_parameters():
        shrunk = (1 - 1e-3) ** 2 if name.endswith("weight") else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * shrunk)


def rates(values: dict[str, Any], steps_per_epoch: int = 5) -> list[float]:
    """The learning rate of every step, from the live optimizer."""
    recipe = Recipe.model_validate({"architecture": "unet", **values})
    model = torch.nn.Module()
    model.encoder, model.head = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    optimizer = build_optimizer(recipe, model)
    schedule = build_schedule(recipe, optimizer, steps_per_epoch)
    used = []
    for _ in range(recipe.epochs * steps_per_epoch):
        used.append(optimizer.param_groups[-1]["lr"])
        optimizer.step()
        schedule.step()
    return used


def test_ten_epochs_of_warm_up_and_then_a_cosine() -> None:
    """The debris documents': linear to 1e-3 in 10 of 100 epochs, then half a cosine."""
    fixed = full("marine_debris").fixed
    shape = {key: fixed[key] for key in ("schedule", "warmup")}
    used = rates({**shape, "learning_rate": 1e-3, "epochs": 100})
    assert used[:50] == pytest.approx([1e-3 * (step + 1) / 50 for step in range(50)])
    assert used[50] == max(used)
    assert used[50 + 225] == pytest.approx(0.5e-3)
    falling = [0.5e-3 * (1 + math.cos(math.pi * step / 450)) for step in range(450)]
    assert used[50:] == pytest.approx(falling)


def test_early_stopping_counts_from_the_last_gain(animals: Data, tmp_path: Path) -> None:
    trial = training(animals, tmp_path, early_stopping=15, epochs=100)
    verdict = {"reached": "", "accuracy_gap": 0.0}
    trial.best_epoch = 3
    assert trial.finished(17, verdict) == ""
    assert trial.finished(18, verdict) == "early stopping"
    trial.best_epoch = 17  # A gain in time: it begins to count anew.
    assert trial.finished(31, verdict) == ""
    assert trial.finished(32, verdict) == "early stopping"


class Stalled(Training):
    """A trial whose metric gains in its second epoch and never again."""

    def validate(self) -> dict[str, float]:
        gained = 0.1 if self.best is None else 0.2
        value = gained if self.objective.mode == "max" else -gained
        return {**super().validate(), self.objective.metric: value}


@pytest.mark.parametrize(("metric", "mode"), [("miou", "max"), ("val_loss", "min")])
def test_a_plateau_halves_the_rate_of_a_trial(
    animals: Data, tmp_path: Path, metric: str, mode: Any
) -> None:
    values = {"schedule": "plateau", "warmup": 0.0, "epochs": 6, "learning_rate": 1e-3}
    objective = Objective(metric=metric, mode=mode)
    reports: list[dict[str, Any]] = []
    training(animals, tmp_path, objective=objective, kind=Stalled, **values).fit(reports.append)
    used = [told["learning_rate"] for told in reports]
    assert used == pytest.approx([1e-3, 1e-3, 1e-3, 1e-3, 5e-4, 5e-4])


def test_the_gap_is_the_losses_and_the_accuracy_gap_the_accuracies(
    animals: Data, tmp_path: Path
) -> None:
    reports: list[dict[str, Any]] = []
    training(animals, tmp_path).fit(reports.append)
    for told in reports:
        assert told["gap"] == pytest.approx(told["val_loss"] - told["loss"])
        right = told["train_accuracy"] - told["pixel_accuracy"]
        assert told["accuracy_gap"] == pytest.approx(right)


def test_both_parts_of_the_loss_are_told(animals: Data, tmp_path: Path) -> None:
    told = training(animals, tmp_path, boundary_weight=0.3).train_epoch(1)
    assert told["loss_boundary"] > 0
    expected = told["loss_semantic"] + 0.3 * told["loss_boundary"]
    assert told["loss"] == pytest.approx(expected, rel=1e-5)


def test_mixed_batches_are_judged_by_their_larger_part(animals: Data, tmp_path: Path) -> None:
    trial = training(animals, tmp_path, mixup_alpha=0.4)
    ids = torch.randint(0, 2, (2, 32, 32))
    logits = F.one_hot(ids, ANIMALS.num_classes).movedim(-1, 1).float()
    for own, accuracy in ((0.7, 1.0), (0.3, 0.0)):
        parts = Part(own, ids), Part(1 - own, 1 - ids)
        assert trial.accuracy(logits, Mixed(torch.zeros(2, 3, 32, 32), parts)) == accuracy


@pytest.mark.parametrize("stop", [True, False])
def test_a_target_that_is_met_ends_the_search(stop: bool) -> None:
    study = full("unity").model_copy(update={"budget": Budget(trials=1, stop_at_goal=stop)})
    book: Any = SimpleNamespace(
        study=study, records={}, only_failures=0, taken="", epoch=lambda number, result: None
    )
    ending = Ending(book, seconds=None, slots=1)
    nothing: Any = None
    events = Events(book, nothing, ending, nothing, nothing, nothing)
    trial = SimpleNamespace(config={"number": 0})
    events.on_trial_result(1, [trial], trial, {"epoch": 1, "reached": "", "finished": ""})
    assert not ending.stop_all()
    events.on_trial_result(2, [trial], trial, {"epoch": 2, "reached": "target", "finished": ""})
    assert ending.stop_all() == stop


def test_mixing_raises_the_loss_of_a_network_that_is_right(animals: Data, tmp_path: Path) -> None:
    """Why `gap` cannot be compared there: the loss no longer measures what val_loss does."""
    ids = torch.randint(0, 2, (2, 32, 32))
    logits = 20 * F.one_hot(ids, ANIMALS.num_classes).movedim(-1, 1).float()
    output, images = Output(logits, None), torch.zeros(2, 3, 32, 32)
    plain = Mixed(images, (Part(1.0, ids),))
    mixed = Mixed(images, (Part(0.7, ids), Part(0.3, 1 - ids)))
    trial = training(animals, tmp_path)
    assert trial.compared(output, plain).total < 1e-3
    assert trial.compared(output, mixed).total > 1
    assert trial.accuracy(logits, plain) == trial.accuracy(logits, mixed) == 1


def test_seeds_give_ensembles_members_of_their_own(animals: Data, tmp_path: Path) -> None:
    trials = [
        training(animals, tmp_path / str(n), seed=seed) for n, seed in enumerate([42, 42, 123])
    ]
    weights = [trial.network.state_dict()["network.encoder.0.0.weight"] for trial in trials]
    images = [first_batch(trial).images for trial in trials]
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(images[0], images[1])
    assert not torch.equal(weights[0], weights[2])
    assert not torch.equal(images[0], images[2])


def test_times_and_memory_of_every_epoch_are_told(animals: Data, tmp_path: Path) -> None:
    reports: list[dict[str, Any]] = []
    training(animals, tmp_path, epochs=1).fit(reports.append)
    keys = ("train_seconds", "validation_seconds", "images_per_second", "peak_memory_mb")
    assert all(reports[0][key] > 0 for key in keys)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gets_pinned_batches_and_the_fastest_kernels(animals: Data, tmp_path: Path) -> None:
    machine = Machine(device=torch.device("cuda"))
    trial = training(animals, tmp_path, machine=machine)
    assert trial.batches.loader.pin_memory
    assert torch.backends.cudnn.benchmark
    assert math.isfinite(trial.train_epoch(1)["loss"])


class TestStudies:
    """The documents' own values are among those that the full studies offer."""

    def test_unity(self) -> None:
        study = full("unity")
        points = starts(study)
        assert {r.architecture for r in points} == {"resnext50", "resnet50", "efficientnet_b3"}
        of_the_document = points[1:]
        assert {r.learning_rate for r in of_the_document} == {5e-4}
        # Batches of 8 pictures at a time, as the document's batch_size counts them.
        assert {r.batch_size // r.accumulation for r in of_the_document} == {8}
        assert {frozenset(r.loss) for r in of_the_document} == {
            frozenset({"cross_entropy", "focal", "dice", "boundary"})
        }
        assert {(r.schedule, r.weight_decay) for r in of_the_document} == {("warm_restarts", 1e-4)}
        assert all(r.mixup_alpha and r.cutmix_alpha and r.label_smoothing for r in of_the_document)
        assert all(r.ema_decay and r.encoder_lr_ratio < 1 for r in of_the_document)
        assert {(r.early_stopping, r.save_every) for r in points} == {(50, 10)}
        assert study.budget.epochs == 300
        goal = study.objective.goal
        assert goal is not None
        assert (goal.metric, goal.target, goal.stretch) == ("pixel_accuracy", 0.90, 0.95)
        assert study.objective.expected.keys() == set(study.data.classes)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("mixup_alpha", 0.4),
            ("cutmix_alpha", 1.5),
            ("label_smoothing", 0.15),
            ("augment_strength", 1.5),
            ("ema_decay", 0.9999),
            ("weight_decay", 1e-4),
            ("learning_rate", 1e-3),
            ("batch_size", 16),
            ("accumulation", 2),
            ("schedule", "plateau"),
        ],
    )
    def test_unity_searches_the_remedies_of_its_document(self, key: str, value: Any) -> None:
        assert full("unity").space[key].contains(value)

    def test_marine_debris(self) -> None:
        study = full("marine_debris")
        points = starts(study)
        advanced = {"dice": 0.4, "focal": 0.4, "cross_entropy": 0.2}
        found = [(r.architecture, r.loss, r.learning_rate, r.batch_size) for r in points[1:]]
        assert found == [
            ("se_unet", advanced, 1e-3, 16),
            ("self_attention_unet", advanced, 1e-3, 16),
            ("baseline", {"dice": 0.0, "focal": 1.0, "cross_entropy": 1.0}, 1e-3, 8),
        ]
        assert {(r.focal_alpha, r.focal_gamma) for r in points} == {(0.25, 2.0)}
        assert [r.network["dropout"] for r in points[1:3]] == [0.2, 0.2]
        values = {(r.class_weights, r.clip_norm, r.weight_decay, r.early_stopping) for r in points}
        assert values == {("frequency", 1.0, 1e-4, 15)}
        assert all(r.quarter_turns for r in points)
        assert {(r.crop_size, r.epochs) for r in points} == {(256, 100)}
        assert (study.sample["train"], study.sample["val"]) == (2000, 400)

    def test_food101(self) -> None:
        study = full("food101")
        points = starts(study)
        found = {(r.architecture, r.image_size, r.batch_size) for r in points[1:]}
        assert found == {
            ("efficientnet_b0", 224, 24),
            ("efficientnet_b3", 300, 16),
            ("resnet50", 224, 20),
            ("efficientnet_b3", 384, 8),
            ("efficientnet_b4", 380, 12),
            ("resnet101", 224, 16),
        }
        whole = points[2]
        assert (whole.mixup_alpha, whole.cutmix_alpha, whole.schedule) == (
            0.2,
            1.0,
            "warm_restarts",
        )
        assert whole.frozen_learning_rate == 1e-3
        assert whole.encoder_lr_ratio == 0.1
        assert 0 < whole.frozen <= 0.1
        assert {r.early_stopping for r in points} == {15}
        assert {round(r.warmup * r.epochs) for r in points} == {5}
        assert {r.epochs for r in points} == {150}
        goal = study.objective.goal
        assert goal is not None
        assert (goal.metric, goal.target) == ("top1", 0.95)


def full(name: str) -> Study:
    return load_study(name, "full")


def starts(study: Study) -> list[Recipe]:
    return [study.recipe(values) for values in study.start_values()]
