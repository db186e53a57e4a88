"""Losses against torch, smp, torchvision and values worked out by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import maximum_filter
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
    BoundaryF1,
    CrossEntropy,
    Focal,
    build_loss,
    mask_edges,
    median_frequency_weights,
)

TASK = Task("segmentation", bands=3, classes=("ground", "cat", "dog"))
IMAGES = Task("classification", bands=3, classes=("cat", "dog", "owl"))
IGNORED = 255
WEIGHING = sorted(name for name, term in TERMS.items() if term.weighs)


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


def values_of(
    term: str, logits: Tensor, target: Tensor, weights: Tensor | None = None, **values: object
) -> Tensor:
    loss = build_loss(recipe(loss={term: 1.0}, boundary_weight=0.0, **values), TASK)
    return loss(Output(logits, logits[:, :1]), target, weights).semantic


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
        before = values_of(term, logits, target).item()
        for _ in range(40):
            optimizer.zero_grad()
            values_of(term, logits, target).backward()
            optimizer.step()
        assert values_of(term, logits, target) < 0.6 * before
        known = target != IGNORED
        right = (logits.argmax(1)[known] == target[known]).float().mean()
        assert right > 0.95 or term == "boundary"  # An edge does not say which class is inside.

    def test_pixels_of_weight_0_are_left_out(self, term: str) -> None:
        logits, target = batch()
        weights = torch.ones(target.shape)
        weights[:, 4] = 0
        without = target.masked_fill(weights == 0, IGNORED)
        torch.testing.assert_close(
            values_of(term, logits, target, weights), values_of(term, logits, without)
        )

    def test_equal_weights_change_nothing(self, term: str) -> None:
        logits, target = batch()
        weights = torch.full(target.shape, 0.3)
        torch.testing.assert_close(
            values_of(term, logits, target, weights), values_of(term, logits, target)
        )


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

    def test_sklearn_with_weights_of_pixels(self) -> None:
        logits, target = batch()
        known = target != IGNORED
        weights = torch.rand(target.shape, generator=torch.Generator().manual_seed(3))
        shares = logits.detach().double().softmax(1).permute(0, 2, 3, 1)[known].numpy()
        expected = log_loss(
            target[known].numpy(), shares, labels=[0, 1, 2], sample_weight=weights[known].numpy()
        )
        value = values_of("cross_entropy", logits, target, weights)
        assert value.item() == pytest.approx(expected, rel=1e-5)

    def test_two_classes_of_the_documents_frequencies_weigh_1_to_13(self) -> None:
        weights = median_frequency_weights(torch.tensor([13.3, 1.0]))
        assert (weights[1] / weights[0]).item() == pytest.approx(1.86 / 0.14, rel=0.01)

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


@pytest.mark.parametrize("term", WEIGHING)
class TestWeighing:
    def test_a_pixel_of_weight_2_is_two_pixels(self, term: str) -> None:
        logits, target = batch()
        weights = torch.ones(target.shape)
        weights[:, -1] = 2
        twice = torch.cat([logits, logits[:, :, -1:]], 2), torch.cat([target, target[:, -1:]], 1)
        torch.testing.assert_close(
            values_of(term, logits, target, weights), values_of(term, *twice)
        )

    def test_no_weight_at_all_is_zero(self, term: str) -> None:
        logits, target = batch()
        value = values_of(term, logits, target, torch.zeros(target.shape))
        value.backward()
        assert value == 0
        assert (logits.grad == 0).all()


def image_batch() -> tuple[Tensor, Tensor]:
    """Logits (8, 3) and ids (8,) of whole images."""
    generator = torch.Generator().manual_seed(2)
    logits = 2 * torch.randn(8, 3, generator=generator)
    return logits.requires_grad_(), torch.randint(0, 3, (8,), generator=generator)


@pytest.mark.parametrize("term", WEIGHING)
class TestWholeImages:
    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    @pytest.mark.parametrize("class_weights", ["none", "frequency"])
    def test_one_hot_labels_are_ids(self, term: str, smoothing: float, class_weights: str) -> None:
        logits, ids = image_batch()
        asked = recipe(loss={term: 1.0}, label_smoothing=smoothing, class_weights=class_weights)
        loss = build_loss(asked, IMAGES, torch.tensor([6, 3, 1]))
        hard = loss(Output(logits, None), ids)
        soft = loss(Output(logits, None), F.one_hot(ids, 3).float())
        torch.testing.assert_close(soft.total, hard.total)
        assert hard.total > 0
        assert hard.total == hard.semantic
        assert hard.boundary == 0

    def test_soft_labels_are_as_good_as_their_parts(self, term: str) -> None:
        logits, ids = image_batch()
        loss = build_loss(recipe(loss={term: 1.0}), IMAGES)
        mixed = 0.3 * F.one_hot(ids, 3) + 0.7 * F.one_hot(ids.flip(0), 3)
        values = [loss(Output(logits, None), labels).total for labels in (ids, ids.flip(0), mixed)]
        torch.testing.assert_close(values[2], 0.3 * values[0] + 0.7 * values[1])

    def test_class_255_counts(self, term: str) -> None:
        many = Task("classification", bands=3, classes=tuple(f"c{n}" for n in range(300)))
        logits = torch.zeros(2, 300, requires_grad=True)
        build_loss(recipe(loss={term: 1.0}), many)(
            Output(logits, None), torch.tensor([0, 255])
        ).total.backward()
        assert (logits.grad.abs().sum(1) > 0).all()

    def test_it_learns(self, term: str) -> None:
        logits, ids = image_batch()
        loss = build_loss(recipe(loss={term: 1.0}), IMAGES)
        loss(Output(logits, None), ids).total.backward()
        assert (logits.grad.gather(1, ids[:, None]) < 0).all()


class TestWholeImagesAgainstTorch:
    @pytest.mark.parametrize("smoothing", [0.0, 0.2])
    def test_cross_entropy(self, smoothing: float) -> None:
        logits, ids = image_batch()
        loss = build_loss(recipe(label_smoothing=smoothing), IMAGES)
        soft = torch.softmax(logits.detach().flip(0), 1)
        for labels in (ids, soft):
            expected = F.cross_entropy(logits, labels, label_smoothing=smoothing)
            torch.testing.assert_close(loss(Output(logits, None), labels).total, expected)

    def test_focal_by_hand_has_no_background(self) -> None:
        logits = torch.tensor([[0.2, 0.5, 0.3]]).log()
        loss = build_loss(recipe(loss={"focal": 1.0}, focal_alpha=0.75), IMAGES)
        value = loss(Output(logits, None), torch.tensor([0])).total
        assert value.item() == pytest.approx(0.75 * 0.8**2 * -math.log(0.2))

    @pytest.mark.parametrize("term", ["dice", "tversky", "boundary"])
    def test_terms_of_masks_are_refused(self, term: str) -> None:
        match = f"'{term}' is for segmentation; .* can use cross_entropy, focal"
        with pytest.raises(ConfigError, match=match):
            build_loss(recipe(loss={term: 1.0}), IMAGES)

    def test_live_values_name_no_boundary(self) -> None:
        asked = recipe(label_smoothing=0.1)
        live = build_loss(asked, IMAGES).live_values()
        assert set(live) == {"loss", "label_smoothing", "class_weights"}
        assert live == {field: getattr(asked, field) for field in live}


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


class TestBoundaryF1:
    def test_by_hand(self) -> None:
        """A strip with its edge in place and a false one far away.

        Class 1 draws 0.5 at the first pixel and 1 at its edge, which is right within two pixels:
        precision 1 / 1.5, recall 1. Class 0 draws 0.5 at the second pixel: the same.
        """
        second = torch.tensor([0.5, 0, 0, 0, 0, 1, 1, 1])
        value = BoundaryF1(IGNORED)(two_class(second), strip(5, 3))
        assert value.item() == pytest.approx(1 - 2 * (2 / 3) / (2 / 3 + 1), abs=1e-5)

    def test_a_soft_edge_by_hand(self) -> None:
        """Each class draws 0.2, 0.4 and 0.4 near its edge: precision 1, recall 0.4."""
        value = BoundaryF1(IGNORED)(two_class(torch.tensor([0, 0, 0.2, 0.6, 1, 1])), strip(3, 3))
        assert value.item() == pytest.approx(1 - 2 * 0.4 / 1.4, abs=1e-5)

    def test_scipy(self) -> None:
        logits, target = batch()
        value = BoundaryF1(IGNORED)(logits, target)
        expected = boundary_f1_loss(logits.detach().softmax(1).numpy(), target.numpy())
        assert value.item() == pytest.approx(expected, rel=1e-4)

    def test_the_further_off_the_worse(self) -> None:
        row, column = torch.meshgrid(torch.arange(40), torch.arange(40), indexing="ij")
        disc = (row - 20) ** 2 + (column - 16) ** 2 < 64
        smooth = F.avg_pool2d(disc[None, None].float(), 3, 1, 1)[0, 0]
        losses = []
        for shift in range(0, 9, 2):
            logits = two_class(smooth.roll(shift, 1).clamp(0.02, 0.98))
            losses.append(BoundaryF1(IGNORED)(logits, disc[None].long()).item())
        assert losses == sorted(losses)
        assert losses[2] > losses[1] + 0.05
        assert losses[4] > losses[2] + 0.1

    def test_gradient_against_finite_differences(self) -> None:
        logits, target = batch()
        exact = logits.detach().double().requires_grad_()
        assert torch.autograd.gradcheck(lambda x: BoundaryF1(IGNORED)(x, target), exact)

    @pytest.mark.parametrize("fill", [IGNORED, 1])
    def test_without_a_labelled_boundary_it_is_zero(self, fill: int) -> None:
        logits, target = batch()
        value = BoundaryF1(IGNORED)(logits, torch.full_like(target, fill))
        value.backward()
        assert value == 0
        assert (logits.grad == 0).all()

    def test_the_border_of_ignored_pixels_is_no_boundary(self) -> None:
        target = torch.ones(1, 8, 8, dtype=torch.long)
        target[:, :, 4:] = IGNORED
        assert BoundaryF1(IGNORED)(two_class(torch.rand(8, 8)), target) == 0


def strip(*lengths: int) -> Tensor:
    """Class 0, then class 1: (1, 1, W)."""
    return torch.arange(2).repeat_interleave(torch.tensor(lengths)).view(1, 1, -1)


def two_class(second: Tensor) -> Tensor:
    """Logits (1, 2, H, W) whose softmax is (1 - second, second)."""
    second = second.reshape(1, *second.shape) if second.dim() == 2 else second.view(1, 1, -1)
    return torch.stack([1 - second, second], 1).clamp_min(1e-12).log()


def boundary_f1_loss(shares: np.ndarray, target: np.ndarray) -> float:
    """The term with loops and scipy's filters; shares (N, K, H, W)."""
    losses = []
    for share, ids in zip(shares, target, strict=True):
        valid = ids != IGNORED
        for number, probability in enumerate(share):
            drawn = thin(probability, valid)
            labelled = thin(ids == number, valid)
            if labelled.sum():
                near = {"mode": "constant", "size": 5}
                precision = (drawn * maximum_filter(labelled, **near)).sum() / drawn.sum()
                recall = (labelled * maximum_filter(drawn, **near)).sum() / labelled.sum()
                losses.append(1 - 2 * precision * recall / (precision + recall))
    return float(np.mean(losses))


def thin(inside: np.ndarray, valid: np.ndarray) -> np.ndarray:
    outside = np.where(valid, 1.0 - inside, 0.0)
    return np.where(valid, maximum_filter(outside, size=3, mode="constant") - outside, 0.0)


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
