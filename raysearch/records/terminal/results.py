"""The results of a search: leaderboard, what was learned, where it all is, what to type next."""

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from raysearch.config import Objective, Study
from raysearch.records.importance import Importances, importances
from raysearch.records.leaderboard import best_over_time, best_trial, searched, table
from raysearch.records.run_folder import RunFolder
from raysearch.records.terminal.text import (
    STATE_STYLES,
    duration,
    facts,
    millions,
    number,
    short,
    states_text,
)
from raysearch.records.trial_record import TrialRecord

if TYPE_CHECKING:
    import pandas as pd

TOP = 10
FIXED_COLUMNS = 62  # trial, state, score, lowest IoU, epochs, time and parameters
BARS = " ▁▂▃▄▅▆▇█"


def show_results(
    console: Console, run: RunFolder, study: Study, without: Sequence[str] = ()
) -> None:
    """Print a search's leaderboard, importances, best value over time, places and next commands.

    Args:
        without: classes that the best trial's mean IoU is also given without.
    """
    records, summary = run.trials(), run.summary()
    console.rule(f"[bold]{escape(run.name)}[/]", align="left", style="dim")
    if not records:
        console.print("no trial has begun yet")
        return
    console.print(_leaderboard(table(records, study), study, console.width))
    failed = next((r for r in records if r.state == "failed"), None)
    if failed is not None:
        console.print(f"\n[red]trial {failed.number} failed:[/] {escape(_last_line(run, failed))}")
    if study.space:
        _show_importances(console, importances(run.journal))
    console.print()
    console.print(_outcome(records, summary, study.objective, run.clock()))
    best = best_trial(records, study.objective)
    if best is not None:
        console.print(_by_class(best, without))
    console.print()
    console.print(_places(run))
    _show_next(console, run, study)


def _leaderboard(frame: "pd.DataFrame", study: Study, width: int) -> Table:
    """The best trials, with as many of the searched values as a line has room for."""
    metric = study.objective.metric
    shown = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    knobs = _fitting(frame, study, width)
    titles = ["trial", "state", "architecture", metric, "lowest IoU", "epochs", "time", "params"]
    for title in [*titles, *knobs]:
        left = title in ("state", "architecture", "loss")
        heading = title.removeprefix("network.").replace("_", " ")
        shown.add_column(heading, justify="left" if left else "right", overflow="fold")
    for row in frame.head(TOP).to_dict("records"):
        style, note = STATE_STYLES[row["state"]], ", one class" if row["collapsed"] else ""
        shown.add_row(
            str(row["trial"]), f"[{style}]{row['state']}{note}[/]", escape(row["architecture"]),
            f"[bold]{number(row[metric])}[/]", number(row.get("lowest_iou")), str(row["epochs"]),
            duration(row["seconds"]), millions(_count(row["parameters"])),
            *(escape(short(row[key])) for key in knobs),
        )  # fmt: skip
    if len(frame) > TOP:
        shown.caption = f"the best {TOP} of {len(frame)} trials"
    return shown


def _fitting(frame: "pd.DataFrame", study: Study, width: int) -> list[str]:
    """Searched keys that differ between trials, as long as their columns fit beside the others."""
    names = max(len("architecture"), int(frame["architecture"].str.len().max()))
    room, knobs = width - FIXED_COLUMNS - names, []
    for key in searched(study):
        if frame[key].nunique(dropna=False) > 1:
            words = key.removeprefix("network.").split("_")
            room -= 2 + max(*map(len, words), *(len(short(value)) for value in frame[key]))
            if room < 0:
                break
            knobs.append(key)
    return knobs


def _count(value: Any) -> int | None:
    return int(value) if isinstance(value, int) else None


def _last_line(run: RunFolder, record: TrialRecord) -> str:
    lines = run.error(record.number).strip().splitlines()
    return f"{record.reason}: {lines[-1].strip()}" if lines else record.reason


