"""Images a second of the training part of an epoch against bare steps on tensors in memory.

    python benchmarks/train.py [--data DIR] [--profile quick] [--size 96] [--threads 1]

An epoch's training part reads from the cache, augments at strength 1 (without elastic
deformation), and takes optimizer steps on focal, Dice and boundary loss. The bare step is forward,
cross-entropy, backward and AdamW of the same network on one batch that lies in memory, normalised,
with the same threads, precision and memory format. Both take turns, so that a change of the
machine's load meets both. Elastic deformation and validation are shown apart.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.table import Table
from torch.nn import functional as F

from raysearch.config import Study
from raysearch.data import Data
from raysearch.records.terminal import make_console
from raysearch.search.prepare import locate, prepare
from raysearch.study import load_study
from raysearch.training.device import find_device
from raysearch.training.loop import Training
from raysearch.training.machine import Machine
from raysearch.training.optimisation import build_optimizer

LIMIT = 0.85


def main() -> None:
    arguments = parse()
    changes = [f"fixed.image_size={arguments.size}", f"fixed.crop_size={arguments.size}"]
    if arguments.data:
        changes.append(f"data.path={arguments.data.resolve()}")
    study = load_study("animals", arguments.profile, changes)
    where = f"{arguments.threads} thread(s), {find_device()}, profile {arguments.profile}"
    title = f"images/s, {arguments.size} px, batch {arguments.batch}, {where}"
    table = Table(title=title)
    for column in ("network", "bare step", "training", "ratio", "with elastic", "validation"):
        table.add_column(column, justify="left" if column == "network" else "right")
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare(locate(study, Path(folder))[0], seed=0)
        ratios = [measure(name, prepared.study, prepared.data, Path(folder), arguments, table)
                  for name in study.networks]  # fmt: skip
    console = make_console()
    console.print(table)
    met = "yes" if min(ratios) >= LIMIT else "NO"
    console.print(f"training / bare step: least {min(ratios):.3f}; at least {LIMIT}: {met}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="an animals data set (default: sample data)")
    parser.add_argument("--profile", default="quick", choices=["quick", "full"])
    parser.add_argument("--size", type=int, default=96, help="pixels a side (default: 96)")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def measure(
    name: str, study: Study, data: Data, folder: Path, arguments: argparse.Namespace, table: Table
) -> float:
    """Add one network's row to the table; return the ratio."""
    plain, elastic = (trial(name, study, data, folder, arguments, e) for e in (False, True))
    images = len(plain.batches) * arguments.batch
    bare = bare_steps(plain)
    runs: dict[str, Callable[[int], object]] = {
        "bare": lambda number: bare(),
        "training": plain.train_epoch,
        "elastic": elastic.train_epoch,
        "validation": lambda number: plain.validate(),
    }
    for run in runs.values():
        run(1)  # Epochs count from 1.
    seconds: dict[str, list[float]] = {key: [] for key in runs}
    for number in range(2, arguments.rounds + 2):
        for key, run in runs.items():
            seconds[key].append(timed(run, number))
    rate = {key: images / statistics.median(took) for key, took in seconds.items()}
    rate["validation"] *= len(data.indices("val")) / images
    ratio = rate["training"] / rate["bare"]
    table.add_row(
        name, f"{rate['bare']:.1f}", f"{rate['training']:.1f}", f"{ratio:.3f}",
        f"{rate['elastic']:.1f}", f"{rate['validation']:.1f}",
    )  # fmt: skip
    return ratio


def trial(
    name: str, study: Study, data: Data, folder: Path, arguments: argparse.Namespace, elastic: bool
) -> Training:
    values = {
        "architecture": name,
        "batch_size": arguments.batch,
        "augment_strength": 1.0,
        "elastic": elastic,
        "loss": "focal + dice",
        "learning_rate": 1e-4,
    }
    recipe = study.recipe(values)
    spec = study.network_spec(recipe)
    if "encoder_weights" in spec:
        spec["encoder_weights"] = None
    machine = Machine(threads=arguments.threads)
    return Training(recipe, spec, study.what, data, study.objective, folder / name, machine)


def bare_steps(training: Training) -> Callable[[], None]:
    """Return an epoch's number of steps on one batch in memory, with the same network."""
    optimizer = build_optimizer(training.recipe, training.network)
    mixed = training.mixed(next(iter(training.batches)), (0,))
    images, masks = training.normalised(mixed.images).clone(), mixed.parts[0].ids

    def run() -> None:
        training.network.train()
        for _ in range(len(training.batches)):
            optimizer.zero_grad(set_to_none=True)
            with training.precision.autocast():
                output = training.network(images)
                loss = F.cross_entropy(output.semantic, masks, ignore_index=255)
            training.precision.scale(loss).backward()
            training.precision.step(optimizer, training.network, None)

    return run


def timed(run: Callable[[int], object], number: int) -> float:
    began = time.perf_counter()
    run(number)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
