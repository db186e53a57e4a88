"""What a GPU gives each network: images a second, how busy it is, its memory, what speeds it up.

    python benchmarks/gpu.py [--side 512] [--batch 8] [--most 64]
    python benchmarks/gpu.py --device cpu --side 64 --networks unet   # the same code, to try it

For each network of the animals study: whole training steps (forward, loss, backward, AdamW) on one
batch of generated images in memory, first plain in float32, then with bfloat16, channels last and
torch.compile added one after the other. The variants of a network take turns, so that a change of
the machine's load meets all; the ratio is to the plain one. The largest micro-batch is what the
memory probe of a search finds, up to --most. A float32 convolution on a GPU since 8.0 is TF32, as
torch has it by default.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

import torch
from rich.table import Table

from raysearch.config import Study
from raysearch.data import Batch, Data
from raysearch.data.batch import collate
from raysearch.records.terminal import make_console
from raysearch.search.prepare import locate, prepare
from raysearch.study import load_study
from raysearch.training.fitting import largest_micro_batch
from raysearch.training.loop import Training
from raysearch.training.machine import Machine
from raysearch.training.memory import Limits, free_memory, micro_batches
from raysearch.training.usage import Usage, usage_on

COMPILED = "+ compile"
PLAIN = {"precision": "float32", "channels_last": False, "compile": False}
VARIANTS = {
    "float32": PLAIN,
    "+ bfloat16": PLAIN | {"precision": "bf16"},
    "+ channels last": PLAIN | {"precision": "bf16", "channels_last": True},
    COMPILED: {"precision": "bf16", "channels_last": True, "compile": True},
}
COLUMNS = ("network", "variant", "images/s", "ratio", "busy", "peak memory", "largest micro-batch")


def main() -> None:
    arguments = parse()
    device = find(arguments.device)
    sides = [f"fixed.image_size={arguments.side}", f"fixed.crop_size={arguments.side}"]
    study = load_study("animals", arguments.profile, [*sides, "allow_random_weights=true"])
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    title = f"{name}, torch {torch.__version__}, {arguments.side} px, batch {arguments.batch}"
    table = Table(title=title)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in COLUMNS[:2] else "right")
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare(locate(study, Path(folder))[0], seed=0)
        bench = Bench(prepared.study, prepared.data, Path(folder), device, arguments)
        for network in arguments.networks or study.networks:
            for row in bench.rows(network):
                table.add_row(*row)
            table.add_section()
    make_console().print(table)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--profile", default="full", choices=["quick", "full"])
    parser.add_argument("--networks", nargs="+", help="of the animals study (default: all)")
    parser.add_argument("--side", type=int, default=512, help="pixels a side (default: 512)")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--most", type=int, default=64, help="images that the probe tries")
    parser.add_argument("--steps", type=int, default=20, help="a round has (default: 20)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-compile", action="store_true")
    return parser.parse_args()


def find(device: str) -> torch.device:
    """Return the device, or end with a sentence where there is none."""
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit(
            "This measures a CUDA GPU, and torch finds none on this machine. `--device cpu --side "
            "64` runs the same code on a CPU, whose figures say nothing of a GPU."
        )
    index = torch.cuda.current_device() if device == "cuda" else None
    return torch.device(device) if index is None else torch.device(device, index)


@dataclass
class Variant:
    """A network that is trained in one way, and what was measured of it."""

    training: Training
    batch: Batch
    peak_mb: float | None
    seconds: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)

    def round(self, steps: int, usage: Usage) -> None:
        """Take some steps; the usage is asked for these alone."""
        usage.take()
        began = time.perf_counter()
        for _ in range(steps):
            self.training.step(self.batch)
        finish(self.training.device)
        self.seconds.append((time.perf_counter() - began) / steps)
        told = usage.take()
        self.busy += [told["gpu_utilisation"]] if "gpu_utilisation" in told else []

    @property
    def rate(self) -> float:
        """Images a second, the median of the rounds."""
        return self.batch.size / statistics.median(self.seconds)


@dataclass(frozen=True)
class Bench:
    """What all measurements share."""

    study: Study
    data: Data
    folder: Path
    device: torch.device
    arguments: argparse.Namespace

    def rows(self, network: str) -> Iterator[tuple[str, ...]]:
        """Yield a network's rows of the table."""
        labels = [v for v in VARIANTS if v != COMPILED or not self.arguments.without_compile]
        found = self.measured(network, labels)
        free_memory()  # The probe has the whole GPU, as a trial has.
        most = self.arguments.most
        for label, (rate, busy, peak) in found.items():
            largest = self.probe(network, label)
            yield (
                network,
                label,
                f"{rate:.1f}",
                f"{rate / found[labels[0]][0]:.2f}",
                f"{statistics.mean(busy):.0f} %" if busy else "-",
                f"{peak / 1024:.1f} GiB" if peak is not None else "-",
                f"{largest} or more" if largest == most else str(largest),
            )

    def measured(
        self, network: str, labels: list[str]
    ) -> dict[str, tuple[float, list[float], float | None]]:
        """Return images a second, utilisation of each round, and peak memory of each variant."""
        variants = {label: self.build(network, label) for label in labels}
        with usage_on(self.device, 1.0) as usage:
            for _ in range(self.arguments.rounds):
                for variant in variants.values():
                    variant.round(self.arguments.steps, usage)
        return {label: (v.rate, v.busy, v.peak_mb) for label, v in variants.items()}

    def build(self, network: str, label: str) -> Variant:
        """Build a variant, warm it up, and note the memory that it added to the GPU's."""
        cuda = self.device.type == "cuda"
        before = torch.cuda.memory_allocated(self.device) if cuda else 0
        training = self.trial(network, label, self.arguments.batch)
        dataset = training.batches.dataset
        places = islice(cycle(range(len(dataset))), self.arguments.batch)
        batch = collate([dataset[(1, place, 0)] for place in places])
        training.network.train()
        for _ in range(3):
            training.step(batch)
        finish(self.device)
        after = torch.cuda.max_memory_allocated(self.device) if cuda else 0
        return Variant(training, batch, (after - before) / 2**20 if cuda else None)

    def probe(self, network: str, label: str) -> int:
        """Return the largest micro-batch that the probe of a search finds."""
        most = self.arguments.most
        limits = Limits(self.folder / "memory.json")
        return largest_micro_batch(self.trial(network, label, most), limits, micro_batches(most))

    def trial(self, network: str, label: str, batch: int) -> Training:
        values = {"architecture": network, "batch_size": batch, "loss": "focal + dice"}
        recipe = self.study.recipe({**values, "learning_rate": 1e-4, **VARIANTS[label]})
        spec = self.study.network_spec(recipe)
        if "encoder_weights" in spec:
            spec["encoder_weights"] = None
        machine = Machine(threads=torch.get_num_threads(), device=self.device)
        objective = self.study.objective
        folder = self.folder / network
        return Training(recipe, spec, self.study.what, self.data, objective, folder, machine)


def finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
