"""Draw one animal: parts as tapered curves, coat by position on the body, light from above."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from raysearch.data.sample._species import Species
from raysearch.data.sample._texture import grid, noise, spots, stripes

Array = NDArray[Any]

FAR_LEG, TAIL, TIP, BODY, LEG, FOOT, HEAD, MANE, EAR, MUZZLE, DARK = range(1, 12)
SCALE = 2  # drawn at twice the size, so that edges are smooth


@dataclass(frozen=True)
class Pose:
    """Where an animal stands and how. centre in pixels, size = pixels per body length."""

    centre: tuple[float, float]
    size: float
    facing: int
    tilt: float
    stride: tuple[float, float, float, float]
    crouch: float
    head: float
    tail: float


def pose(shape: tuple[int, int], random: np.random.Generator) -> Pose:
    """Draw a pose that does not depend on the species."""
    height, width = shape
    size = random.uniform(0.34, 0.6) * min(height, width)
    x, y = random.uniform(0.33, 0.67) * width, random.uniform(0.35, 0.65) * height
    swing = tuple(random.normal(0, 0.14, 4).tolist())
    return Pose(
        (x, y),
        size,
        int(random.choice([-1, 1])),
        random.normal(0, 0.1),
        swing,
        random.uniform(0.65, 1.05),
        random.uniform(-0.15, 0.9),
        random.uniform(-0.5, 0.9),
    )


def draw(
    shape: tuple[int, int], animal: Species, at: Pose, random: np.random.Generator
) -> tuple[Array, Array]:
    """Return the colour (H, W, 3) in 0..255 and the cover (H, W) in 0..1 of one animal."""
    canvas = _Canvas((shape[0] * SCALE, shape[1] * SCALE), at)
    parts = canvas.draw(animal)
    window = _window(parts)
    dark = _pattern(canvas, animal, random)[window]
    parts = parts[window]
    u, v = _body_coordinates(window, at)
    coat = _coat(parts, u, v, dark, animal, random) * _light(parts, v, at, random)[..., None]
    inside = (parts > 0).astype(np.float32)
    # Premultiplied, so that the colour of empty pixels does not bleed into the edge.
    share, mixed = _halve(inside), _halve(coat * inside[..., None])
    colour, cover = np.zeros((*shape, 3), np.float32), np.zeros(shape, np.float32)
    small = tuple(slice(part.start // SCALE, part.stop // SCALE) for part in window)
    colour[small], cover[small] = mixed / np.maximum(share, 1e-3)[..., None], share
    return colour, cover


def _window(parts: NDArray[np.uint8]) -> tuple[slice, slice]:
    """Return the rows and columns that show the animal, as multiples of SCALE."""
    left, top, width, height = (side // SCALE for side in cv2.boundingRect(parts))
    bottom, right = top + height + 2, left + width + 2
    rows = slice(top * SCALE, min(bottom * SCALE, parts.shape[0]))
    return rows, slice(left * SCALE, min(right * SCALE, parts.shape[1]))


def _halve(pixels: Array) -> Array:
    size = pixels.shape[1] // SCALE, pixels.shape[0] // SCALE
    halved: Array = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return halved


def _axes(at: Pose) -> tuple[Array, Array]:
    """Return the unit vectors along and across the body (downwards), in pixels of the canvas."""
    cos, sin = np.cos(at.tilt), np.sin(at.tilt)
    return np.array([at.facing * cos, sin]), np.array([-at.facing * sin, cos])


def _body_coordinates(window: tuple[slice, slice], at: Pose) -> tuple[Array, Array]:
    """Return how far each pixel lies along the body and below its axis, in body lengths."""
    rows = np.arange(window[0].start, window[0].stop, dtype=np.float32)[:, None]
    columns = np.arange(window[1].start, window[1].stop, dtype=np.float32)
    dx = (columns / SCALE - at.centre[0]) / at.size
    dy = (rows / SCALE - at.centre[1]) / at.size
    along, across = (axis.astype(np.float32) for axis in _axes(at))
    return dx * along[0] + dy * along[1], dx * across[0] + dy * across[1]


class _Canvas:
    """Which part of the animal each pixel shows."""

    def __init__(self, shape: tuple[int, int], at: Pose) -> None:
        self.parts = np.zeros(shape, dtype=np.uint8)
        self.at = at
        self.along, self.across = _axes(at)

    def draw(self, animal: Species) -> NDArray[np.uint8]:
        at, slope = self.at, animal.slope
        hips, shoulders = np.array([-0.45, 0.08 + slope]), np.array([0.42, 0.08])
        for top, swing in ((hips, at.stride[0]), (shoulders, at.stride[1])):
            self._leg(top, swing, animal, FAR_LEG, FAR_LEG)
        self._tail(animal)
        spine = [(-0.5, slope), (-0.1, 0.02 + slope / 2), (0.45, 0.0)]
        self._curve(spine, [animal.hip, animal.waist, animal.chest], BODY)
        for top, swing in ((hips, at.stride[2]), (shoulders, at.stride[3])):
            self._leg(top, swing, animal, LEG, FOOT)
        self._head(animal)
        return self.parts

    def _leg(self, top: Array, swing: float, animal: Species, leg: int, foot: int) -> None:
        length = animal.leg * self.at.crouch + max(0.0, 0.1 - top[1] / 2)
        bend = -0.07 if top[0] < 0 else 0.05
        knee = _moved(top, swing * 0.5 + bend, length * 0.55)
        ankle = _moved(top, swing, length)
        thick = animal.limb
        self._curve([top, knee, ankle], [0.13 * thick, 0.075 * thick, 0.05 * thick], leg)
        lower = knee + (ankle - knee) * 0.45
        toe = _moved(ankle, 0.06, 0.01)
        self._curve([lower, ankle, toe], [0.065 * thick, 0.052 * thick, 0.045 * thick], foot)

    def _tail(self, animal: Species) -> None:
        root = np.array([-0.6, animal.slope - 0.05])
        lift = self.at.tail
        middle = root + animal.tail * np.array([-0.45, 0.25 - 0.5 * lift])
        end = middle + animal.tail * np.array([-0.35, 0.35 - 1.0 * max(lift, 0.0)])
        points, radii = _smooth([root, middle, end], list(animal.tail_width))
        tip = int(len(points) * 0.72)
        self._circles(points[:tip], radii[:tip], TAIL)
        self._circles(points[tip:], radii[tip:], TIP)

    def _head(self, animal: Species) -> None:
        base = np.array([0.5, -0.06])
        angle = self.at.head
        reach = animal.neck * np.array([np.cos(angle), -np.sin(angle)])
        neck = base + reach + np.array([0.06, -0.04])
        if animal.mane:
            self._circle(_moved(neck, -0.1, 0.03), animal.mane, MANE)
        self._curve([base, (base + neck) / 2, neck], [0.17, 0.14, animal.head * 0.85], BODY)
        if animal.mane:
            self._circle(_moved(neck, -0.06, 0.0), animal.mane * 0.86, MANE)
        size = animal.head
        self._ear(_moved(neck, -0.35 * size, -0.75 * size), animal)
        self._ear(_moved(neck, 0.15 * size, -0.85 * size), animal)
        self._circle(neck, size, HEAD)
        nose = _moved(neck, size * 0.6 + animal.muzzle, size * 0.35)
        bridge = [_moved(neck, 0.3 * size, 0.2 * size), _moved((neck + nose) / 2, 0.04, 0.03), nose]
        self._curve(bridge, [size * 0.65, size * 0.5, size * 0.3], MUZZLE)
        self._circle(_moved(nose, size * 0.16, -0.02), 0.035, DARK)
        self._circle(_moved(neck, size * 0.45, -size * 0.2), 0.024, DARK)

    def _ear(self, at: Array, animal: Species) -> None:
        if not animal.pointed:
            self._circle(at, animal.ear, EAR)
            return
        half = 0.42 * animal.ear
        steps = [(-half, 0.06), (-0.1 * half, -animal.ear), (half, 0.06)]
        pixels = self.pixels(at + np.array(steps))
        cv2.fillPoly(self.parts, [pixels.astype(np.int32)], EAR)

    def _curve(self, points: Sequence[Any], radii: Sequence[float], part: int) -> None:
        self._circles(*_smooth(points, radii), part)

    def _circle(self, centre: Array, radius: float, part: int) -> None:
        self._circles(centre[None], np.array([radius]), part)

    def _circles(self, points: Array, radii: Array, part: int) -> None:
        thick = np.maximum(radii * self.at.size * SCALE, 1)
        for (x, y), radius in zip(self.pixels(points), thick, strict=True):
            cv2.circle(self.parts, (round(x), round(y)), round(radius), part, -1)

    def pixels(self, points: Array) -> Array:
        """Return points (N, 2) of the body's coordinates in pixels of the canvas."""
        turned = points[:, :1] * self.along + points[:, 1:] * self.across
        return (np.array(self.at.centre) + turned * self.at.size) * SCALE


