"""Losses against torch, smp, torchvision and values worked out by hand."""

import math

import numpy as np
import pytest
import torch
from segmentation_models_pytorch.losses import FocalLoss as FocalOneVersusRest
from sklearn.metrics import log_loss
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from raysearch.config import Recipe, Task
from raysearch.errors import ConfigError
from raysearch.models import Output
from raysearch.training.losses import (
    TERMS,
    Boundary,
    CrossEntropy,
    Focal,
    build_loss,
    mask_edges,
    median_frequency_weights,
)

TASK = Task("segmentation", bands=3, classes=("ground", "cat", "dog"))
IGNORED = 255


def recipe(**values: object) -> Recipe:
    return Recipe.model_validate({"architecture": "unet", **values})


def batch(ignored: bool = True) -> tuple[Tensor, Tensor]:
    """Logits (2, 3, 6, 5) and a target (2, 6, 5) with some ignored pixels."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(2, 3, 6, 5, generator=generator)
    target = torch.randint(0, 3, (2, 6, 5), generator=generator)
    if ignored:
        target[:, 1, :3] = IGNORED
    return logits.requires_grad_(), target


def values_of(term: str, logits: Tensor, target: Tensor, **values: object) -> Tensor:
    loss = build_loss(recipe(loss={term: 1.0}, boundary_weight=0.0, **values), TASK)
    return loss(Output(logits, logits[:, :1]), target).semantic


@pytest.mark.parametrize("term", sorted(TERMS))
class TestEveryTerm:
    def test_is_finite_and_trains(self, term: str) -> None:
        logits, target = batch()
        value = values_of(term, logits, target)
        value.backward()
        assert value.shape == ()
        assert value > 0
        assert torch.isfinite(logits.grad).all()
        assert logits.grad.abs().sum() > 0

    def test_ignored_pixels_change_nothing(self, term: str) -> None:
        logits, target = batch()
        value = values_of(term, logits, target)
        value.backward()
        assert (logits.grad.permute(0, 2, 3, 1)[target == IGNORED] == 0).all()
        other = logits.detach().clone()
        other[:, :, 1, :3] += 5
        torch.testing.assert_close(values_of(term, other, target), value.detach())

    def test_a_batch_without_labels_is_zero(self, term: str) -> None:
        logits, target = batch()
        value = values_of(term, logits, torch.full_like(target, IGNORED))
        value.backward()
        assert value == 0
        assert (logits.grad == 0).all()

    def test_extreme_logits_stay_finite(self, term: str) -> None:
        for scale in (1e4, -1e4):
            target = torch.tensor([[[0, 1], [2, IGNORED]]])
            sure = scale * F.one_hot(target % 3, 3).permute(0, 3, 1, 2).float()
            sure.requires_grad_()
            value = values_of(term, sure, target, focal_gamma=0.5)
            value.backward()
            assert torch.isfinite(value)
            assert torch.isfinite(sure.grad).all()

    def test_right_is_better_than_wrong(self, term: str) -> None:
        _, target = batch(ignored=False)
        right = 8 * F.one_hot(target, 3).permute(0, 3, 1, 2).float()
        assert values_of(term, right, target) < 0.1 * values_of(term, -right, target)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision_logits_are_compared_in_float32(
        self, term: str, dtype: torch.dtype
    ) -> None:
        logits, target = batch()
        with torch.autocast("cpu", torch.bfloat16):
            value = values_of(term, logits.detach().to(dtype), target)
        assert value.dtype == torch.float32
        torch.testing.assert_close(
            value, values_of(term, logits.detach(), target), rtol=0.02, atol=0
        )

    def test_an_optimizer_can_follow_it(self, term: str) -> None:
        logits, target = batch()
        logits = logits.detach().requires_grad_()
        optimizer = torch.optim.AdamW([logits], lr=0.3)
        for _ in range(40):
            optimizer.zero_grad()
            values_of(term, logits, target).backward()
            optimizer.step()
        known = target != IGNORED
        assert (logits.argmax(1)[known] == target[known]).float().mean() > 0.95


class TestCrossEntropy:
    @pytest.mark.parametrize("smoothing", [0.0, 0.2])
    @pytest.mark.parametrize("weights", [None, torch.tensor([0.3, 1.0, 2.5])])
    def test_torch(self, weights: Tensor | None, smoothing: float) -> None:
        logits, target = batch()
        expected = F.cross_entropy(
            logits, target, weights, ignore_index=IGNORED, label_smoothing=smoothing
        )
        term = CrossEntropy(IGNORED, smoothing, weights)
        torch.testing.assert_close(term(logits, target), expected)

    def test_sklearn(self) -> None:
        logits, target = batch()
        known = target != IGNORED
        shares = logits.detach().double().softmax(1).permute(0, 2, 3, 1)[known].numpy()
        expected = log_loss(target[known].numpy(), shares, labels=[0, 1, 2])
        assert values_of("cross_entropy", logits, target).item() == pytest.approx(
            expected, rel=1e-5
        )

    def test_weights_by_median_frequency(self) -> None:
        weights = median_frequency_weights(torch.tensor([800, 150, 50]))
        assert weights.tolist() == pytest.approx([150 / 800, 1.0, 3.0])
        shares = median_frequency_weights(torch.tensor([0.8, 0.15, 0.05]))
        torch.testing.assert_close(weights, shares)
        absent = median_frequency_weights(torch.tensor([80, 0, 20]))
        assert absent.tolist() == pytest.approx([50 / 80, 1.0, 2.5])
        assert median_frequency_weights(torch.zeros(2)).tolist() == [1, 1]

    def test_frequencies_reach_the_term(self) -> None:
        asked = recipe(loss={"cross_entropy": 1.0}, class_weights="frequency")
        loss = build_loss(asked, TASK, torch.tensor([800, 150, 50]))
        assert loss.terms["cross_entropy"].class_weights.tolist() == pytest.approx([0.1875, 1, 3])
        with pytest.raises(ConfigError, match="class frequencies"):
            build_loss(asked, TASK)


class TestFocal:
    def test_by_hand(self) -> None:
        # Probabilities (0.2, 0.5, 0.3): a pixel of background, one of a cat.
        logits = torch.tensor([0.2, 0.5, 0.3]).log().view(1, 3, 1, 1).expand(1, 3, 1, 2)
        target = torch.tensor([[[0, 1]]])
        expected = 0.25 * 0.8**2 * -math.log(0.2) + 0.75 * 0.5**2 * -math.log(0.5)
        assert Focal(IGNORED, 0.75, 2.0)(logits, target).item() == pytest.approx(expected / 2)

    @pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 3.0])
    @pytest.mark.parametrize("alpha", [0.25, 0.75])
    def test_two_classes_are_torchvisions_binary_form(self, alpha: float, gamma: float) -> None:
        logits = torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(1))
        target = (torch.arange(32) % 2).view(2, 4, 4)
        margin = logits[:, 1] - logits[:, 0]
        expected = sigmoid_focal_loss(margin, target.float(), alpha, gamma, reduction="mean")
        torch.testing.assert_close(Focal(IGNORED, alpha, gamma)(logits, target), expected)

    def test_without_focus_it_is_half_the_cross_entropy(self) -> None:
        logits, target = batch()
        expected = 0.5 * F.cross_entropy(logits, target, ignore_index=IGNORED)
        torch.testing.assert_close(Focal(IGNORED, 0.5, 0.0)(logits, target), expected)

    def test_gradient_against_finite_differences(self) -> None:
        logits, target = batch()
        exact = logits.detach().double().requires_grad_()
        assert torch.autograd.gradcheck(lambda x: Focal(IGNORED, 0.7, 2.5)(x, target), exact)

    @pytest.mark.parametrize("alphas", [(0.25, 0.75), (0.5, 0.9)])
    def test_alpha_turns_the_gradient(self, alphas: tuple[float, float]) -> None:
        """Alpha decides between classes, so it changes where the gradient points."""
        assert cosine(*(gradient(Focal(IGNORED, alpha, 2.0)) for alpha in alphas)) < 0.95

    def test_alpha_of_one_sigmoid_a_class_is_nearly_a_scale(self) -> None:
        """In that form every pixel is a positive of one class and a negative of all others.

        With no background set apart, a gradient on a class's own pixels only grows with alpha.
        """
        own = [own_class_gradient(one_versus_rest(alpha)) for alpha in (0.25, 0.75)]
        torch.testing.assert_close(own[1], 3 * own[0])
        ours = [own_class_gradient(Focal(IGNORED, alpha, 2.0)) for alpha in (0.25, 0.75)]
        assert cosine(*ours) < 0.95

    def test_alpha_moves_weight_from_background_to_foreground(self) -> None:
        shares = []
        for alpha in (0.25, 0.75):
            slope = gradient(Focal(IGNORED, alpha, 2.0))
            _, target = batch(ignored=False)
            per_pixel = slope.abs().sum(1)
            shares.append((per_pixel[target > 0].sum() / per_pixel.sum()).item())
        assert shares[1] > shares[0] + 0.2


def gradient(term: torch.nn.Module) -> Tensor:
    logits, target = batch(ignored=False)
    term(logits, target).backward()
    return logits.grad


def own_class_gradient(term: torch.nn.Module) -> Tensor:
    """The gradient on each pixel's logit of its true class."""
    _, target = batch(ignored=False)
    return gradient(term).gather(1, target.unsqueeze(1))


