"""Peak memory and seconds of choosing an ensemble, with few candidates and with many.

    python benchmarks/ensemble.py [--candidates 10 40] [--images 96] [--side 512] [--classes 7]

Candidates are tiny networks: one is trained for a moment on coloured discs, and its weights are
disturbed for each. Every number of candidates has a process of its own, which asks all of them
about all images, keeps their answers on disk and chooses. The peak is the resident memory's high
water over all of that, the mapped files included; it must stay under the limit and must not grow
with the number of candidates.
"""

import argparse
import json
import tempfile
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from rich.table import Table
from torch.nn.functional import cross_entropy, interpolate

from raysearch.config import DataConfig, Objective, Recipe, Task
from raysearch.data import Data
from raysearch.data.cache import open_cache
from raysearch.data.formats import reader
from raysearch.data.splits import Splits
from raysearch.inference.choose import choose
from raysearch.inference.probabilities import candidates, compute_all
from raysearch.inference.selection import Limits
from raysearch.models import build
from raysearch.records.terminal import make_console
from raysearch.training import checkpoint
from raysearch.training.normalisation import Normalisation
from raysearch.training.trained import description

NETWORK = {"type": "unet", "width": 8, "depth": 3}
STEPS, DISTURBED = 60, 0.05
LIMIT, GROWTH = 3.0, 1.1  # GB, and of many candidates against few.


def main() -> None:
    arguments = parse()
    title = (
        f"choosing among candidates on {arguments.images} images of "
        f"{arguments.side} x {arguments.side}, {arguments.classes} classes"
    )
    table = Table(title=title)
    table.add_column("stage")
    told = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        draw(root / "discs", arguments)
        train(root, arguments)
        for count in arguments.candidates:
            table.add_column(f"{count} candidates", justify="right")
            told.append(apart(root, count, arguments))
    for stage in told[0]["seconds"]:
        table.add_row(stage, *(f"{one['seconds'][stage]:.1f} s" for one in told))
    table.add_section()
    table.add_row("in all", *(f"{sum(one['seconds'].values()):.1f} s" for one in told))
    table.add_row("on disk", *(f"{one['disk'] / 1e9:.2f} GB" for one in told))
    table.add_row("before", *(f"{one['before'] / 1e9:.2f} GB" for one in told))
    table.add_row("peak", *(f"{one['peak'] / 1e9:.2f} GB" for one in told))
    console = make_console()
    console.print(table)
    peaks = [one["peak"] / 1e9 for one in told]
    small, even = max(peaks) < LIMIT, max(peaks) <= GROWTH * min(peaks)
    console.print(f"peak under {LIMIT:g} GB: {'yes' if small else 'NO'}")
    console.print(f"no more with many than with few (to 10 %): {'yes' if even else 'NO'}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--candidates", type=int, nargs="+", default=[10, 40])
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--side", type=int, default=512, help="pixels, of the images")
    parser.add_argument("--classes", type=int, default=7)
    parser.add_argument("--image-size", type=int, default=96, help="pixels, as networks see them")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def draw(root: Path, arguments: argparse.Namespace) -> None:
    """Write images of discs, one class each, in noise, and their masks."""
    random, side = np.random.default_rng(0), arguments.side
    colours = random.integers(60, 200, (arguments.classes, 3))
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(arguments.images):
        mask, kind = np.zeros((side, side), np.uint8), 1 + number % (arguments.classes - 1)
        for _ in range(2):
            centre = random.integers(side // 4, 3 * side // 4, 2).tolist()
            cv2.circle(mask, centre, int(random.integers(side // 10, side // 5)), kind, -1)
        noise = cv2.resize(random.normal(0, 60, (side // 8, side // 8, 3)), (side, side))
        image = np.clip(colours[mask] + noise, 0, 255).astype(np.uint8)
        cv2.imwrite(str(root / "images" / f"{number:03d}.png"), image)
        cv2.imwrite(str(root / "masks" / f"{number:03d}.png"), mask)


def opened(root: Path, classes: int) -> Data:
    """The images, all of them for validation."""
    names = tuple(f"class {number}" for number in range(classes))
    config = DataConfig(format="pairs", classes=names)
    source = reader(config.format)(root / "discs", config)
    cache = open_cache(source, source.samples(), root / "cache")
    return Data(cache, Splits((), cache.names, (), "official"), classes)


def train(root: Path, arguments: argparse.Namespace) -> None:
    """Train a network for a moment, and keep disturbed ones of it as trials of a search."""
    torch.manual_seed(0)
    data, size = opened(root, arguments.classes), arguments.image_size
    task = Task("segmentation", 3, tuple(f"class {n}" for n in range(arguments.classes)))
    recipe = Recipe(architecture="unet", image_size=size, batch_size=8)
    normalise = Normalisation(torch.full((3,), 128.0), torch.full((3,), 64.0))
    network = build(NETWORK, task)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    for step in range(STEPS):
        chosen = [(8 * step + at) % arguments.images for at in range(8)]
        images = np.stack([data.cache.image(at).transpose(2, 0, 1) for at in chosen])
        masks = np.stack([data.cache.mask(at) for at in chosen])
        small = interpolate(torch.from_numpy(images).float(), (size, size), mode="area")
        truth = interpolate(torch.from_numpy(masks)[:, None].float(), (size, size))[:, 0].long()
        loss = cross_entropy(network(normalise(small)).semantic, truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    told = description(NETWORK, task, recipe, normalise)
    for number in range(max(arguments.candidates)):
        state = {
            name: value * (1 + DISTURBED * torch.randn_like(value))
            if value.is_floating_point() and "running" not in name
            else value
            for name, value in network.state_dict().items()
        }
        folder = root / "trials" / f"{number:04d}"
        checkpoint.save(folder / "best", 1, state, metrics={"epoch": 1}, model=told)
        (folder / "end.json").write_text(json.dumps({"value": 0.5}), encoding="utf-8")


def apart(root: Path, count: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Choose in a fresh process, after which no answers are on disk."""
    here, there = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=chosen, args=(there, root, count, arguments))
    process.start()
    there.close()
    told: dict[str, Any] = here.recv()
    process.join()
    return told


def chosen(pipe: Connection, root: Path, count: int, arguments: argparse.Namespace) -> None:
    """Ask the first so many candidates and choose; send seconds by stage, and bytes."""
    torch.set_num_threads(arguments.threads)
    data, device = opened(root, arguments.classes), torch.device("cpu")
    task = Task("segmentation", 3, tuple(f"class {n}" for n in range(arguments.classes)))
    before, stages = resident(), [("asking all about all images", time.perf_counter())]

    def say(text: str) -> None:
        stages.append((text.replace(f"{count} ", ""), time.perf_counter()))

    found = list(compute_all(candidates(root)[:count], data, "val", device))
    choose(found, data, task, Objective(), Limits(), device, say)
    ends = [began for _, began in stages[1:]] + [time.perf_counter()]
    pipe.send(
        {
            "seconds": {name: end - began for (name, began), end in zip(stages, ends, strict=True)},
            "disk": sum(one.path.stat().st_size for one in found),
            "before": before,
            "peak": resident("VmHWM"),
        }
    )
    for one in found:
        one.path.unlink()


def resident(what: str = "VmRSS") -> int:
    """Return this process's resident memory in bytes, now or (VmHWM) at its highest; on Linux."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = [line for line in lines if line.startswith(f"{what}:")]
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
