"""A street with houses, trees, cars, signs and people, seen by a camera that moves along it."""

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from raysearch.data.sample._roadside import (
    BACKGROUND,
    BUILDING,
    ROAD,
    SKY,
    VEGETATION,
    Thing,
    board,
    bush,
    car,
    litter_bin,
    paint,
    person,
    post,
    sign,
    statue,
    tree,
)
from raysearch.data.sample._texture import clouds, noise
from raysearch.data.sample._view import Camera, Canvas, Light

Array = NDArray[Any]

FAR = 90.0
TILE = 256
METRE = 7  # pixels of a wall's texture


@dataclass(frozen=True)
class Street:
    """One scene: what stands where, under which light, and how the camera moves.

    road: half its width in metres. walk: width of the pavement beside it; grass is beyond.
    path: where the camera begins, metres that it moves a frame, and a phase of its swaying.
    """

    houses: tuple[Thing, ...]
    things: tuple[Thing, ...]
    light: Light
    road: float
    walk: float
    ground: Array
    sky: Array
    grass: Array
    path: tuple[Camera, float, float]

    def frame(self, shape: tuple[int, int], number: int) -> tuple[Array, NDArray[np.uint8]]:
        """Return the picture (H, W, 3) in 0..255 and class ids (H, W) of one frame."""
        start, speed, turn = self.path
        camera = replace(
            start,
            z=start.z + speed * number,
            x=start.x + 0.25 * np.sin(number + 8 * turn),
            yaw=start.yaw + 0.07 * np.sin(1.3 * number + 20 * turn),
        )
        canvas = Canvas(shape, camera, self.light)
        self._sky(canvas)
        self._ground(canvas)
        for layer in (self.houses, self.things):
            here = [thing.at(number) for thing in layer]
            for thing in sorted(here, key=lambda t: -canvas.depth(t.x, t.z)):
                if canvas.depth(thing.x, thing.z) < FAR:
                    thing.draw(canvas, thing)
        return canvas.finished()

    def _sky(self, canvas: Canvas) -> None:
        shift = int(canvas.camera.yaw * 120) % TILE
        height = max(1, int(canvas.horizon) + 3)
        rolled = np.roll(self.sky, -shift, axis=1)
        canvas.colour[:height] = cv2.resize(rolled, (canvas.width, height))
        canvas.colour[height:] = self.light.haze
        canvas.labels[:height] = SKY

    def _ground(self, canvas: Canvas) -> None:
        first, x, z = canvas.ground()
        rough = cv2.remap(
            self.ground,
            ((x * 19) % TILE).astype(np.float32),
            ((z * 19) % TILE).astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_WRAP,
        )
        aside = np.abs(x)
        on_road, on_walk = aside < self.road, aside < self.road + self.walk
        labels = np.select([on_road, on_walk], [ROAD, BACKGROUND], VEGETATION)
        colour = np.select(
            [on_road[..., None], on_walk[..., None]], [_ASPHALT, _PAVEMENT], self.grass
        )
        stripe = (aside < 0.08) & (z % 6 < 2.6) | (np.abs(aside - self.road + 0.25) < 0.06)
        slabs = on_walk & ~on_road & ((z % 1.2 < 0.07) | (np.abs(aside - self.road) < 0.14))
        colour = np.where(stripe[..., None], 205, colour) * np.where(slabs, 0.8, 1)[..., None]
        depth = canvas.depth(x, z)
        fine = np.exp(-depth / 25)[..., None]
        canvas.colour[first:] = canvas.faded(colour * (1 + rough[..., None] * fine), depth)
        canvas.labels[first:] = labels


_ASPHALT, _PAVEMENT = np.array([92, 92, 96], np.float32), np.array([140, 136, 130], np.float32)


def street(random: np.random.Generator) -> Street:
    """Draw a scene. What stands in it is spread in the same way whatever the light and colours."""
    road, walk = random.uniform(3.2, 5.0), random.uniform(1.8, 3.2)
    ground = 0.11 * clouds((TILE, TILE), 30, random) + 0.07 * noise((TILE, TILE), 1.5, random)
    light = _light(random)
    green = np.array([random.uniform(70, 130), random.uniform(105, 140), 60], np.float32)
    camera = Camera(
        x=random.uniform(-0.5, 0.5) * road,
        height=random.uniform(1.4, 2.4),
        z=0.0,
        yaw=random.normal(0, 0.07),
        horizon=random.uniform(0.38, 0.52),
        focal=random.uniform(0.75, 1.0),
    )
    return Street(
        houses=tuple(_houses(road + walk, random)),
        things=tuple(_things(road, walk, random)),
        light=light,
        road=road,
        walk=walk,
        ground=ground.astype(np.float32),
        sky=_heaven(light, random),
        grass=green,
        path=(camera, random.uniform(0.9, 2.2), random.uniform()),
    )


