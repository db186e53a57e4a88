"""Five hundred trials: the driver's memory, MLflow's lag, and seconds of overhead a trial.

    python -m benchmarks.many_trials

Toy trials of one GPU each, of which Ray only counts sixteen, run through the search with all that
listens to it: MLflow in a local database, retention and progress. Another process watches the
database; an epoch's lag runs from its report in the trial to its presence there. The driver's
memory is its resident set, above that at the search's start.
"""

import argparse
import sqlite3
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

from benchmarks import toy
from raysearch import cluster
from raysearch.config import Resources
from raysearch.records.run_folder import RunFolder
from raysearch.records.terminal import Progress, make_console
from raysearch.records.tracking import MlflowTracking
from raysearch.search.context import Context
from raysearch.search.retention import Retention
from raysearch.search.run import search
from raysearch.study import to_yaml

GROWTH_LIMIT_MB, LAG_LIMIT_SECONDS = 200, 10
POLL_SECONDS = 0.25
NEW_EPOCHS = "SELECT rowid, timestamp FROM metrics WHERE key = 'miou' AND rowid > ? ORDER BY rowid"


def main() -> None:
    arguments = parse()
    with tempfile.TemporaryDirectory() as folder:
        toy.join("local", num_cpus=arguments.slots, num_gpus=arguments.slots)
        show(measured(Path(folder), arguments), arguments)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=500, help="(default: 500)")
    parser.add_argument("--slots", type=int, default=16, help="(default: 16)")
    parser.add_argument("--epochs", type=int, default=9, help="of a trial (default: 9)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of an epoch (default: 2)")
    return parser.parse_args()


def measured(folder: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """Run the search; return its figures by name."""
    resources = Resources(gpus_per_worker=1, cpus_per_worker=1)
    slots = cluster.slots(resources)
    study = toy.toy_study(arguments.trials, arguments.epochs, resources)
    run = RunFolder.create(folder, study.name)
    run.write("study.yaml", to_yaml(study))
    one = toy.Toy(run.trials_folder, slots, arguments.epochs, arguments.seconds)
    context = Context(run.path, run.path, run.path, run.path, "", study, slots, "inline", 0)
    stays, retention = toy.Stays(), Retention()
    tracking = MlflowTracking(f"sqlite:///{folder}/mlflow.db")
    progress = Progress(Console(file=StringIO()), slots.trials)
    listeners = [retention, tracking, progress, stays]
    with watched(folder / "mlflow.db") as lags, sizes() as memory:
        search(run, study, context, 0, None, listeners, lambda _: toy.inline(one))
        retention.close()
        tracking.search_ended({})
    found, epochs = stays.of(run), sum(record.epochs for record in run.trials())
    assert len(lags) == epochs, f"{len(lags)} of {epochs} epochs are in MLflow"
    later = found[slots.trials :]
    over = sum(s.ended - s.handed for s in later) - sum(s.left - s.began for s in later)
    wall = max(stay.ended for stay in found) - max(s.began for s in found[: slots.trials])
    return {
        "trials": len(found), "epochs": epochs, "wall": wall,
        "overhead": over / len(later),
        "growth": max(memory) - memory[0], "late": memory[-1] - memory[len(memory) // 2],
        "lag": max(lags), "median lag": statistics.median(lags),
    }  # fmt: skip


@contextmanager
def sizes() -> Iterator[list[float]]:
    """Note this process's resident set while it lasts, in MB."""
    process, found, over = psutil.Process(), list[float](), threading.Event()

    def look() -> None:
        while not over.wait(POLL_SECONDS):
            found.append(process.memory_info().rss / 1e6)

    found.append(process.memory_info().rss / 1e6)
    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


@contextmanager
def watched(database: Path) -> Iterator[list[float]]:
    """Note each epoch's lag in seconds, in a process of its own; the list is full at the end."""
    context = get_context("spawn")
    over, told = context.Event(), context.SimpleQueue()
    process = context.Process(target=watch, args=(database, over, told))
    process.start()
    found: list[float] = []
    try:
        yield found
    finally:
        over.set()
        found += told.get()
        process.join()


def watch(database: Path, over: threading.Event, told: "SimpleQueue[list[float]]") -> None:
    lags: list[float] = []
    newest, last = 0, False
    while not last:
        last = over.wait(POLL_SECONDS)
        for row, milliseconds in new_epochs(database, newest):
            lags.append(time.time() - milliseconds / 1000)
            newest = row
    told.put(lags)


def new_epochs(database: Path, newest: int) -> list[tuple[int, int]]:
    """Return row and milliseconds of the epochs that have come; none while there is no table."""
    try:
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30) as connection:
            return connection.execute(NEW_EPOCHS, (newest,)).fetchall()
    except sqlite3.OperationalError:
        return []


def show(found: dict[str, float], arguments: argparse.Namespace) -> None:
    table = Table(title=f"{found['trials']} toy trials on {arguments.slots} slots")
    table.add_column("")
    table.add_column("", justify="right")
    for name, text in (
        ("epochs", f"{found['epochs']:.0f} of {arguments.seconds:g} s"),
        ("wall time", f"{found['wall']:.0f} s"),
        ("overhead a trial", f"{found['overhead']:.2f} s"),
        ("driver's memory above its start, at most", f"{found['growth']:.0f} MB"),
        ("of that in the second half", f"{found['late']:.0f} MB"),
        ("MLflow's lag, median", f"{found['median lag']:.1f} s"),
        ("MLflow's lag, at most", f"{found['lag']:.1f} s"),
    ):
        table.add_row(name, text)
    make_console().print(table)
    kept = found["growth"] < GROWTH_LIMIT_MB and found["lag"] < LAG_LIMIT_SECONDS
    print(f"memory below {GROWTH_LIMIT_MB} MB and lag below {LAG_LIMIT_SECONDS} s: "
          f"{'yes' if kept else 'NO'}")  # fmt: skip


if __name__ == "__main__":
    main()
