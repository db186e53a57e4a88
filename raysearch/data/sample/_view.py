"""A pinhole camera over a street, and a canvas that keeps colours and class ids together."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SCALE = 2  # drawn at twice the size, so that edges are smooth; masks keep every second pixel
NEAR = 1.0


@dataclass(frozen=True)
class Camera:
    """Where the camera stands, in metres (x to the right, y up, z along the street).

    yaw: to the right, in radians. horizon: share of the height above it. focal: length, in widths.
    """

    x: float
    height: float
    z: float
    yaw: float
    horizon: float
    focal: float


@dataclass(frozen=True)
class Light:
    """tint: of everything. haze: what far things fade into, with `reach` metres as the scale.

    left, right, front: brightness of what is seen on the right, on the left and straight ahead.
    """

    tint: Array
    left: float
    right: float
    front: float
    haze: Array
    reach: float


class Canvas:
    """A picture in the making. Later things cover earlier ones, so draw from far to near."""

    def __init__(self, shape: tuple[int, int], camera: Camera, light: Light) -> None:
        self.height, self.width = (side * SCALE for side in shape)
        self.camera, self.light = camera, light
        self.colour = np.zeros((self.height, self.width, 3), dtype=np.float32)
        self.labels = np.zeros((self.height, self.width), dtype=np.uint8)
        self.focal = camera.focal * self.width
        self.horizon = camera.horizon * self.height
        self._cos, self._sin = np.cos(camera.yaw), np.sin(camera.yaw)

    def depth(self, x: Any, z: Any) -> Any:
        """Return how far in front of the camera a place lies, in metres."""
        return (x - self.camera.x) * self._sin + (z - self.camera.z) * self._cos

    def nearest(self, x: float) -> float:
        """Return the z from which on places beside the street, at x, lie before the camera."""
        aside = (x - self.camera.x) * self._sin
        return float(self.camera.z + (1.3 * NEAR - aside) / self._cos)

    def project(self, points: Array) -> Array:
        """Return places (N, 3) in metres as pixels (N, 2)."""
        depth = np.maximum(self.depth(points[:, 0], points[:, 2]), 0.05)
        aside = (points[:, 0] - self.camera.x) * self._cos
        aside = aside - (points[:, 2] - self.camera.z) * self._sin
        right = self.width / 2 + self.focal * aside / depth
        down = self.horizon + self.focal * (self.camera.height - points[:, 1]) / depth
        return np.stack([right, down], axis=1).clip(-20000, 20000)

    def ground(self) -> tuple[int, Array, Array]:
        """Return the first row below the horizon, and x and z of every pixel from there on."""
        first = max(0, int(self.horizon) + 2)
        rows = np.arange(first, self.height, dtype=np.float32)[:, None]
        columns = np.arange(self.width, dtype=np.float32)
        depth = np.float32(self.focal * self.camera.height) / (rows - np.float32(self.horizon))
        aside = (columns - self.width / 2) * depth / np.float32(self.focal)
        x = self.camera.x + aside * self._cos + depth * self._sin
        z = self.camera.z - aside * self._sin + depth * self._cos
        return first, x.astype(np.float32), z.astype(np.float32)

    def faded(self, colour: Array, depth: Any) -> Array:
        """Return a colour (.., 3) as it looks through the haze."""
        share = np.exp(-np.asarray(depth, dtype=np.float32) / np.float32(self.light.reach))
        share = share[..., None] if share.ndim else share
        lit = colour * self.light.tint
        return np.asarray(self.light.haze + (lit - self.light.haze) * share, dtype=np.float32)

    def polygon(self, points: Array, colour: Array, label: int, depth: float) -> None:
        """Fill a polygon of pixels (N, 2) with one colour."""
        self.shape(
            lambda cover, origin: _fill(cover, points - origin), points, colour, label, depth
        )

    def pillar(
        self, foot: Array, half: float, high: float, colour: Array, label: int, depth: float
    ) -> None:
        """Fill an upright rectangle, half its width and its height in pixels."""
        corners = np.array([[-half, -high], [half, -high], [half, 0], [-half, 0]])
        self.polygon(foot + corners, colour, label, depth)

    def ellipse(self, centre: Array, axes: Array, colour: Array, label: int, depth: float) -> None:
        """Fill an upright ellipse of pixels, axes = half width and half height."""
        corners = np.array([centre - axes - 1, centre + axes + 2])
        size = tuple(max(1, round(float(axis))) for axis in axes)

        def draw(cover: Array, origin: Array) -> None:
            middle = tuple(round(float(value)) for value in centre - origin)
            cv2.ellipse(cover, middle, size, 0, 0, 360, 1, -1)

        self.shape(draw, corners, colour, label, depth)

    def shape(self, draw: Any, points: Array, colour: Array, label: int, depth: float) -> None:
        """Lay a colour, (3,) or one for each pixel of the window of points, where draw says."""
        window = self.window(points)
        if window is None:
            return
        rows, columns = window
        cover = np.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=np.uint8)
        draw(cover, np.array([columns.start, rows.start], dtype=np.float64))
        self.lay(window, cover.astype(bool), colour, label, depth)

    def lay(self, window: Any, cover: Array, colour: Array, label: int, depth: float) -> None:
        seen = self.faded(colour, depth)
        self.colour[window][cover] = seen[cover] if seen.ndim == 3 else seen
        self.labels[window][cover] = label

    def window(self, points: Array) -> tuple[slice, slice] | None:
        """Return the rows and columns that hold points, None where they lie outside."""
        left, top = np.floor(points.min(axis=0)).astype(int)
        right, bottom = np.ceil(points.max(axis=0)).astype(int) + 1
        rows = slice(max(0, top), min(self.height, bottom))
        columns = slice(max(0, left), min(self.width, right))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return None
        return rows, columns

    def face(self, corners: Array, texture: Array, label: int) -> None:
        """Stretch a texture (h, w, 3) over a rectangle (4, 3): top left, then clockwise."""
        depths = self.depth(corners[:, 0], corners[:, 2])
        if depths.min() < NEAR:
            return
        points = self.project(corners)
        window = self.window(points)
        if window is None:
            return
        rows, columns = window
        size = columns.stop - columns.start, rows.stop - rows.start
        local = (points - [columns.start, rows.start]).astype(np.float32)
        cover = np.zeros(size[::-1], dtype=np.uint8)
        _fill(cover, local)
        height, width = texture.shape[:2]
        source = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)
        warp = cv2.getPerspectiveTransform(source, local)
        stretched = cv2.warpPerspective(texture, warp, size, borderMode=cv2.BORDER_REPLICATE)
        self.lay(window, cover.astype(bool), stretched, label, float(depths.mean()))

    def finished(self) -> tuple[Array, NDArray[np.uint8]]:
        """Return the picture (H, W, 3) in 0..255 and the class ids (H, W)."""
        size = self.width // SCALE, self.height // SCALE
        smooth = cv2.resize(self.colour, size, interpolation=cv2.INTER_AREA)
        return smooth, np.ascontiguousarray(self.labels[1::SCALE, 1::SCALE])


def _fill(cover: Array, points: Array) -> None:
    cv2.fillPoly(cover, [np.round(points).astype(np.int32)], 1)
