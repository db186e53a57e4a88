"""The optimizer, the shape of every schedule, and the moving average."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from raysearch.config import Recipe
from raysearch.errors import ConfigError
from raysearch.training.optimisation import (
    SHAPES,
    Ema,
    Schedule,
    build_optimizer,
    build_schedule,
    warmup_fraction,
)

RATE = 5e-4


def recipe(**values: object) -> Recipe:
    return Recipe.model_validate({"architecture": "unet", "learning_rate": RATE, **values})


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(2))


class Pair(nn.Module):
    """The least that counts as a network: an encoder and a head."""

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.head(self.encoder(inputs))
        return outputs


def built(recipe: Recipe, steps_per_epoch: int) -> tuple[torch.optim.Optimizer, Schedule]:
    optimizer = build_optimizer(recipe, Pair(nn.Linear(2, 2), nn.Linear(2, 2)))
    return optimizer, build_schedule(recipe, optimizer, steps_per_epoch)


def rates(recipe: Recipe, steps_per_epoch: int = 10) -> list[float]:
    """The live learning rate of every optimizer step, as a share of the recipe's."""
    optimizer, schedule = built(recipe, steps_per_epoch)
    used = []
    for epoch in range(recipe.epochs):
        for _ in range(steps_per_epoch):
            used.append(optimizer.param_groups[0]["lr"] / recipe.learning_rate)
            assert optimizer.param_groups[1]["lr"] == optimizer.param_groups[0]["lr"]
            optimizer.step()
            schedule.step()
        schedule.epoch(float(epoch))
    return used


class TestOptimizer:
    def test_weight_decay_spares_norms_and_biases(self) -> None:
        model = Pair(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), nn.Linear(4, 2))
        groups = build_optimizer(recipe(weight_decay=0.02), model).param_groups
        assert [[p.ndim for p in g["params"]] for g in groups] == [[4], [1, 1, 1], [2], [1]]
        assert [g["weight_decay"] for g in groups] == [0.02, 0.0, 0.02, 0.0]
        assert {g["lr"] for g in groups} == {RATE}

    def test_the_encoder_has_its_own_learning_rate(self) -> None:
        model = Pair(nn.Linear(2, 2), nn.Linear(2, 2))
        recipe_ = recipe(encoder_lr_ratio=0.1, schedule="cosine", warmup=0.0, epochs=4)
        optimizer = build_optimizer(recipe_, model)
        schedule = build_schedule(recipe_, optimizer, steps_per_epoch=2)
        for step in range(8):
            rates = [group["lr"] for group in optimizer.param_groups]
            expected = RATE * 0.5 * (1 + math.cos(math.pi * step / 8))
            assert rates == pytest.approx([0.1 * expected, 0.1 * expected, expected, expected])
            optimizer.step()
            schedule.step()

    def test_stage_one_has_its_own_learning_rate(self) -> None:
        values = {"frozen": 0.25, "frozen_learning_rate": 3e-3, "schedule": "cosine", "warmup": 0.0}
        optimizer, schedule = built(recipe(epochs=4, **values), 2)
        used = []
        for _ in range(8):
            used.append(optimizer.param_groups[-1]["lr"])
            optimizer.step()
            schedule.step()
        rest = [RATE * 0.5 * (1 + math.cos(math.pi * step / 6)) for step in range(6)]
        assert used == pytest.approx([3e-3, 3e-3, *rest])

    def test_frozen_parameters_are_left_out(self) -> None:
        model = Pair(nn.Linear(2, 2), nn.Linear(2, 2))
        model.encoder.get_parameter("bias").requires_grad_(False)
        assert len(build_optimizer(recipe(), model).param_groups) == 3

    def test_numbers_of_torchs_plain_adamw(self) -> None:
        ours, theirs = (
            Pair(nn.Linear(3, 3, bias=False), nn.Linear(3, 2, bias=False)) for _ in range(2)
        )
        theirs.load_state_dict(ours.state_dict())
        optimizers = (
            build_optimizer(recipe(weight_decay=0.1), ours),
            torch.optim.AdamW(theirs.parameters(), lr=RATE, weight_decay=0.1, fused=False),
        )
        inputs = torch.randn(4, 3)
        for _ in range(3):
            for model, optimizer in zip((ours, theirs), optimizers, strict=True):
                optimizer.zero_grad()
                model(inputs).square().mean().backward()
                optimizer.step()
        torch.testing.assert_close(ours.head.weight, theirs.head.weight)