def _light(random: np.random.Generator) -> Light:
    """A clear noon, an overcast day, an evening or a misty morning."""
    kind = int(random.integers(4))
    tints = ((1.1, 1.08, 1.02), (0.86, 0.9, 0.95), (1.05, 0.8, 0.62), (0.92, 0.94, 0.94))
    hazes = ((176, 200, 224), (176, 180, 184), (214, 160, 120), (200, 204, 206))
    tint = np.array(tints[kind], np.float32) * np.float32(random.uniform(0.65, 1.1))
    haze = (np.array(hazes[kind]) * random.uniform(0.75, 1.1)).clip(0, 245).astype(np.float32)
    sunny = random.uniform(0.5, 0.85) if kind in (0, 2) else 0.9
    left, right = (1.0, sunny) if random.random() < 0.5 else (sunny, 1.0)
    reach = random.uniform(45, 70) if kind == 3 else random.uniform(90, 220)
    return Light(tint, left, right, random.uniform(0.7, 1.0), haze, reach)


def _heaven(light: Light, random: np.random.Generator) -> Array:
    """Return the sky, (TILE, TILE, 3): a gradient towards the haze, with clouds."""
    zenith = np.array([random.uniform(70, 150), random.uniform(120, 175), 205], np.float32)
    down = np.linspace(0, 1, TILE, dtype=np.float32)[:, None, None] ** random.uniform(0.6, 1.6)
    sky = zenith * light.tint + (light.haze - zenith * light.tint) * down
    heap = clouds((TILE, TILE), random.uniform(40, 110), random) + random.uniform(-1.2, 0.8)
    white = np.float32(random.uniform(185, 240)) * light.tint
    return np.asarray(sky + (white - sky) * np.clip(0.6 * heap, 0, 0.9)[..., None], np.float32)


def _houses(edge: float, random: np.random.Generator) -> list[Thing]:
    """Houses on both sides, with gaps where trees or hedges stand; something ends the street."""
    houses = [Thing(_ridge, 0.0, FAR - 5, _seed(random))]
    for side in (-1, 1):
        z = random.uniform(-6, 2)
        while z < 75:
            x = side * (edge + random.uniform(0.3, 4.0))
            length = random.uniform(7, 15)
            if random.random() < 0.68:
                houses.append(Thing(_House(length, random), x, z + length / 2, _seed(random)))
            else:
                for along in np.arange(1.5, length, 3.5):
                    beside = x + side * random.uniform(0, 4)
                    plant = tree if random.random() < 0.6 else bush
                    houses.append(Thing(plant, beside, z + along, _seed(random)))
            z += length + random.choice([0.0, random.uniform(0.5, 5)])
    return houses


def _things(road: float, walk: float, random: np.random.Generator) -> list[Thing]:
    things: list[Thing] = []

    def add(draw: Any, count: int, inner: float, outer: float, **speeds: float) -> None:
        for z in 4 + 46 * random.uniform(0, 1, count) ** 1.4:
            x = float(random.choice([-1, 1])) * random.uniform(inner, outer)
            along = random.normal(0, speeds.get("along", 0.0))
            across = random.normal(0, speeds.get("across", 0.0))
            things.append(Thing(draw, x, float(z), _seed(random), (along, across)))

    edge = road + walk
    add(car, int(random.integers(3, 8)), road - 1.1, road - 0.9)
    add(car, int(random.integers(1, 3)), 0.3 * road, 0.45 * road, along=0.8)
    add(tree, int(random.integers(1, 6)), road + 0.5, edge)
    add(bush, int(random.integers(0, 5)), edge - 0.4, edge + 0.6)
    add(sign, int(random.integers(3, 7)), road + 0.3, road + 0.8)
    add(person, int(random.integers(4, 10)), road + 0.4, edge - 0.2, along=0.5)
    add(person, int(random.integers(0, 3)), 0.0, road, across=0.4)
    add(statue, int(random.integers(0, 3)), road + 0.6, edge)
    add(post, int(random.integers(2, 6)), road + 0.2, road + 0.5)
    add(board, int(random.integers(1, 4)), road + 0.6, edge)
    add(litter_bin, int(random.integers(1, 4)), road + 0.3, edge)
    return things