def one_versus_rest(alpha: float) -> torch.nn.Module:
    return FocalOneVersusRest("multiclass", alpha=alpha, gamma=2.0)


def cosine(a: Tensor, b: Tensor) -> float:
    return F.cosine_similarity(a.flatten(), b.flatten(), dim=0).item()


class TestDiceAndTversky:
    def test_dice_by_hand(self) -> None:
        probabilities, target = self.two_pixels()
        # Class 0: overlap 0.6, sums 0.6 + 0.3 and 1. Class 1: overlap 0.5, sums 0.3 + 0.5 and 1.
        first = (0.6 + 1) / (0.6 + 0.5 * 0.3 + 0.5 * 0.4 + 1)
        second = (0.5 + 1) / (0.5 + 0.5 * 0.3 + 0.5 * 0.5 + 1)
        expected = ((1 - first) + (1 - second) + 0) / 3
        assert values_of("dice", probabilities, target).item() == pytest.approx(expected, rel=1e-5)

    def test_tversky_by_hand(self) -> None:
        probabilities, target = self.two_pixels()
        first = (0.6 + 1) / (0.6 + 0.3 * 0.3 + 0.7 * 0.4 + 1)
        second = (0.5 + 1) / (0.5 + 0.3 * 0.3 + 0.7 * 0.5 + 1)
        expected = ((1 - first) + (1 - second) + 0) / 3
        value = values_of("tversky", probabilities, target, tversky_alpha=0.3, tversky_beta=0.7)
        assert value.item() == pytest.approx(expected, rel=1e-5)

    @staticmethod
    def two_pixels() -> tuple[Tensor, Tensor]:
        probabilities = torch.tensor([[0.6, 0.3, 0.1], [0.3, 0.5, 0.2]])
        return probabilities.log().T.reshape(1, 3, 1, 2), torch.tensor([[[0, 1]]])

    def test_equal_halves_are_dice(self) -> None:
        logits, target = batch()
        dice = values_of("dice", logits, target)
        tversky = values_of("tversky", logits, target, tversky_alpha=0.5, tversky_beta=0.5)
        torch.testing.assert_close(dice, tversky)