def _show_importances(console: Console, learned: Importances) -> None:
    console.print(f"\n[bold]what mattered[/] [dim]{escape(learned.note)}[/]")
    bars = Table.grid(padding=(0, 2))
    for key, share in learned.shares.items():
        bars.add_row(f"  {escape(key)}", f"[cyan]{'█' * round(30 * share)}[/] {share:.0%}")
    if learned.shares:
        console.print(bars)


def _outcome(
    records: Sequence[TrialRecord],
    summary: Mapping[str, Any],
    objective: Objective,
    clock: Callable[[float], float],
) -> Table:
    steps = best_over_time(records, objective, clock)
    shown = facts()
    if steps:
        _, value, record = steps[-1]
        where = f"trial {record.number}, {record.recipe.architecture}"
        shown.add_row("best", f"{objective.metric} {number(value)} ({escape(where)})")
        minutes = max(clock(m["time"]) for r in records for m in r.history) / 60
        line = sparkline([(at, value) for at, value, _ in steps], minutes)
        shown.add_row("best so far", f"{line} over {duration(60 * minutes)}")
    if summary.get("background_miou") is not None:
        shown.add_row("", f"predicting background alone: {number(summary['background_miou'])}")
    if summary:
        shown.add_row("trials", states_text(summary["trials"]))
        busy = summary.get("busy_share")
        share = "" if busy is None else f", slots busy {busy:.0%} (waiting for data left out)"
        shown.add_row("time", f"{duration(summary['seconds'])}{share}")
    return shown


def _by_class(best: TrialRecord, without: Sequence[str]) -> Table:
    """The best trial's IoU of each class, and its mean without some of them."""
    iou = {k[4:]: v for k, v in best.best_metrics.items() if k.startswith("iou/")}
    shown = facts()
    shown.add_row("by class", escape(", ".join(f"{name} {v:.3f}" for name, v in iou.items())))
    kept = [value for name, value in iou.items() if name not in without]
    if without and kept:
        mean = number(sum(kept) / len(kept))
        shown.add_row("", f"mean IoU without {escape(', '.join(without))}: {mean}")
    return shown


def sparkline(steps: Sequence[tuple[float, float]], end: float, width: int = 40) -> str:
    """Return a step curve of (time, value) from its least to its greatest value as text."""
    values = [value for _, value in steps]
    low, span = min(values), (max(values) - min(values)) or 1.0
    line = ""
    for column in range(1, width + 1):
        told = [value for at, value in steps if at <= column * end / width]
        line += BARS[1 + round(7 * (told[-1] - low) / span)] if told else BARS[0]
    return line


def _places(run: RunFolder) -> Table:
    shown = facts()
    shown.add_row("everything", escape(_nearest(run.path)))
    files = [run.leaderboard, run.best_file, *sorted(run.path.glob("*.png"))]
    there = [path.name for path in files if path.is_file()]
    if there:
        shown.add_row("", ", ".join(there))
    return shown


def _nearest(path: Path) -> str:
    """A path as it is typed from here."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def python() -> str:
    """The Python that runs this, as it is typed from here."""
    here = Path(sys.executable)
    return str(here.relative_to(Path.cwd())) if here.is_relative_to(Path.cwd()) else "python"


def _show_next(console: Console, run: RunFolder, study: Study) -> None:
    default, info = run.output == Path("results").absolute(), run.info
    output = "" if default else f" --output {shlex.quote(_nearest(run.output))}"
    named = shlex.quote(info.get("named", study.name))
    seed = f" --seed {info['seed']}" if info.get("seed") else ""
    tune = f"{python()} -m raysearch.tune"
    again = f"{tune} {shlex.quote(_nearest(run.best_file))}{seed}{output}"
    commands = {
        "make ui": "every trial in MLflow" if default else "",
        f"{python()} -m raysearch.runs show {run.name}{output}": "this page again",
        f"{tune} {named} --resume {run.name} --trials +20{output}": (
            "search on" if study.space else ""
        ),
        again: "train the best trial again" if run.best_file.is_file() else "",
    }
    console.print("\n[bold]next[/]")
    for command, what in commands.items():
        if what:
            console.print(f"  [cyan]{escape(command)}[/]  [dim]{what}[/]", soft_wrap=True)