@pytest.mark.parametrize("name", sorted(SHAPES))
class TestEverySchedule:
    def test_a_short_budget_keeps_the_shape(self, name: str) -> None:
        long = rates(recipe(schedule=name, warmup=0.1, epochs=100))
        short = rates(recipe(schedule=name, warmup=0.1, epochs=10))
        jump = 0.1 if name != "multistep" else 0.51
        assert max(abs(a - b) for a, b in zip(long[5::10], short, strict=True)) < jump

    def test_stays_within_the_recipes_rate(self, name: str) -> None:
        used = rates(recipe(schedule=name, epochs=20))
        assert max(used) == pytest.approx(1.0, abs=0.02)
        assert max(used) <= 1.0
        assert min(used) > 0

    def test_rises_through_its_warmup_and_then_no_more(self, name: str) -> None:
        asked = recipe(schedule=name, warmup=0.2, epochs=10)
        used = rates(asked)
        top = round(warmup_fraction(asked) * len(used))
        rise = used[:top]
        assert rise == sorted(rise)
        assert used[top - 1] > 0.95
        assert used[0] < 0.1

    def test_one_step_in_all(self, name: str) -> None:
        assert len(rates(recipe(schedule=name, epochs=1), steps_per_epoch=1)) == 1

    def test_resumes_where_it_was(self, name: str) -> None:
        asked = recipe(schedule=name, epochs=8)
        optimizer, schedule = built(asked, 4)
        for epoch in range(5):
            for _ in range(4):
                optimizer.step()
                schedule.step()
            schedule.epoch(1.0 - epoch)
        again, resumed = built(asked, 4)
        resumed.load_state_dict(schedule.state_dict())
        for _ in range(12):
            assert again.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
            for each in (schedule, resumed):
                each.step()
                each.epoch(-1.0)

    def test_loading_the_optimizer_first_changes_nothing(self, name: str) -> None:
        asked = recipe(schedule=name, epochs=8)
        optimizer, schedule = built(asked, 4)
        saved = optimizer.state_dict()
        for _ in range(9):
            schedule.step()
        again, resumed = built(asked, 4)
        again.load_state_dict(saved)
        resumed.load_state_dict(schedule.state_dict())
        assert again.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]


def test_multistep_is_the_reports() -> None:
    used = rates(recipe(schedule="multistep", warmup=5 / 200, epochs=200), steps_per_epoch=1)
    assert used[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert set(used[5:50]) == {1.0}
    assert used[50:100] == pytest.approx([0.5] * 50)
    assert used[100:] == pytest.approx([0.05] * 100)


def test_cosine_by_hand() -> None:
    used = rates(recipe(schedule="cosine", warmup=0.0, epochs=4), steps_per_epoch=1)
    assert used == pytest.approx([1.0, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125)])


def test_warm_restarts_return_to_the_top_twice() -> None:
    used = rates(recipe(schedule="warm_restarts", warmup=0.0, epochs=7))
    jumps = [i for i, (a, b) in enumerate(itertools.pairwise(used), start=1) if b > a]
    assert jumps == [10, 30]
    assert [used[i] for i in (0, 10, 30)] == pytest.approx([1.0, 1.0, 1.0])


def test_one_cycle_is_torchs() -> None:
    optimizer = torch.optim.AdamW(nn.Linear(2, 2).parameters(), lr=RATE)
    theirs = OneCycleLR(optimizer, RATE, total_steps=1001, pct_start=0.3, cycle_momentum=False)
    expected = []
    for _ in range(1000):
        expected.append(optimizer.param_groups[0]["lr"] / RATE)
        optimizer.step()
        theirs.step()
    assert rates(recipe(schedule="one_cycle", epochs=100)) == pytest.approx(expected, abs=5e-3)


def test_plateau_halves_without_a_gain() -> None:
    optimizer, schedule = built(recipe(schedule="plateau", warmup=0.1, epochs=60), 1)
    used = []
    for epoch in range(30):
        schedule.step()
        schedule.epoch(min(epoch, 10) if epoch != 5 else math.nan)
        used.append(optimizer.param_groups[0]["lr"] / RATE)
    assert used[10:14] == [1.0] * 4  # a patience of 3 epochs after the best one, number 10
    assert used[14:18] == [0.5] * 4
    assert used[18] == 0.25


def test_unknown_schedule() -> None:
    with pytest.raises(ConfigError, match=r"'cosin' is unknown\. Did you mean 'cosine'"):
        built(recipe(schedule="cosin"), 1)


class TestEma:
    def test_by_hand_with_a_decay_that_grows(self) -> None:
        model = nn.Linear(1, 1, bias=False)
        nn.init.constant_(model.weight, 1.0)
        ema = Ema(model, decay=0.15)
        expected = None
        for update, value in enumerate([1.0, 2.0, 3.0, 4.0]):
            nn.init.constant_(model.weight, value)
            ema.update(model)
            decay = min(0.15, (1 + update) / (10 + update))
            expected = value if expected is None else decay * expected + (1 - decay) * value
            assert ema.module.weight.item() == pytest.approx(expected)

    def test_buffers_are_averaged_and_the_network_is_not_touched(self) -> None:
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        ema = Ema(model, decay=0.9)
        for _ in range(3):
            model(torch.randn(2, 3, 8, 8) + 5)
            ema.update(model)
        average, own = ema.module[1].running_mean, model[1].running_mean
        assert 0 < average.abs().sum() < own.abs().sum()
        assert ema.module[1].num_batches_tracked.dtype == torch.long
        assert all(
            a is not b for a, b in zip(ema.module.parameters(), model.parameters(), strict=True)
        )

    def test_resumes_where_it_was(self) -> None:
        model = nn.Linear(2, 2)
        ema = Ema(model, decay=0.9)
        ema.update(model)
        again = Ema(nn.Linear(2, 2), decay=0.9)
        again.load_state_dict(ema.state_dict())
        nn.init.zeros_(model.weight)
        for each in (ema, again):
            each.update(model)
        assert int(again.n_averaged) == 2
        assert torch.equal(again.module.weight, ema.module.weight)
