"""Draw one animal: parts as tapered curves, coat by position on the body, light from above."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from raysearch.data.sample._species import Species
from raysearch.data.sample._texture import noise, spots, stripes

Array = NDArray[np.float32]

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
    size = random.uniform(0.25, 0.5) * min(height, width)
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
    large = (shape[0] * SCALE, shape[1] * SCALE)
    parts = _Canvas(large, at).draw(animal)
    u, v = _body_coordinates(large, at)
    colour = _coat(parts, u, v, animal, random) * _light(parts, v, at, random)[..., None]
    cover = (parts > 0).astype(np.float32)
    share = cv2.resize(cover, shape[::-1], interpolation=cv2.INTER_AREA)
    # Premultiplied, so that the colour of empty pixels does not bleed into the edge.
    mixed = cv2.resize(colour * cover[..., None], shape[::-1], interpolation=cv2.INTER_AREA)
    return mixed / np.maximum(share, 1e-3)[..., None], share


def _axes(at: Pose) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the unit vectors along and across the body (downwards), in pixels of the canvas."""
    cos, sin = np.cos(at.tilt), np.sin(at.tilt)
    return np.array([at.facing * cos, sin]), np.array([-at.facing * sin, cos])


def _body_coordinates(shape: tuple[int, int], at: Pose) -> tuple[Array, Array]:
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    dx, dy = columns / SCALE - at.centre[0], rows / SCALE - at.centre[1]
    along, across = _axes(at)
    u = (dx * along[0] + dy * along[1]) / at.size
    v = (dx * across[0] + dy * across[1]) / at.size
    return u.astype(np.float32), v.astype(np.float32)


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

    def _leg(
        self, top: NDArray[np.float64], swing: float, animal: Species, leg: int, foot: int
    ) -> None:
        length = animal.leg * self.at.crouch + max(0.0, 0.1 - top[1] / 2)
        bend = -0.07 if top[0] < 0 else 0.05
        knee = top + (swing * 0.5 + bend, length * 0.55)
        ankle = top + (swing, length)
        thick = animal.limb
        self._curve([top, knee, ankle], [0.13 * thick, 0.075 * thick, 0.05 * thick], leg)
        lower = knee + (ankle - knee) * 0.45
        toe = ankle + (0.06, 0.01)
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
        neck = base + animal.neck * np.array([np.cos(angle), -np.sin(angle)]) + (0.06, -0.04)
        if animal.mane:
            self._circles(np.array([neck - (0.1, -0.03)]), np.array([animal.mane]), MANE)
        self._curve([base, (base + neck) / 2, neck], [0.17, 0.14, animal.head * 0.85], BODY)
        if animal.mane:
            self._circles(np.array([neck - (0.06, 0.0)]), np.array([animal.mane * 0.86]), MANE)
        self._ear(neck + (-0.35 * animal.head, -0.75 * animal.head), animal)
        self._ear(neck + (0.15 * animal.head, -0.85 * animal.head), animal)
        self._circles(neck[None], np.array([animal.head]), HEAD)
        nose = neck + (animal.head * 0.6 + animal.muzzle, animal.head * 0.35)
        self._curve(
            [neck + (0.3 * animal.head, 0.2 * animal.head), (neck + nose) / 2 + (0.04, 0.03), nose],
            [animal.head * 0.65, animal.head * 0.5, animal.head * 0.3],
            MUZZLE,
        )
        self._circles((nose + (animal.head * 0.16, -0.02))[None], np.array([0.035]), DARK)
        eye = neck + (animal.head * 0.45, -animal.head * 0.2)
        self._circles(eye[None], np.array([0.024]), DARK)

    def _ear(self, at: NDArray[np.float64], animal: Species) -> None:
        if not animal.pointed:
            self._circles(at[None], np.array([animal.ear]), EAR)
            return
        half = 0.42 * animal.ear
        corners = [at + (-half, 0.06), at + (-0.1 * half, -animal.ear), at + (half, 0.06)]
        pixels = self._pixels(np.array(corners))
        cv2.fillPoly(self.parts, [pixels.astype(np.int32)], EAR)

    def _curve(self, points: list, radii: list[float], part: int) -> None:  # type: ignore[type-arg]
        self._circles(*_smooth(points, radii), part)

    def _circles(
        self, points: NDArray[np.float64], radii: NDArray[np.float64], part: int
    ) -> None:
        thick = np.maximum(radii * self.at.size * SCALE, 1)
        for (x, y), radius in zip(self._pixels(points), thick, strict=True):
            cv2.circle(self.parts, (round(x), round(y)), round(radius), part, -1)

    def _pixels(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        turned = points[:, :1] * self.along + points[:, 1:] * self.across
        return (np.array(self.at.centre) + turned * self.at.size) * SCALE


def _smooth(
    points: list, radii: list[float]  # type: ignore[type-arg]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return 40 points and radii on the parabola through three points."""
    t = np.linspace(0, 1, 40)[:, None]
    weights = np.hstack([2 * (t - 0.5) * (t - 1), -4 * t * (t - 1), 2 * t * (t - 0.5)])
    return weights @ np.array(points, dtype=np.float64), weights @ np.array(radii)


def _coat(
    parts: NDArray[np.uint8], u: Array, v: Array, animal: Species, random: np.random.Generator
) -> Array:
    """Return the colour of every pixel before light, (H, W, 3)."""
    hsv = [random.uniform(*part) for part in (animal.hue, animal.saturation, animal.value)]
    base = cv2.cvtColor(np.array([[hsv]], dtype=np.uint8), cv2.COLOR_HSV2RGB)[0, 0]
    belly = np.clip((v - 0.02) / 0.2, 0, 1) * (parts == BODY) + (parts == MUZZLE) * 0.6
    pale = np.array([236, 228, 214], dtype=np.float32)
    colour = base.astype(np.float32) + (pale - base) * (belly * 2 * animal.belly)[..., None]
    bright = np.ones(256, dtype=np.float32)
    bright[[FAR_LEG, MANE, EAR, DARK]] = 0.72, random.uniform(0.4, 0.75), 0.7, 0.12
    bright[FOOT], bright[TIP] = animal.dark_legs, animal.tip
    dark = _pattern(u, v, animal, random) * np.isin(parts, (FAR_LEG, TAIL, BODY, LEG, HEAD))
    fur = 1 + 0.06 * noise(u.shape, 3, random) + 0.05 * noise(u.shape, 12, random)
    depth = random.uniform(0.6, 0.8) if animal.pattern != "blotches" else random.uniform(0.4, 0.6)
    return np.clip(colour * (bright[parts] * fur * (1 - depth * dark))[..., None], 0, 255)


def _pattern(u: Array, v: Array, animal: Species, random: np.random.Generator) -> Array:
    if animal.pattern == "spots":
        return spots(u, v, random.uniform(0.085, 0.11), 0.036, random)
    if animal.pattern == "blotches":
        bent = 0.03 * noise(u.shape, 14, random)
        return spots(u + bent, v - bent, random.uniform(0.17, 0.2), 0.07, random)
    if animal.pattern == "stripes":
        warp = 0.3 * noise(u.shape, u.shape[1] / 14, random) + 0.25 * np.sin(4 * v)
        return stripes(u, warp.astype(np.float32), random.uniform(0.13, 0.17), 0.4)
    return np.zeros_like(u)


def _light(
    parts: NDArray[np.uint8], v: Array, at: Pose, random: np.random.Generator
) -> Array:
    """Return brightness: darker at the rim and below, as of a round body under the sky."""
    inside = cv2.distanceTransform((parts > 0).astype(np.uint8), cv2.DIST_L2, 3)
    rim = np.clip(inside / (0.12 * at.size * SCALE), 0, 1)
    above = np.clip(1.0 - random.uniform(0.1, 0.5) * v, 0.65, 1.2)
    return np.asarray((0.72 + 0.28 * rim) * above, dtype=np.float32)