class TestBoundary:
    def test_edges_by_hand(self) -> None:
        target = torch.tensor([[[0, 0, 0, 1], [0, 0, IGNORED, 1], [2, 2, 2, 2]]])
        expected = torch.tensor([[[0, 0, 1, 1], [1, 1, 0, 1], [1, 1, 0, 1]]]).bool()
        assert torch.equal(mask_edges(target, IGNORED), expected)

    def test_edges_against_a_loop(self) -> None:
        _, target = batch()
        edges = mask_edges(target, IGNORED)
        for n, y, x in np.ndindex(*target.shape):
            around = ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
            inside = [(a, b) for a, b in around if 0 <= a < 6 and 0 <= b < 5]
            own = target[n, y, x]
            others = [target[n, a, b] for a, b in inside if target[n, a, b] != IGNORED]
            assert edges[n, y, x] == (own != IGNORED and any(other != own for other in others))

    @pytest.mark.parametrize("positive_weight", [0.5, 4.0])
    def test_torch(self, positive_weight: float) -> None:
        logits, target = batch()
        known = target != IGNORED
        expected = F.binary_cross_entropy_with_logits(
            logits[:, 0][known],
            mask_edges(target, IGNORED)[known].float(),
            pos_weight=torch.tensor(positive_weight),
        )
        value = Boundary(IGNORED, positive_weight)(logits[:, :1], target)
        torch.testing.assert_close(value, expected)

    def test_weight_from_the_batch_balances_it(self) -> None:
        target = torch.zeros(1, 10, 10, dtype=torch.long)
        target[0, :, 5:] = 1  # 20 pixels of 100 are edges
        logits = torch.zeros(1, 1, 10, 10, requires_grad=True)
        Boundary(IGNORED, None)(logits, target).backward()
        assert logits.grad.sum().item() == pytest.approx(0, abs=1e-6)
        assert logits.grad[0, 0, 0, 4] == pytest.approx(4 * -logits.grad[0, 0, 0, 0])

    @pytest.mark.parametrize("fill", [IGNORED, 1])
    def test_no_labels_or_no_edges(self, fill: int) -> None:
        logits, target = batch()
        value = Boundary(IGNORED, None)(logits[:, :1], torch.full_like(target, fill))
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(logits.grad).all()
        assert (value == 0) == (fill == IGNORED)


