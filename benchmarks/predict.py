"""What a prediction of a large image costs, and whether its tiles show.

    python benchmarks/predict.py RUN/trials/N... --data DIR

Memory: the most that a process holds above what it holds with the model loaded, while it predicts
one image of 6000x4000 from file to mask, each in a process of its own (Linux). Seams: trained
networks are asked for a picture of photographs side by side, in tiles and as a whole; then how
far probabilities step from pixel to pixel at the tiles' borders, which are multiples of 32, and at
other multiples of 32; beside them how far they step there without tiles, as the picture has it, and
between tiles laid side by side without overlap, which shows that such a step would be seen.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from raysearch.config import DataConfig, Recipe, Task
from raysearch.data import images, rasters
from raysearch.data.resize import fitted, resize_image
from raysearch.data.sample import generate
from raysearch.inference.files import NewImage
from raysearch.inference.models import Model, load_model
from raysearch.inference.prediction import Wanted, predict
from raysearch.inference.tiling import TILE, by_rows, windows
from raysearch.models import build
from raysearch.training.normalisation import Normalisation
from raysearch.training.trained import Trained

LARGE, FITTING = (4000, 6000), (1024, 1536)
BANDS, CLASSES = 11, ("other", "debris")
WHOLE = 1 << 14  # A tile that no image here is larger than.
REDUCED = 512
MARGIN = 37
STRIDE = 32
MEGABYTE = 1e6


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = arguments.data or generate("animals", folder / "animals")
        photographs = sorted(p for p in source.rglob("JPEGImages/*") if p.is_file())
        print_memory(folder, photographs, arguments)
        print_seams(mosaic(photographs, FITTING, arguments.side), arguments.models)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL", help="trials or searches")
    parser.add_argument("--data", type=Path, help="animals in VOC form; left out: sample data")
    side = "longer side of each photograph in the picture: as in training (default: 96)"
    parser.add_argument("--side", type=int, default=96, help=side)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def mosaic(paths: Sequence[Path], shape: tuple[int, int], side: int) -> np.ndarray:
    """A picture (H, W, 3) of photographs side by side; their rows do not end where tiles do."""
    picture = np.zeros((shape[0] + MARGIN, shape[1], 3), np.uint8)
    shape, random, top = picture.shape[:2], np.random.default_rng(0), 0
    while top < shape[0]:
        left = 0
        while left < shape[1]:
            pixels = images.read(paths[int(random.integers(len(paths)))], 3, 10**9)
            small = resize_image(pixels, fitted(pixels.shape, side))
            small = resize_image(small, (side, small.shape[1]))
            part = small[: shape[0] - top, : shape[1] - left]
            picture[top : top + len(part), left : left + part.shape[1]] = part
            left += part.shape[1]
        top += side
    return picture[MARGIN:]


def unreduced(model: Model, size: int | None = None) -> Model:
    """The model with networks that see images at their own size, or all at another."""
    recipes = [m.recipe.model_copy(update={"image_size": size}) for m in model.members]
    members = zip(model.members, recipes, strict=True)
    return replace(model, members=tuple(replace(m, recipe=r) for m, r in members))


def print_memory(folder: Path, photographs: Sequence[Path], arguments: argparse.Namespace) -> None:
    picture = mosaic(photographs[:50], LARGE, 500)
    Image.fromarray(picture).save(folder / "large.jpg", quality=90)
    scene = folder / "scene.tif"
    write_scene(scene, picture)
    del picture
    megabytes = scene.stat().st_size / MEGABYTE
    print(f"6000x4000, {arguments.threads} thread(s)".ljust(58) + "MB above the model   seconds")
    for told, path, model, size in (
        ("JPEG, by tiles of 512", folder / "large.jpg", arguments.models[0], None),
        (f"JPEG, seen at {REDUCED} pixels", folder / "large.jpg", arguments.models[0], REDUCED),
        (f"GeoTIFF of {BANDS} bands, {megabytes:.0f} MB, by tiles of 512", scene, None, None),
        (f"GeoTIFF of {BANDS} bands, seen at {REDUCED} pixels", scene, None, REDUCED),
    ):
        peak, seconds = apart(path, model, size, folder / "out", arguments.threads)
        print(f"{told:<58}{peak / MEGABYTE:18.0f}{seconds:10.0f}")


def write_scene(path: Path, picture: np.ndarray) -> None:
    """Bands of float32 from a picture's, with a corner without data."""
    height, width = picture.shape[:2]
    profile = {"tiled": True, "blockxsize": 256, "blockysize": 256, "nodata": np.nan}
    with rasters.created(path, None, BANDS, (height, width), "float32", **profile) as raster:
        for band in range(BANDS):
            values = picture[..., band % 3].astype(np.float32) * (0.01 + 0.001 * band)
            values[:700, :500] = np.nan
            raster.write(values, band + 1)


