"""`python -m raysearch.runs`: list, show, stop and clean up searches."""

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from raysearch.config import Study
from raysearch.errors import RaysearchError, RunError, closest
from raysearch.records.again import REFIT
from raysearch.records.leaderboard import best_trial, count_states
from raysearch.records.lock import Owner
from raysearch.records.run_folder import RunFolder, find_run, find_runs, point_latest
from raysearch.records.terminal.guard import guarded
from raysearch.records.terminal.text import duration, make_console, number, states_text
from raysearch.records.trial_record import TrialRecord
from raysearch.redaction import redacted
from raysearch.study import load_study

STYLES = {"running": "cyan", "finished": "green", "interrupted": "yellow", "empty": "dim"}


@dataclass(frozen=True)
class Status:
    """Where a search stands.

    Attributes:
        state: "running", "finished", "interrupted" (it can be resumed) or "empty" (no trial yet).
    """

    run: RunFolder
    state: str
    trials: list[TrialRecord]
    owner: Owner | None

    @property
    def ended(self) -> bool:
        return self.state in ("finished", "empty")


def status(run: RunFolder) -> Status:
    """Find out where a search stands, from its lock, its summary and its trials."""
    owner, trials = run.owner(), run.trials()
    open_trials = any(trial.state == "running" for trial in trials)
    if owner is not None:
        state = "running"
    elif not trials:
        state = "empty"
    else:
        state = "finished" if run.summary() and not open_trials else "interrupted"
    return Status(run, state, trials, owner)


def list_runs(console: Console, output: str) -> None:
    """Print a table of all searches."""
    runs = find_runs(output)
    if not runs:
        console.print(f"{escape(output)} holds no search yet; run one, such as `make animals`")
        return
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    for title in ("study", "run", "state", "trials", "best", "started", "took"):
        table.add_column(title, no_wrap=title in ("study", "run"))
    damaged = []
    for run in runs:
        try:
            table.add_row(*_row(run))
        except RaysearchError as error:
            table.add_row(escape(run.path.parent.name), run.path.name, "[red]damaged[/]")
            damaged.append(str(error))
    console.print(table)
    for problem in damaged:
        console.print(escape(problem), style="red", soft_wrap=True)


def _row(run: RunFolder) -> list[str]:
    found, study = status(run), _study(run)
    best = best_trial(found.trials, study.objective)
    value = f"{study.objective.metric} {number(best.value)}" if best else "-"
    started, kind = run.info["started"], run.info.get("again", {}).get("kind")
    if kind == REFIT:
        value = "-"  # Measured on images that were trained on.
    trials = states_text(count_states(found.trials), live=found.state == "running")
    return [
        escape(study.name),
        run.path.name,
        f"[{STYLES[found.state]}]{found.state}[/]",
        f"{trials} ({kind})" if kind else trials,
        value,
        time.strftime("%Y-%m-%d %H:%M", time.localtime(started)),
        duration(_seconds(found, started)),
    ]


def _seconds(found: Status, started: float) -> float:
    if found.state == "running":
        return time.time() - started
    told = [m["time"] for trial in found.trials for m in trial.history]
    return float(found.run.summary().get("seconds", max(told, default=started) - started))


def _study(run: RunFolder) -> Study:
    return load_study(str(run.study_file))


def show(console: Console, output: str, name: str, without: Sequence[str] = ()) -> None:
    """Print a search's leaderboard, what was learned, and where everything is.

    Raises:
        RunError: `without` names no class of the study.
    """
    from raysearch.records.terminal.results import show_next, show_results

    run = find_run(output, name)
    found, study = status(run), _study(run)
    for class_ in without:
        if class_ not in study.data.classes:
            known = closest(class_, study.data.classes)
            raise RunError(f"--without {class_}: no such class. {known}")
    show_results(console, run, study, without, live=found.owner is not None)
    show_next(console, run, study)
    if found.owner is not None:
        console.print(f"\n[cyan]running[/]: {escape(str(found.owner))}")


def stop(console: Console, output: str, name: str) -> None:
    """Ask a search that runs on this machine to end, as Ctrl+C would.

    Raises:
        RunError: it does not run, or not here, or it is another user's.
    """
    run = find_run(output, name)
    owner = run.owner()
    if owner is None:
        raise RunError(f"{run.name} does not run, so there is nothing to stop")
    if not owner.here:
        raise RunError(
            f"{run.name} runs as {owner}; stop it there: python -m raysearch.runs stop {run.name}"
        )
    try:
        os.kill(owner.pid, signal.SIGINT)
    except ProcessLookupError as error:
        raise RunError(f"{run.name} has ended by itself") from error
    except PermissionError as error:
        raise RunError(f"{run.name} runs as {owner} and belongs to another user") from error
    console.print(f"{run.name} ({owner}) is ending; its records are being written")


def fill(console: Console, output: str, name: str) -> None:
    """Record a search in MLflow, where its server was away or its records were lost.

    Raises:
        RunError: the server or database cannot be written.
    """
    from raysearch.records.tracking import fill as fill_mlflow

    run = find_run(output, name)
    try:
        registered = fill_mlflow(run)
    except RaysearchError:
        raise
    except Exception as error:  # MLflow passes on whatever its server or database raises.
        raise RunError(
            f"MLflow cannot record {run.name}: {redacted(str(error))}; see to its server "
            "(MLFLOW_TRACKING_URI), then try again"
        ) from error
    console.print(f"{run.name} is recorded in MLflow")
    if registered:
        console.print(escape(registered), soft_wrap=True)