class TestSum:
    def test_terms_and_boundary_are_weighted(self) -> None:
        logits, target = batch()
        loss = build_loss(
            recipe(loss="focal + 0.5*dice", boundary_weight=0.3, boundary_positive_weight=2.0), TASK
        )
        values = loss(Output(logits, logits[:, :1]), target)
        expected = values_of("focal", logits, target) + 0.5 * values_of("dice", logits, target)
        torch.testing.assert_close(values.semantic, expected)
        torch.testing.assert_close(values.boundary, Boundary(IGNORED, 2.0)(logits[:, :1], target))
        torch.testing.assert_close(values.total, values.semantic + 0.3 * values.boundary)

    def test_live_values_come_from_the_terms(self) -> None:
        asked = recipe(
            loss={"focal": 1.0, "tversky": 0.5, "cross_entropy": 0.2},
            focal_alpha=0.8,
            focal_gamma=2.5,
            tversky_alpha=0.3,
            tversky_beta=0.6,
            label_smoothing=0.1,
            boundary_weight=0.4,
            boundary_positive_weight=5.0,
        )
        loss = build_loss(asked, TASK)
        live = loss.live_values()
        assert live == {field: getattr(asked, field) for field in live}
        assert len(live) == 9
        loss.terms["focal"].alpha = 0.1
        assert loss.live_values()["focal_alpha"] == 0.1

    def test_terms_without_weight_are_left_out(self) -> None:
        loss = build_loss(recipe(loss={"focal": 0.0, "dice": 1.0}), TASK)
        assert list(loss.terms) == ["dice"]

    def test_unknown_term(self) -> None:
        with pytest.raises(ConfigError, match=r"'focall' is unknown\. Did you mean 'focal'"):
            build_loss(recipe(loss={"focall": 1.0}), TASK)