def _moved(point: Array, right: float, down: float) -> Array:
    return np.asarray(point + np.array([right, down]))


def _smooth(points: Sequence[Any], radii: Sequence[float]) -> tuple[Array, Array]:
    """Return 40 points and radii on the parabola through three points."""
    t = np.linspace(0, 1, 40)[:, None]
    weights = np.hstack([2 * (t - 0.5) * (t - 1), -4 * t * (t - 1), 2 * t * (t - 0.5)])
    return weights @ np.array(points, dtype=np.float64), weights @ np.array(radii)


def _coat(
    parts: NDArray[np.uint8],
    u: Array,
    v: Array,
    dark: Array,
    animal: Species,
    random: np.random.Generator,
) -> Array:
    """Return the colour of every pixel before light, (H, W, 3)."""
    hsv = [random.uniform(*part) for part in (animal.hue, animal.saturation, animal.value)]
    base = cv2.cvtColor(np.array([[hsv]], dtype=np.uint8), cv2.COLOR_HSV2RGB)[0, 0]
    belly = np.clip((v - 0.02) / 0.2, 0, 1) * (parts == BODY) + (parts == MUZZLE) * np.float32(0.6)
    pale = np.array([236, 228, 214], dtype=np.float32)
    colour = base.astype(np.float32) + (pale - base) * (belly * 2 * animal.belly)[..., None]
    bright = np.ones(256, dtype=np.float32)
    bright[[FAR_LEG, MANE, EAR, DARK]] = 0.72, random.uniform(0.4, 0.75), 0.7, 0.12
    bright[FOOT], bright[TIP] = animal.dark_legs, animal.tip
    marked = np.isin(np.arange(256), (FAR_LEG, TAIL, BODY, LEG, HEAD))[parts]
    if animal.pattern == "stripes":
        warp = 0.3 * noise(u.shape, 30, random) + 0.25 * np.sin(4 * v)
        dark = stripes(u, warp, random.uniform(0.13, 0.17), 0.4)
    fur = 1 + 0.06 * noise(u.shape, 3, random) + 0.05 * noise(u.shape, 12, random)
    depth = random.uniform(0.4, 0.6) if animal.pattern == "blotches" else random.uniform(0.6, 0.8)
    shade = bright[parts] * fur * (1 - np.float32(depth) * dark * marked)
    return np.asarray(np.clip(colour * shade[..., None], 0, 255), dtype=np.float32)