def push(console: Console, output: str, name: str) -> None:
    """Complete a search's copy in storage, where that was away.

    Raises:
        RunError: it has no storage.
        ConfigError: its storage cannot be used.
    """
    from raysearch.search.mirror import push as push_run
    from raysearch.search.mirror import storage_of
    from raysearch.storage import Storage, reason

    run = find_run(output, name)
    storage = storage_of(_study(run), run.path)
    if storage is None:
        raise RunError(f"{run.name}: was searched without --storage, so there is nowhere to push")
    Storage(storage.uri).check()
    try:
        push_run(run, storage)
    except OSError as error:
        raise RunError(f"{storage}: {reason(error)}; try again") from error
    console.print(f"{run.name} is complete in {escape(str(storage))}", soft_wrap=True)


def clean(console: Console, output: str, names: Sequence[str], finished: bool, yes: bool) -> None:
    """Remove empty searches, all that have ended, or those named; never one that runs.

    Raises:
        RunError: one that is named runs or is another user's, or nobody has agreed.
    """
    chosen = _named(output, names) if names else _ended(output, finished)
    if not chosen:
        console.print("nothing to remove")
        return
    for found in chosen:
        console.print(f"{found.run.name}  {found.state}, {states_text(count_states(found.trials))}")
    if not yes and not _agreed(console, len(chosen)):
        raise RunError("nothing is removed; add --yes to remove these searches")
    for found in chosen:
        _remove(found.run)
    console.print(f"removed {len(chosen)}; what MLflow has recorded of them stays")


def forget(console: Console, output: str, names: Sequence[str], yes: bool) -> None:
    """Remove the probabilities that ensembles were chosen by, of searches that do not run.

    They are large, and the next `raysearch.ensemble` computes them again.

    Raises:
        RunError: one that is named runs or is another user's, or nobody has agreed.
    """
    mine = [status(run) for run in find_runs(output) if run.is_mine and not names]
    chosen = [found.run for found in (_named(output, names) if names else mine) if not found.owner]
    sizes = {run: _size(run.probabilities) for run in chosen if run.probabilities.is_dir()}
    if not sizes:
        console.print("no probabilities to remove")
        return
    for run, size in sizes.items():
        console.print(f"{run.name}  {size / 1e6:.0f} MB of probabilities")
    if not yes and not _agreed(console, len(sizes)):
        raise RunError("nothing is removed; add --yes to remove these probabilities")
    for run in sizes:
        with run.lock():
            shutil.rmtree(run.probabilities)
    console.print(f"removed {sum(sizes.values()) / 1e6:.0f} MB; the searches stay")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _named(output: str, names: Sequence[str]) -> list[Status]:
    chosen = {run.path: status(run) for run in (find_run(output, name) for name in names)}
    for found in chosen.values():
        RunFolder.open(found.run.path)
        if found.owner is not None:
            raise RunError(f"{found.run.name} runs as {found.owner}; stop it first")
    return list(chosen.values())


def _ended(output: str, finished: bool) -> list[Status]:
    mine = [run for run in find_runs(output) if run.is_mine]
    return [
        found
        for found in map(status, mine)
        if found.state == "empty" or (finished and found.state == "finished")
    ]


def _agreed(console: Console, count: int) -> bool:
    if not sys.stdin.isatty():
        return False
    return console.input(f"remove {count} for ever? [y/N] ").strip().lower() in ("y", "yes")


def _remove(run: RunFolder) -> None:
    """Remove a run folder, first out of sight in one step; the lock keeps searches out of it."""
    aside = run.path.with_name(f".removed-{run.path.name}")
    with run.lock():
        run.path.rename(aside)
    shutil.rmtree(aside)
    point_latest(run.path.parent)
    if not any(run.path.parent.iterdir()):
        run.path.parent.rmdir()


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    whole = argparse.ArgumentParser(prog="python -m raysearch.runs", description=__doc__)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--output", default="results", metavar="DIR", help="where the searches are (%(default)s)"
    )
    run = {"metavar": "RUN", "help": "study (its latest), study/run, run, or a path"}
    commands: Any = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", parents=[shared], help="a table of all searches")
    for name, what in {
        "show": "the leaderboard of a search, and where everything is",
        "stop": "end a search that runs on this machine; its records are written",
        "fill": "record a search in MLflow, where its server was away",
        "push": "complete a search's copy in storage, where that was away",
    }.items():
        command = commands.add_parser(name, parents=[shared], help=what)
        command.add_argument("run", **run)
        if name == "show":
            beside = "give the mean IoU without these classes beside it"
            command.add_argument("--without", nargs="+", default=[], metavar="CLASS", help=beside)
    removing = commands.add_parser("clean", parents=[shared], help="remove searches")
    removing.add_argument("runs", nargs="*", metavar="RUN", help="these; left out: empty ones")
    removing.add_argument("--finished", action="store_true", help="and all that are finished")
    large = "only what trials said of images, for ensembles; it is computed again when needed"
    removing.add_argument("--probabilities", action="store_true", help=large)
    removing.add_argument("--yes", action="store_true", help="do not ask")
    return whole


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 2 for what cannot be done, or 130 when interrupted."""
    given = parser().parse_args(argv)
    console = make_console()
    return guarded(lambda: _run(given, console), "what was done is done")


def _run(given: argparse.Namespace, console: Console) -> None:
    if given.command == "list":
        list_runs(console, given.output)
    elif given.command == "clean" and given.probabilities:
        forget(console, given.output, given.runs, given.yes)
    elif given.command == "clean":
        clean(console, given.output, given.runs, given.finished, given.yes)
    elif given.command == "show":
        show(console, given.output, given.run, given.without)
    else:
        {"stop": stop, "fill": fill, "push": push}[given.command](console, given.output, given.run)


if __name__ == "__main__":
    sys.exit(main())
