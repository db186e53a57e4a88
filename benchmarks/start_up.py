"""Seconds from the scheduling of a trial to its first step, inline beside nested Ray Train.

    python benchmarks/start_up.py

Trials of a tiny network run one after the other, first through the `inline` launcher, then through
`train`, on one Ray. From the moment the search hands a trial out to the beginning of its first
epoch, without the building of the network. The first trial of each launcher, which imports torch,
stands apart.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from rich.table import Table

from raysearch import cluster
from raysearch.config import Study
from raysearch.records.listener import Listener
from raysearch.records.run_folder import RunFolder, TrialRecord
from raysearch.records.terminal import make_console
from raysearch.search.context import Context
from raysearch.search.prepare import locate, prepare
from raysearch.search.run import search
from raysearch.study import load_study, to_yaml

INLINE_LIMIT = 0.5


class Scheduled(Listener):
    """Notes when each trial is handed out."""

    def __init__(self) -> None:
        self.at: dict[int, float] = {}

    def trial_started(self, record: TrialRecord) -> None:
        self.at[record.number] = time.time()


def main() -> None:
    arguments = parse()
    console = make_console()
    with tempfile.TemporaryDirectory() as folder, cluster.joined(dashboard=True):
        study = tiny_study(arguments.trials, Path(folder))
        found = {name: start_ups(study, name, Path(folder)) for name in ("inline", "train")}
    table = Table(title="seconds from scheduling to the first step, network's building left out")
    for title in ("launcher", "first trial", "each further trial: median", "most", "trials"):
        table.add_column(title, justify="left" if title == "launcher" else "right")
    for name, (first, *rest) in found.items():
        median, most = statistics.median(rest), max(rest)
        table.add_row(name, f"{first:.2f}", f"{median:.3f}", f"{most:.3f}", str(len(rest)))
    console.print(table)
    inline, train = (statistics.median(found[name][1:]) for name in ("inline", "train"))
    console.print(f"train / inline: {train / inline:.0f}x; inline at most {INLINE_LIMIT} s: "
                  f"{'yes' if max(found['inline'][1:]) <= INLINE_LIMIT else 'NO'}")  # fmt: skip


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=6, help="for each launcher (default: 6)")
    return parser.parse_args()


def tiny_study(trials: int, folder: Path) -> Study:
    """The animals study with one tiny network, one trial at a time, one epoch each."""
    study = load_study("animals", "quick", [
        "networks={tiny: {type: unet, width: 4, depth: 2}}",
        "space={learning_rate: {low: 1e-4, high: 1e-3}}", "start=[]",
        "fixed.architecture=tiny", "fixed.image_size=32", "fixed.crop_size=32",
        f"budget={{trials: {trials}, epochs: 1}}", "resources.max_concurrent_trials=1",
    ])  # fmt: skip
    return locate(study, folder)[0]


def start_ups(study: Study, launcher: str, folder: Path) -> list[float]:
    """Return the start-up of each trial of a search, in order."""
    prepared = prepare(study, seed=0)
    run = RunFolder.create(folder / launcher, study.name)
    run.write("study.yaml", to_yaml(study))
    run.write("splits.json", prepared.data.splits.to_json())
    scheduled = Scheduled()
    context = Context(
        run.path, prepared.root, prepared.cache, folder, prepared.data.digest, study,
        cluster.slots(study.resources), launcher, 0,
    )  # fmt: skip
    search(run, study, context, seed=0, listeners=[scheduled])
    first_epochs = {record.number: record.history[0] for record in run.trials()}
    return [
        metrics["began"] - scheduled.at[number] - metrics["build_s"]
        for number, metrics in sorted(first_epochs.items())
    ]


if __name__ == "__main__":
    main()
