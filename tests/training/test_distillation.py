"""Distillation against a value worked out by hand and the formula of the food document."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from raysearch.training.distillation import Distillation, distillation_loss
from raysearch.training.losses import LossValues

IGNORED = 255
IMAGES = torch.zeros(1)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def teacher(logits: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda images: logits


def values_of(semantic: Tensor, boundary: float = 0.0) -> LossValues:
    return LossValues(semantic + boundary, semantic, torch.tensor(boundary))


class TestLoss:
    def test_by_hand(self) -> None:
        """At temperature 2 the student says (0.2, 0.8) and the teacher (0.5, 0.5)."""
        student = 2 * torch.tensor([[0.2, 0.8]]).log()
        expected = 4 * (0.5 * math.log(0.5 / 0.2) + 0.5 * math.log(0.5 / 0.8))
        value = distillation_loss(student, torch.tensor([[0.5, 0.5]]), 2.0)
        assert value.item() == pytest.approx(expected)

    def test_pixels_are_averaged_over_those_that_count(self) -> None:
        student, taught = numbers(2, 3, 4, 5), numbers(2, 3, 4, 5, seed=1).softmax(1)
        valid = torch.arange(40).view(2, 4, 5) % 3 > 0
        as_images = student.movedim(1, -1)[valid], taught.movedim(1, -1)[valid]
        torch.testing.assert_close(
            distillation_loss(student, taught, 1.5, valid), distillation_loss(*as_images, 1.5)
        )

    def test_no_pixel_that_counts_is_zero(self) -> None:
        student = numbers(1, 2, 3, 3).requires_grad_()
        nothing = torch.zeros(1, 3, 3, dtype=torch.bool)
        value = distillation_loss(student, student.detach().softmax(1), 1.0, nothing)
        value.backward()
        assert value == 0
        assert (student.grad == 0).all()

    def test_a_sure_teacher_stays_finite(self) -> None:
        student = numbers(3, 2).requires_grad_()
        sure = torch.tensor([[1.0, 0.0]]).expand(3, 2)
        distillation_loss(student, sure, 3.0).backward()
        assert torch.isfinite(student.grad).all()

    def test_it_is_least_where_the_student_says_the_same(self) -> None:
        logits = numbers(4, 3).requires_grad_()
        value = distillation_loss(logits, (logits.detach() / 3).softmax(1), 3.0)
        value.backward()
        assert value.item() == pytest.approx(0, abs=1e-6)
        assert logits.grad.abs().max() < 1e-6


def documents_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, alpha: float, T: float
) -> Tensor:
    """Section 4.3 of the food strategy, as it stands there."""
    soft_loss = F.kl_div(
        F.log_softmax(student_logits / T, dim=1),
        F.softmax(teacher_logits / T, dim=1),
        reduction="batchmean",
    ) * (T * T)
    hard_loss = F.cross_entropy(student_logits, labels)
    return alpha * soft_loss + (1 - alpha) * hard_loss


class TestBlend:
    @pytest.mark.parametrize(("weight", "temperature"), [(0.7, 3.0), (0.2, 1.0), (0.0, 4.0)])
    def test_the_documents_formula(self, weight: float, temperature: float) -> None:
        student, logits, labels = numbers(6, 4), numbers(6, 4, seed=1), torch.arange(6) % 4
        distillation = Distillation([teacher(logits)], weight, temperature)
        values = values_of(F.cross_entropy(student, labels))
        blended = distillation(values, student, IMAGES, labels, IGNORED)
        expected = documents_loss(student, logits, labels, weight, temperature)
        torch.testing.assert_close(blended.total, expected)
        torch.testing.assert_close(blended.semantic, expected)

    def test_the_boundarys_part_stays(self) -> None:
        student, ids = numbers(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long)
        distillation = Distillation([teacher(numbers(2, 3, 4, 4, seed=1))], 0.6, 2.0)
        bare = distillation(values_of(torch.tensor(1.5)), student, IMAGES, ids, IGNORED)
        edged = distillation(values_of(torch.tensor(1.5), 0.25), student, IMAGES, ids, IGNORED)
        torch.testing.assert_close(edged.semantic, bare.semantic)
        torch.testing.assert_close(edged.total, edged.semantic + 0.25)
        assert edged.boundary == 0.25

    def test_ignored_pixels_teach_nothing(self) -> None:
        student = numbers(1, 3, 4, 4).requires_grad_()
        ids = torch.zeros(1, 4, 4, dtype=torch.long)
        ids[:, 2:] = IGNORED
        distillation = Distillation([teacher(numbers(1, 3, 4, 4, seed=1))], 0.6, 2.0)
        values = values_of(torch.tensor(0.0))
        distillation(values, student, IMAGES, ids, IGNORED).total.backward()
        assert (student.grad[:, :, 2:] == 0).all()
        assert (student.grad[:, :, :2] != 0).all()

    def test_class_255_of_whole_images_is_taught(self) -> None:
        student = numbers(2, 300).requires_grad_()
        distillation = Distillation([teacher(numbers(2, 300, seed=1))], 1.0, 2.0)
        values = values_of(torch.tensor(0.0))
        ids = torch.tensor([IGNORED, 0])
        distillation(values, student, IMAGES, ids, IGNORED).total.backward()
        assert (student.grad.abs().sum(1) > 0).all()

    def test_an_ensemble_is_the_mean_of_probabilities(self) -> None:
        pair = [numbers(5, 3, seed=1), numbers(5, 3, seed=2)]
        ensemble = Distillation([teacher(logits) for logits in pair], 0.5, 2.0)
        expected = sum((logits / 2).softmax(1) for logits in pair) / 2
        torch.testing.assert_close(ensemble.probabilities(IMAGES), expected)

    def test_teachers_see_the_images_and_get_no_gradient(self) -> None:
        network = torch.nn.Linear(4, 3)
        student = numbers(6, 3).requires_grad_()
        images = numbers(6, 4, seed=3)
        distillation = Distillation([network], 0.7, 3.0)
        blended = distillation(
            values_of(student.sum()), student, images, torch.zeros(6).long(), IGNORED
        )
        blended.total.backward()
        assert network.weight.grad is None
        assert student.grad is not None
        expected = (network(images) / 3).softmax(1)
        torch.testing.assert_close(distillation.probabilities(images), expected)

    def test_half_precision_is_compared_in_float32(self) -> None:
        network = torch.nn.Linear(4, 3)
        student, images = numbers(6, 3), numbers(6, 4, seed=3)
        distillation = Distillation([network], 0.7, 3.0)
        arguments = (images, torch.zeros(6).long(), IGNORED)
        full = distillation(values_of(torch.tensor(1.0)), student, *arguments)
        with torch.autocast("cpu", torch.bfloat16):
            half = distillation(values_of(torch.tensor(1.0)), student.bfloat16(), *arguments)
        assert half.total.dtype == torch.float32
        torch.testing.assert_close(half.total, full.total, rtol=0.03, atol=0.01)

    def test_live_values(self) -> None:
        distillation = Distillation([], 0.7, 3.0)
        assert distillation.live_values() == {"distill_weight": 0.7, "distill_temperature": 3.0}
        distillation.weight = 0.1
        assert distillation.live_values()["distill_weight"] == 0.1
