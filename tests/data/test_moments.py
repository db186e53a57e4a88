"""Means and variances against NumPy in float64, of types and sizes where float32 sums fail."""

import numpy as np
import pytest

from raysearch.data.moments import combined, moments

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("bands", [1, 3, 6])
def test_as_numpy(dtype: str, bands: int) -> None:
    image = RNG.uniform(0, 200, (40, 30, bands)).astype(dtype)
    values = image.reshape(-1, bands).astype(np.float64)
    wanted = [np.full(bands, 1200), values.mean(axis=0), values.var(axis=0)]
    np.testing.assert_allclose(moments(image), wanted, rtol=1e-6)


def test_gaps_do_not_count() -> None:
    image = RNG.normal(size=(20, 20, 2)).astype(np.float32)
    gaps = np.zeros(image.shape, dtype=bool)
    gaps[:7, :, 0] = gaps[..., 1] = True
    found = moments(np.where(gaps, np.nan, image), gaps)
    known = image[7:, :, 0].astype(np.float64)
    np.testing.assert_allclose(found[:, 0], [260, known.mean(), known.var()], rtol=1e-5)
    np.testing.assert_array_equal(found[:, 1], 0)


def test_many_large_values_lose_no_digits() -> None:
    image = np.full((1000, 1000, 1), 5000.1, dtype=np.float32)
    image[::2] += 0.5
    count, mean, variance = moments(image)[:, 0]
    assert (count, mean) == (1e6, pytest.approx(5000.35, abs=1e-3))
    assert variance == pytest.approx(0.0625, rel=1e-2)


def test_combined_as_of_one_image() -> None:
    image = RNG.normal(3, 2, (60, 30, 4)).astype(np.float32)
    gaps = RNG.random(image.shape) < 0.3
    gaps[:20] = True
    parts = [moments(image[at : at + 20], gaps[at : at + 20]) for at in (0, 20, 40)]
    np.testing.assert_allclose(combined(np.stack(parts)), moments(image, gaps), rtol=1e-6)
