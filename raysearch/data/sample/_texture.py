"""Noise, spots and stripes over coordinates; all arrays float32."""

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


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


def spots(u: Array, v: Array, spacing: float, radius: float, random: np.random.Generator) -> Array:
    """Return spots on a jittered grid (cellular noise): 1 inside, 0 outside, soft at the edge."""
    x, y = u / spacing, v / spacing
    column, row = np.floor(x).astype(np.int32), np.floor(y).astype(np.int32)
    jitter = random.uniform(-0.33, 0.33, (3, 64, 64)).astype(np.float32)
    nearest = np.full(u.shape, 9.0, dtype=np.float32)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            at = (row + down) % 64, (column + right) % 64
            dx = column + right + 0.5 + jitter[0][at] - x
            dy = row + down + 0.5 + jitter[1][at] - y
            nearest = np.minimum(nearest, np.hypot(dx, dy) / (1 + jitter[2][at]))
    return np.clip((radius / spacing - nearest) * 8 + 0.5, 0, 1).astype(np.float32)


def stripes(u: Array, warp: Array, period: float, share: float) -> Array:
    """Return stripes across u, bent by warp; share is the part of a period that is dark."""
    wave = np.cos(2 * np.pi * (u / period + warp))
    return np.clip((wave - np.cos(np.pi * share)) * 4 + 0.5, 0, 1).astype(np.float32)
