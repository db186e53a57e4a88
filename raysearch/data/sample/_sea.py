"""The sea as Sentinel-2 sees it: surface reflectance of what floats on it, mixed pixel by pixel.

Spectra are in the order of MARIDA's 11 bands (440, 490, 560, 665, 705, 740, 783, 842, 865, 1600 and
2200 nm), drawn after the mean signatures in https://doi.org/10.1371/journal.pone.0262247, figure 3,
and the ocean colour literature that it cites.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from raysearch.data.sample._texture import clouds, noise

Array = NDArray[Any]
Shape = tuple[int, int]

DEBRIS, SARGASSUM, WOOD, SHIP, CLOUD, WATER, SEDIMENT = 1, 3, 4, 5, 6, 7, 8
FOAM, TURBID, WAVES, SHADOW, WAKE = 9, 10, 12, 13, 14


def _spectrum(*values: float) -> Array:
    return np.array(values, dtype=np.float32)


BLUE = _spectrum(0.048, 0.040, 0.025, 0.012, 0.010, 0.008, 0.008, 0.007, 0.007, 0.004, 0.003)
GREEN = _spectrum(0.042, 0.046, 0.050, 0.022, 0.019, 0.011, 0.011, 0.010, 0.009, 0.004, 0.003)
BROWN = _spectrum(0.062, 0.080, 0.108, 0.100, 0.088, 0.046, 0.046, 0.036, 0.032, 0.008, 0.005)
SPECTRA = {
    DEBRIS: _spectrum(0.085, 0.090, 0.096, 0.100, 0.108, 0.122, 0.130, 0.142, 0.140, 0.098, 0.070),
    SARGASSUM: _spectrum(
        0.036, 0.042, 0.062, 0.052, 0.105, 0.205, 0.228, 0.245, 0.245, 0.105, 0.055
    ),
    WOOD: _spectrum(0.050, 0.056, 0.070, 0.088, 0.104, 0.122, 0.134, 0.146, 0.150, 0.160, 0.115),
    FOAM: _spectrum(0.215, 0.220, 0.216, 0.200, 0.190, 0.172, 0.165, 0.155, 0.148, 0.062, 0.036),
    CLOUD: _spectrum(0.330, 0.335, 0.340, 0.350, 0.358, 0.365, 0.372, 0.380, 0.378, 0.300, 0.220),
    SHIP: _spectrum(0.150, 0.155, 0.160, 0.170, 0.172, 0.175, 0.178, 0.182, 0.182, 0.170, 0.140),
}
GLINT = _spectrum(0.85, 0.88, 0.92, 0.96, 0.97, 0.98, 1.0, 1.0, 1.0, 1.05, 1.0)
HAZE = _spectrum(1.0, 0.72, 0.46, 0.26, 0.21, 0.18, 0.15, 0.12, 0.11, 0.03, 0.01)
# How far a band's own pixels of 60, 10 and 20 m are blurred on the grid of 10 m, in pixels.
SHARPNESS = {2.2: [0], 0.45: [1, 2, 3, 7], 0.9: [4, 5, 6, 8, 9, 10]}


@dataclass(frozen=True)
class Scene:
    """What patches of one date and tile share.

    turbidity, chlorophyll: of the water, 0 to 1. glint, haze: reflectance added at most. gain: of
    each band (11,). cloudiness, wind: share of patches with clouds and waves. heading: of the wind,
    in radians; streaks lie along it.
    """

    turbidity: float
    chlorophyll: float
    glint: float
    haze: float
    gain: Array
    cloudiness: float
    wind: float
    heading: float


def scene(random: np.random.Generator) -> Scene:
    return Scene(
        turbidity=float(random.beta(1.2, 2.0)),
        chlorophyll=float(random.uniform()),
        glint=float(random.exponential(0.012)),
        haze=float(random.uniform(0, 0.025)),
        gain=random.normal(1, 0.04, len(BLUE)).astype(np.float32),
        cloudiness=float(random.uniform(0.1, 0.5)),
        wind=float(random.uniform()),
        heading=float(random.uniform(0, np.pi)),
    )


class Patch:
    """A square of sea: layers are put over one another, then photographed.

    Attributes:
        pixels: (H, W, 11) reflectance. ids: (H, W) MARIDA's class that shows.
        cover: (H, W) how much of a pixel that class fills, 0 to 1.
    """

    def __init__(self, place: Scene, side: int, random: np.random.Generator) -> None:
        self.place, self.random = place, random
        self.shape = (side, side)
        self.size = side * side / 64**2
        self.pixels = self._water()
        self._waves()
        for layer in (SARGASSUM, WOOD, FOAM, DEBRIS):
            self._float(layer)
        self._ships()
        self._clouds()

    def photograph(self) -> Array:
        """Return (H, W, 11) as the sensor gives it: glint, haze, blur and noise."""
        random, place = self.random, self.place
        glint = np.clip(1 + 0.5 * noise(self.shape, 40, random), 0, None)
        glint *= np.exp(0.5 * random.standard_normal(self.shape, dtype=np.float32))
        light = self.pixels + np.float32(place.glint) * glint[..., None] * GLINT
        haze = np.clip(1 + 0.3 * noise(self.shape, 60, random), 0, None)
        light = (light + np.float32(place.haze) * haze[..., None] * HAZE) * place.gain
        for sigma, bands in SHARPNESS.items():
            blurred = cv2.GaussianBlur(np.ascontiguousarray(light[..., bands]), (0, 0), sigma)
            light[..., bands] = blurred.reshape(*self.shape, -1)
        grain = random.standard_normal(light.shape, dtype=np.float32)
        return np.asarray(light + grain * (np.float32(0.0012) + np.float32(0.012) * light))

    def _water(self) -> Array:
        random, place = self.random, self.place
        front = 0.22 * clouds(self.shape, 90, random) + 0.04 * clouds(self.shape, 12, random)
        mud = np.clip(place.turbidity * 1.3 - 0.25 + front, 0, 1)[..., None]
        algae = np.clip(place.chlorophyll + 0.3 * noise(self.shape, 70, random), 0, 1)[..., None]
        clear = BLUE + algae * (GREEN - BLUE)
        self.ids = np.select([mud > 0.8, mud > 0.4], [SEDIMENT, TURBID], WATER)[..., 0]
        self.cover = np.ones(self.shape, dtype=np.float32)
        return np.asarray(clear + mud * (BROWN - clear), dtype=np.float32)

    def put(self, cover: Array, spectrum: Array, class_id: int) -> None:
        """Lay a material over cover (H, W); it gives a pixel its class from an eighth on."""
        self.pixels += (spectrum - self.pixels) * cover[..., None]
        shows = cover > 0.125
        self.ids[shows] = class_id
        self.cover = np.where(shows, cover, self.cover * (1 - 4 * np.minimum(cover, 0.25)))

    def _varied(self, class_id: int, spread: float = 0.12) -> Array:
        """Return a material's spectrum: brighter or darker, tilted, and each band on its own."""
        tilt = np.linspace(-1, 1, len(BLUE)) * self.random.normal(0, spread)
        bands = self.random.normal(0, 0.05, len(BLUE))
        factor = np.exp(self.random.normal(0, spread) + tilt + bands)
        return np.asarray(SPECTRA[class_id] * factor, dtype=np.float32)

    def _waves(self) -> None:
        random, wind = self.random, self.place.wind
        if random.random() > wind:
            return
        rows, columns = np.indices(self.shape, dtype=np.float32)
        angle = self.place.heading + np.pi / 2
        along = columns * np.float32(np.cos(angle)) + rows * np.float32(np.sin(angle))
        crest = np.sin(along * (2 * np.pi / random.uniform(8, 16)) + noise(self.shape, 20, random))
        cover = np.clip(crest - 0.75, 0, 1) * np.clip(noise(self.shape, 12, random), 0, 1)
        self.put(np.minimum(cover * random.uniform(0.6, 2), 0.4), self._varied(FOAM), WAVES)

    def _float(self, class_id: int) -> None:
        """Patches and filaments of one shape for all that floats: only the spectrum tells."""
        rate = {DEBRIS: 1.25, FOAM: 0.8, SARGASSUM: 0.2, WOOD: 0.2}[class_id]
        for _ in range(int(self.random.poisson(rate * self.size))):
            shape = self._filament if self.random.random() < 0.6 else self._blob
            cover = shape() * np.float32(self.random.uniform(0.25, 0.9))
            self.put(cover, self._varied(class_id), class_id)

    def _broken(self, cover: Array) -> Array:
        """Return a cover with holes and thin places; nothing floats in one piece."""
        ragged = np.clip(0.75 + 0.5 * noise(self.shape, 3, self.random), 0, 1)
        return np.asarray(cv2.GaussianBlur(cover * ragged, (0, 0), 0.5), dtype=np.float32)

    def _filament(self) -> Array:
        random, side = self.random, self.shape[0]
        angle = self.place.heading + random.normal(0, 0.3)
        length, steps = random.uniform(8, 36), 12
        turns = angle + np.cumsum(random.normal(0, 0.18, steps))
        moves = np.stack([np.cos(turns), np.sin(turns)], axis=1) * length / steps
        points = random.uniform(0, side, 2) + np.cumsum(moves, axis=0)
        cover = np.zeros(self.shape, dtype=np.float32)
        fixed = np.round(points * 16).astype(np.int32)
        width = int(random.choice([1, 1, 2, 3]))
        cv2.polylines(cover, [fixed], False, 1.0, width, cv2.LINE_8, shift=4)
        return self._broken(cover)

    def _blob(self) -> Array:
        random, side = self.random, self.shape[0]
        axes = random.uniform(1.5, 5, 2) * (1, random.uniform(0.4, 1))
        cover = np.zeros(self.shape, dtype=np.float32)
        centre = random.uniform(0, side, 2)
        turn = float(np.degrees(self.place.heading + random.normal(0, 0.3)))
        box = (centre.tolist(), (2 * axes).tolist(), turn)
        cv2.ellipse(cover, box, 1.0, -1)
        return self._broken(cover)

    def _ships(self) -> None:
        random, side = self.random, self.shape[0]
        for _ in range(int(random.poisson(0.12 * self.size))):
            centre, turn = random.uniform(0, side, 2), random.uniform(0, 180)
            length, width = random.uniform(6, 18), random.uniform(2, 4)
            forward = np.array([np.cos(np.radians(turn)), np.sin(np.radians(turn))])
            stern, end = centre - forward * length / 2, centre - forward * length * 2.5
            wake = np.zeros(self.shape, dtype=np.float32)
            cv2.line(wake, stern.astype(int).tolist(), end.astype(int).tolist(), 1.0, 2)
            self.put(0.4 * self._broken(wake), self._varied(FOAM), WAKE)
            hull = np.zeros(self.shape, dtype=np.float32)
            corners = cv2.boxPoints((centre.tolist(), (length, width), float(turn)))
            cv2.fillPoly(hull, [np.round(corners * 16).astype(np.int32)], 1.0, shift=4)
            self.put(cv2.GaussianBlur(hull, (0, 0), 0.4), self._varied(SHIP, 0.4), SHIP)

    def _clouds(self) -> None:
        random = self.random
        if random.random() > self.place.cloudiness:
            return
        field = clouds(self.shape, random.uniform(15, 45), random) - random.uniform(0.4, 1.4)
        cover = np.clip(field * 1.2, 0, 1).astype(np.float32)
        down, right = random.integers(-14, 15, 2).tolist()
        shadow = cv2.GaussianBlur(np.roll(cover, (down, right), (0, 1)), (0, 0), 1.5)
        self.pixels *= 1 - 0.45 * shadow[..., None]
        dark = (shadow > 0.5) & np.isin(self.ids, (WATER, TURBID, SEDIMENT))
        self.ids[dark] = SHADOW
        self.put(cover, self._varied(CLOUD), CLOUD)
