"""Noise, spots and stripes over coordinates; all arrays float32."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def noise(shape: tuple[int, int], size: float, random: np.random.Generator) -> Array:
    """Return smooth noise of mean 0 and standard deviation near 1, with features size px wide."""
    rows, columns = (int(np.ceil(side / max(size, 1.0))) + 3 for side in shape)
    coarse = random.standard_normal((rows, columns), dtype=np.float32)
    fine: Array = cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)
    return fine


def clouds(shape: tuple[int, int], size: float, random: np.random.Generator) -> Array:
    """Return noise of four octaves, each half as wide and half as strong as the one before."""
    octaves = [noise(shape, size / 2**k, random) / 2**k for k in range(4)]
    return np.asarray(sum(octaves) / 1.15, dtype=np.float32)


def grid(low: Array, high: Array, spacing: float, random: np.random.Generator) -> Array:
    """Return points (N, 2) of a jittered honeycomb between two corners, `spacing` apart."""
    columns = np.arange(low[0], high[0], spacing)
    rows = np.arange(low[1], high[1], spacing * 0.87)
    x, y = np.meshgrid(columns, rows)
    x = x + (np.arange(len(rows)) % 2)[:, None] * spacing / 2
    points = np.stack([x.ravel(), y.ravel()], axis=1)
    jitter = random.uniform(-0.28, 0.28, points.shape) * spacing
    return np.asarray(points + jitter, dtype=np.float32)


def spots(
    shape: tuple[int, int], points: Array, radius: float, uneven: float, random: np.random.Generator
) -> Array:
    """Return spots at points in pixels: 1 inside, 0 outside, soft at the edge.

    Args:
        uneven: 0 for circles of one size, up to 1 for blotches of any size and direction.
    """
    cover = np.zeros(shape, dtype=np.uint8)
    axes = 2 * radius * (1 + uneven * random.uniform(-0.7, 0.7, points.shape))
    for point, axis, angle in zip(points, axes, random.uniform(0, 180, len(points)), strict=True):
        cv2.ellipse(cover, (point.tolist(), axis.tolist(), float(angle)), 255, -1)
    return np.asarray(cv2.blur(cover, (3, 3)) / np.float32(255), dtype=np.float32)


def stripes(u: Array, warp: Array, period: float, share: float) -> Array:
    """Return stripes across u, bent by warp; share is the part of a period that is dark."""
    wave = np.cos(2 * np.pi * (u / period + warp))
    return np.clip((wave - np.cos(np.pi * share)) * 4 + 0.5, 0, 1).astype(np.float32)