def apart(
    path: Path, model: Path | None, size: int | None, out: Path, threads: int
) -> tuple[float, float]:
    """Bytes and seconds of a prediction in a process of its own."""
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=measure, args=(there, path, model, size, out, threads))
    process.start()
    peak, seconds = here.recv()
    process.join()
    return float(peak), float(seconds)


def measure(
    pipe: Connection, path: Path, model: Path | None, size: int | None, out: Path, threads: int
) -> None:
    torch.set_num_threads(threads)
    loaded = unreduced(load_model(model) if model else untrained(), size)
    task = loaded.task
    data = DataConfig(format="pairs", classes=task.classes, bands=task.bands, max_pixels=10**9)
    Path("/proc/self/clear_refs").write_text("5")
    before, began = memory("VmRSS"), time.perf_counter()
    outcome = predict(loaded, [NewImage(path, path.stem)], data, out, Wanted())
    assert outcome.written == 1, outcome.faults
    pipe.send((memory("VmHWM") - before, time.perf_counter() - began))


def memory(name: str) -> int:
    """A line of what Linux says of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def untrained() -> Model:
    """A network for the bands of the scene: memory and time do not depend on weights."""
    task = Task("segmentation", BANDS, CLASSES)
    network = build({"type": "unet", "width": 16, "depth": 4}, task).eval()
    normalise = Normalisation(torch.zeros(BANDS), torch.ones(BANDS))
    recipe = Recipe(architecture="unet", epochs=1)
    return Model((Trained(network, normalise, task, recipe, None, {}, Path("0")),), (1.0,))


def print_seams(picture: np.ndarray, paths: Sequence[Path]) -> None:
    height, width = picture.shape[:2]
    print(f"\n{width}x{height} of photographs, tiles of {TILE}".ljust(59) + "steps of probability")
    print(" " * 34 + "other pixels   at borders   inside   there, untiled   side by side")
    for path in paths:
        model = unreduced(load_model(path))
        whole, tiled = (answer(model, picture, tile) for tile in (WHOLE, TILE))
        side_by_side = unblended(model, picture)
        differs = (whole.argmax(0) != tiled.argmax(0)).float().mean().item()
        borders = blended_borders(height), blended_borders(width)
        at, inside = steps(tiled, *borders)
        untiled, _ = steps(whole, *borders)
        naive, _ = steps(side_by_side, plain_borders(height), plain_borders(width))
        name = f"{model.members[0].recipe.architecture} ({path.name})"
        print(
            f"{name:<34}{differs:12.2%}{at:13.5f}{inside:9.5f}{untiled:17.5f}{naive:15.5f}",
            flush=True,
        )


def answer(model: Model, picture: np.ndarray, tile: int) -> Tensor:
    """Probabilities (K, H, W)."""
    return torch.cat([band[0] for _, band in by_rows(model, [picture], tile)], 1)


def unblended(model: Model, picture: np.ndarray) -> Tensor:
    """Probabilities of tiles that do not overlap."""
    rows = [
        torch.cat([answer(model, tile, WHOLE) for tile in np.split(band, cuts(band, 1), 1)], 2)
        for band in np.split(picture, cuts(picture, 0))
    ]
    return torch.cat(rows, 1)


def cuts(picture: np.ndarray, axis: int) -> list[int]:
    return list(range(TILE, picture.shape[axis], TILE))


def plain_borders(length: int) -> list[int]:
    return list(range(TILE, length, TILE))


def blended_borders(length: int) -> list[int]:
    """Where windows begin and end."""
    found = {edge for one in windows(length, TILE) for edge in (one.start, one.stop)}
    return sorted(found - {0, length})


def steps(told: Tensor, down: Sequence[int], across: Sequence[int]) -> tuple[float, float]:
    """How far probabilities (K, H, W) step at borders and at other multiples of 32, on average."""
    at, inside = [], []
    for values, borders in ((told, down), (told.mT, across)):
        each = (values[:, 1:] - values[:, :-1]).abs().sum(0).mean(1) / 2
        others = [place for place in range(STRIDE, len(each) + 1, STRIDE) if place not in borders]
        at.append(each[[place - 1 for place in borders]])
        inside.append(each[[place - 1 for place in others]])
    return torch.cat(at).mean().item(), torch.cat(inside).mean().item()


if __name__ == "__main__":
    main()
