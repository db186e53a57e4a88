"""Temperature and calibration, on labels drawn from known probabilities."""

import pytest
import torch
from torch import Tensor

from raysearch.inference.calibration import (
    best_temperature,
    calibration_error,
    golden_section,
    held_out_gain,
    negative_log_likelihood,
    reliability,
)


def drawn(count: int = 4000) -> tuple[Tensor, Tensor]:
    """Logits of three classes, and labels drawn from their probabilities."""
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(count, 3, generator=random) * 2
    return logits, logits.softmax(1).multinomial(1, generator=random)[:, 0]


def test_the_temperature_that_spoilt_the_logits_is_found() -> None:
    logits, labels = drawn()
    found = best_temperature(lambda t: (3 * logits / t).softmax(1), labels)
    assert found == pytest.approx(3, rel=0.1)
    assert calibration_error((3 * logits).softmax(1), labels) > 0.08
    assert calibration_error((3 * logits / found).softmax(1), labels) < 0.02


def test_the_gain_is_that_of_images_that_were_held_out() -> None:
    logits, labels = drawn()
    group = torch.arange(len(labels)) // 100

    def at(scale: float, temperature: float, rows: Tensor) -> Tensor:
        return (scale * logits[rows] / temperature).softmax(1)

    found, gain = held_out_gain(lambda t, rows: at(3, t, rows), labels, group)
    assert found == pytest.approx(3, rel=0.1)
    assert gain > 0.1
    assert held_out_gain(lambda t, rows: at(1, t, rows), labels, group)[1] < 0.001
    assert held_out_gain(lambda t, rows: at(3, t, rows), labels, 0 * group) == (1.0, 0.0)


def test_calibration_error_by_hand() -> None:
    """Four answers of 0.8, half of them right: the error is 0.3."""
    said = torch.tensor([[0.8, 0.2]]).repeat(4, 1)
    assert calibration_error(said, torch.tensor([0, 0, 1, 1])) == pytest.approx(0.3)
    assert calibration_error(said[:0], torch.zeros(0, dtype=torch.long)) == 0.0


def test_reliability_by_hand() -> None:
    """Three answers of 0.8, two of them right, and one of 0.95, which is."""
    said = torch.tensor([[0.8, 0.2], [0.2, 0.8], [0.8, 0.2], [0.95, 0.05]])
    low, high = reliability(said, torch.tensor([0, 1, 1, 0]))
    assert low == pytest.approx([0.8, 2 / 3, 0.75])
    assert high == pytest.approx([0.95, 1.0, 0.25])
    assert reliability(said[:0], torch.zeros(0, dtype=torch.long)) == []
    random = torch.rand(500, 4, generator=torch.manual_seed(0)).softmax(1)
    target = torch.randint(0, 4, (500,), generator=torch.manual_seed(1))
    error = sum(share * abs(sure - right) for sure, right, share in reliability(random, target))
    assert error == pytest.approx(calibration_error(random, target), abs=1e-4)


def test_a_class_that_was_ruled_out_costs_much_but_not_everything() -> None:
    said = torch.tensor([[1.0, 0.0]])
    assert negative_log_likelihood(said, torch.tensor([0])) == pytest.approx(0, abs=1e-6)
    assert 10 < negative_log_likelihood(said, torch.tensor([1])) < 20


def test_golden_section_finds_the_minimum() -> None:
    assert golden_section(lambda x: (x - 0.7) ** 2, -2, 2) == pytest.approx(0.7, abs=1e-3)
    assert golden_section(lambda x: x, -2, 2) == pytest.approx(-2, abs=2e-3)