def _seed(random: np.random.Generator) -> int:
    return int(random.integers(1 << 31))


class _House:
    """A block with windows, length metres along the street."""

    def __init__(self, length: float, random: np.random.Generator) -> None:
        self.length, self.height = length, random.uniform(4, 17)
        self.depth = random.uniform(6, 12)
        colour = paint(random, 0.6)
        self.front = _wall(length, self.height, colour, random)
        self.side = _wall(self.depth, self.height, colour, random)

    def __call__(self, canvas: Canvas, thing: Thing) -> None:
        light = canvas.light
        near, far, h = thing.z - self.length / 2, thing.z + self.length / 2, self.height
        outward = 1.0 if thing.x > 0 else -1.0
        back = thing.x + outward * self.depth
        # The wall across the street; its left end is the one further to the left.
        left, right = sorted((thing.x, back))
        corners = [(left, h, near), (right, h, near), (right, 0, near), (left, 0, near)]
        canvas.face(np.array(corners), self.side * np.float32(light.front), BUILDING)
        texture = self.front * np.float32(light.left if thing.x > 0 else light.right)
        begin = max(near, canvas.nearest(thing.x))
        if far - begin < 0.5:
            return
        hidden = int((begin - near) / self.length * texture.shape[1])
        texture = np.ascontiguousarray(texture[:, hidden:])
        x = thing.x
        corners = [(x, h, begin), (x, h, far), (x, 0, far), (x, 0, begin)]
        canvas.face(np.array(corners), texture, BUILDING)


def _wall(length: float, height: float, colour: Array, random: np.random.Generator) -> Array:
    """Return a wall's texture (h, w, 3), its left end nearest to the viewer."""
    shape = int(height * METRE), int(length * METRE)
    wall = np.ones((*shape, 1), np.float32) * colour
    wall *= (
        1 + 0.06 * clouds(shape, 40, random)[..., None] + 0.05 * noise(shape, 2, random)[..., None]
    )
    floor, bay = random.uniform(2.6, 3.4) * METRE, random.uniform(1.8, 3.2) * METRE
    wide, high = random.uniform(0.35, 0.7) * bay, random.uniform(0.4, 0.65) * floor
    glass = np.array([50, 62, 76], np.float32) * random.uniform(0.6, 1.8)
    frame = colour * random.uniform(0.6, 1.35)
    for top in np.arange(shape[0] - floor, -high, -floor):
        for left in np.arange(bay * 0.25, shape[1] - wide, bay):
            first = (round(left), round(top + 0.2 * floor))
            last = (round(left + wide), round(top + 0.2 * floor + high))
            pane = glass * random.uniform(0.7, 1.5)
            cv2.rectangle(wall, first, last, tuple(pane.tolist()), -1)
            cv2.rectangle(wall, first, last, tuple(frame.tolist()), 1)
    if random.random() < 0.4:
        place = int(random.uniform(0, 0.6) * shape[1]), int(shape[0] - 0.95 * floor)
        shop = place[0] + int(random.uniform(2, 5) * METRE), place[1] + int(0.9 * METRE)
        cv2.rectangle(wall, place, shop, tuple(paint(random, 1.4).tolist()), -1)
    return wall.clip(0, 255).astype(np.float32)


def _ridge(canvas: Canvas, thing: Thing) -> None:
    """What ends the street: wooded hills with towers before them."""
    random = np.random.default_rng(thing.seed)
    z = canvas.camera.z + thing.z
    x = np.linspace(-140, 140, 60)
    y = 5 + 4 * random.uniform() + 2.2 * noise((1, 60), 9, random)[0]
    line = np.stack([x, y, np.full(60, z)], axis=1)
    feet = np.array([[140.0, -1, z], [-140.0, -1, z]])
    points = canvas.project(np.concatenate([line, feet]))
    canvas.polygon(points, np.array([70, 92, 58], np.float32), VEGETATION, 70)
    for _ in range(int(random.integers(0, 7))):
        left, wide, high = random.uniform(-60, 60), random.uniform(3, 9), random.uniform(5, 20)
        colour = paint(random, 0.5) * 0.8
        corners = [(left, high, z), (left + wide, high, z), (left + wide, 0, z), (left, 0, z)]
        canvas.polygon(canvas.project(np.array(corners)), colour, BUILDING, 75)