def _pattern(canvas: "_Canvas", animal: Species, random: np.random.Generator) -> Array:
    """Return how dark the spots or blotches make each pixel of the canvas, 0..1."""
    if animal.pattern not in ("spots", "blotches"):
        return np.zeros(canvas.parts.shape, dtype=np.float32)
    fine = animal.pattern == "spots"
    spacing = random.uniform(0.085, 0.11) if fine else random.uniform(0.17, 0.21)
    radius, uneven = (0.027, 0.2) if fine else (0.055, 0.9)
    corners = np.array([-1.6, -0.7], np.float32), np.array([1.2, 1.0], np.float32)
    points = canvas.pixels(grid(*corners, spacing, random)).astype(np.float32)
    return spots(canvas.parts.shape, points, radius * canvas.at.size * SCALE, uneven, random)


def _light(parts: NDArray[np.uint8], v: Array, at: Pose, random: np.random.Generator) -> Array:
    """Return brightness: darker at the rim and below, as of a round body under the sky."""
    inside = cv2.distanceTransform((parts > 0).astype(np.uint8), cv2.DIST_L2, 3)
    rim = np.clip(inside / (0.12 * at.size * SCALE), 0, 1)
    above = np.clip(1.0 - random.uniform(0.1, 0.5) * v, 0.65, 1.2)
    return np.asarray((0.72 + 0.28 * rim) * above, dtype=np.float32)
