"""How far ONNX is from PyTorch, for each architecture of the studies, in a table.

    python benchmarks/export.py [--profile full] [--side 64] [STUDY ...]

Networks have random weights, and normalisation layers that have seen images of 192 pixels. The
check is that of `python -m raysearch.export`: batches of one and of three.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.table import Table
from torch import Tensor, nn

from raysearch.config import Recipe, Task
from raysearch.inference.models import Model
from raysearch.inference.onnx import TOLERANCE, adapted, write
from raysearch.models import build
from raysearch.records.terminal import make_console
from raysearch.study import load_study
from raysearch.training.normalisation import Normalisation
from raysearch.training.trained import Trained

STUDIES = ("animals", "unity", "marine_debris", "food101")
FOODS = tuple(f"food {number}" for number in range(101))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("studies", nargs="*", default=STUDIES, metavar="STUDY")
    parser.add_argument("--profile", default="full", choices=["quick", "full"])
    parser.add_argument("--side", type=int, help="fixed side of the images (default: any)")
    arguments = parser.parse_args()
    console = make_console()
    table = Table(title=f"ONNX against PyTorch, profile {arguments.profile}")
    for column in ("study", "architecture", "million weights", "difference", "varies", "seconds"):
        table.add_column(column, justify="left" if column in ("study", "architecture") else "right")
    worst = 0.0
    for name in arguments.studies:
        study = load_study(name, arguments.profile)
        task = study.what if study.data.classes else Task("classification", 3, FOODS)
        for architecture, spec in study.networks.items():
            one = measure(spec, task, arguments.side)
            worst = max(worst, one.difference)
            weights = sum(p.numel() for p in one.model.members[0].network.parameters()) / 1e6
            table.add_row(
                name, architecture, f"{weights:.1f}", f"{one.difference:.1e}",
                f"{one.varies:.2f}", f"{one.seconds:.0f}",
            )  # fmt: skip
            console.print(f"{name} {architecture}: {one.difference:.1e}")
    console.print(table)
    met = "yes" if worst <= TOLERANCE else "NO"
    console.print(f"largest difference {worst:.1e}; at most {TOLERANCE:g}: {met}")


class Measured(NamedTuple):
    """varies: how far PyTorch's answer for an image or pixel is from the mean answer, at most; a
    difference says something only where it is far below that."""

    model: Model
    difference: float
    varies: float
    seconds: float


def measure(spec: dict[str, Any], task: Task, side: int | None) -> Measured:
    """Export a network with random weights, and compare it."""
    bare = {**spec, "encoder_weights": None} if "encoder_weights" in spec else spec
    torch.manual_seed(0)
    network = build(bare, task)
    normalise = Normalisation(torch.full((task.bands,), 128.0), torch.full((task.bands,), 64.0))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            nn.init.uniform_(module.weight, 0.5, 1.5)  # timm's residual branches begin at zero.
    with torch.no_grad():
        network(normalise(torch.stack([image(192, 192, task.bands, n) for n in range(8)])))
        if not task.segments:
            sharpen(network.eval(), normalise, task)
    size = 64 if not task.segments else None
    recipe = Recipe(architecture="random", image_size=size)
    one = Trained(network.eval(), normalise, task, recipe, None, {}, Path("trials/0000/best"))
    fixed = (side, side) if side else None
    model = adapted(Model((one,), (1.0,)), fixed)
    images = [image(80, 120, task.bands, 0), image(150, 70, task.bands, 1)]
    with tempfile.TemporaryDirectory() as folder:
        written = write(model, Path(folder) / "model.onnx", images, fixed, tolerance=1.0)
    many = torch.stack([image(80, 120, task.bands, seed) for seed in range(3)])
    rows = model.probabilities(many).movedim(1, -1).flatten(0, -2)
    varies = (rows - rows.mean(0)).abs().max().item()
    return Measured(model, written.difference, varies, written.seconds)


def sharpen(network: Any, normalise: Normalisation, task: Task) -> None:
    """Make a classifier's logits differ by 2 from image to image: of random weights they hardly
    do, and a graph that ignores its image would pass for the same."""
    logits = network(
        normalise(torch.stack([image(64, 64, task.bands, seed) for seed in range(8)]))
    ).semantic
    network.network.head.classifier.weight.mul_(2 / (logits - logits.mean(0)).std())


def image(height: int, width: int, bands: int, seed: int) -> Tensor:
    """Random patches, so that neither resizing nor a network makes them all the same."""
    values = np.random.default_rng(seed).integers(0, 256, (bands, 8, 8), dtype=np.uint8)
    patches = torch.from_numpy(values)[None].float()
    grown = nn.functional.interpolate(patches, (height, width), mode="bilinear")
    return grown[0].round().to(torch.uint8)


if __name__ == "__main__":
    main()
