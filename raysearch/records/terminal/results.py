"""The results of a search: leaderboard, what was learned, where it all is, what to type next."""

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from raysearch.config import Study, Task
from raysearch.config.study import mode_of
from raysearch.records.files import read_json
from raysearch.records.goals import by_class, places
from raysearch.records.importance import Importances, importances
from raysearch.records.journal import start_trials
from raysearch.records.leaderboard import best_over_time, best_trial, searched, table, unfailed
from raysearch.records.run_folder import RunFolder
from raysearch.records.terminal.classes import class_table
from raysearch.records.terminal.text import (
    STATE_STYLES,
    duration,
    facts,
    millions,
    network_text,
    number,
    short,
    state_text,
    states_text,
)
from raysearch.records.trial_record import TrialRecord

if TYPE_CHECKING:
    import pandas as pd

TOP = 10
FIXED_COLUMNS = 50  # trial, state, score, epochs, time and parameters
LARGE_GAP = 0.1  # Of training over validation accuracy.
BARS = " ▁▂▃▄▅▆▇█"


def show_results(
    console: Console,
    run: RunFolder,
    study: Study,
    without: Sequence[str] = (),
    live: bool = False,
) -> None:
    """Print a search's leaderboard, importances, best value over time, and places.

    Args:
        without: classes that the best trial's mean over classes is also given without.
        live: the search goes on at this moment.
    """
    records, summary = run.trials(), run.summary()
    console.rule(f"[bold]{escape(run.name)}[/]", align="left", style="dim")
    if not records:
        console.print("no trial has begun yet")
        return
    console.print(_leaderboard(table(records, study), study, console.width, live))
    failed = next((r for r in records if r.state == "failed"), None)
    if failed is not None:
        console.print(f"\n[red]trial {failed.number} failed:[/] {escape(_last_line(run, failed))}")
    if study.space:
        _show_importances(console, importances(run.journal))
    console.print()
    best = best_trial(records, study.objective)
    console.print(_outcome(records, summary, study, run.clock(), best))
    if best is not None:
        start = _best_start(run, records, study)
        _show_classes(console, study, best, start if start is not best else None, without)
    _show_measured(console, run, study)
    console.print()
    console.print(_places(run))


def companions(study: Study) -> list[str]:
    """Return the scores that stand beside the objective: what it leaves unsaid about a trial."""
    task, metric = study.what, study.objective.metric
    if task.binary:
        beside = [key for key in ("f1", "precision", "recall", "positive_iou") if key != metric]
        return beside[:3]
    if task.segments:
        return ["lowest_iou" if metric != "lowest_iou" else "miou"]
    return ["top5" if metric != "top5" else "top1"]


def _leaderboard(frame: "pd.DataFrame", study: Study, width: int, live: bool) -> Table:
    """The best trials, with as many of the searched values as a line has room for."""
    metric, beside = study.objective.metric, companions(study)
    hopes = ["expectations"] if study.objective.expected else []
    shown = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    knobs = _fitting(frame, study, width - sum(2 + max(6, len(k)) for k in (*beside, *hopes)))
    scores = [metric, *map(_heading, beside)]
    titles = ["trial", "state", "architecture", *scores, *hopes, "epochs", "time", "params"]
    for title in [*titles, *knobs]:
        left = title in ("state", "architecture", "loss")
        heading = title.removeprefix("network.").replace("_", " " if title in knobs else "_")
        shown.add_column(heading, justify="left" if left else "right", overflow="fold")
    for row in frame.head(TOP).to_dict("records"):
        style, note = STATE_STYLES[row["state"]], ", one class" if row["collapsed"] else ""
        state = state_text(row["state"], live)
        shown.add_row(
            str(row["trial"]), f"[{style}]{state}{note}[/]", escape(row["architecture"]),
            f"[bold]{number(row[metric])}[/]", *(number(row[key]) for key in beside),
            *(short(row[key]) for key in hopes), str(row["epochs"]),
            duration(row["seconds"]), millions(_count(row["parameters"])),
            *(escape(short(row[key])) for key in knobs),
        )  # fmt: skip
    if len(frame) > TOP:
        shown.caption = f"the best {TOP} of {len(frame)} trials"
    return shown


def _heading(metric: str) -> str:
    return metric.replace("_iou", " IoU").replace("_", " ")


def _fitting(frame: "pd.DataFrame", study: Study, width: int) -> list[str]:
    """Searched keys that differ between trials, as long as their columns fit beside the others."""
    names = max(len("architecture"), int(frame["architecture"].str.len().max()))
    room, knobs = width - FIXED_COLUMNS - names - max(0, len(study.objective.metric) - 6), []
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
    study: Study,
    clock: Callable[[float], float],
    best: TrialRecord | None,
) -> Table:
    steps, metric = best_over_time(records, study.objective, clock), study.objective.metric
    shown = facts()
    if best is not None:
        where = f"trial {best.number}, {best.recipe.architecture}"
        shown.add_row("best", f"{metric} {number(best.value)} ({escape(where)})")
        if study.profile == "quick":
            name = best.recipe.architecture
            told = escape(f"in profile quick, {name} is {network_text(study.networks[name])}")
            shown.add_row("", f"[dim]{told}[/]")
    if steps:
        minutes = max(clock(m["time"]) for r in records for m in r.history) / 60
        line = sparkline([(at, value) for at, value, _ in steps], minutes)
        shown.add_row("best so far", f"{line} over {duration(60 * minutes)}")
    baseline = summary.get("baseline")
    if baseline:
        shown.add_row("", f"{escape(baseline['name'])}: {number(baseline['value'])}")
    if summary.get("goal"):
        shown.add_row("goal", _goal_text(summary["goal"], records))
    if best is not None:
        for name, text in _of_the_best(study.what, best.best_metrics):
            shown.add_row(name, text)
    if summary:
        shown.add_row("trials", states_text(summary["trials"]))
        busy = summary.get("busy_share")
        share = "" if busy is None else f", slots busy {busy:.0%} (waiting for data left out)"
        hours = summary.get("gpu_hours")
        held = "" if hours is None else f", {hours:.2f} GPU-hours"
        shown.add_row("time", f"{duration(summary['seconds'])}{share}{held}")
    return shown


def _goal_text(goal: Mapping[str, Any], records: Sequence[TrialRecord]) -> str:
    """The goal and by whom it was reached, the stretch in its place where that was reached too."""
    found, metric = goal["reached"], goal["metric"]
    if found["target"] is None:
        values = [m[metric] for r in unfailed(records) for m in r.history if metric in m]
        word, best = ("least", min) if mode_of(metric) == "min" else ("most", max)
        most = f", the {word} is {number(best(values))}" if values else ""
        return f"target {places(goal['target'])} of {metric} not reached{most}"
    text = f"target {places(goal['target'])} of {metric} {_reached_text(found['target'])}"
    if "stretch" not in found:
        return text
    stretch = found["stretch"]
    beyond = "not reached" if stretch is None else _reached_text(stretch)
    return f"{text} (stretch {places(goal['stretch'])} {beyond})"


def _reached_text(found: Mapping[str, Any]) -> str:
    place = f"trial {found['trial']} at epoch {found['epoch']}"
    return f"reached by {place}, {duration(found['seconds'])} into the search"


def _of_the_best(task: Task, metrics: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What else there is to know of the best trial: how it overfits, and where it decides."""
    trained, gap = metrics.get("train_accuracy"), metrics.get("accuracy_gap")
    if trained is not None and gap is not None:
        text = f"{number(trained)} in training, {number(trained - gap)} in validation"
        if gap > LARGE_GAP:
            text += (
                f": a [yellow]large[/] gap of {gap:.2f}; try more augment_strength, weight_decay, "
                "dropout or training images"
            )
        yield "accuracy", text
    if task.binary and metrics.get("threshold") is not None:
        most = metrics.get("max_probability")
        highest = "" if most is None else f", highest probability {number(most)}"
        yield "threshold", f"{metrics['threshold']:.3g}, tuned on validation{highest}"


def _show_classes(
    console: Console,
    study: Study,
    best: TrialRecord,
    start: TrialRecord | None,
    without: Sequence[str],
) -> None:
    """The best trial's score of each class beside the best start point's, and its mean without some
    of them."""
    task, scores = study.what, by_class(study.what, best.best_metrics)
    console.print()
    before = by_class(task, start.best_metrics) if start else None
    console.print(class_table(task, scores, study.objective.expected, before=before))
    kept = [value for name, value in scores.items() if name not in without]
    if without and kept:
        mean = number(sum(kept) / len(kept))
        what = "IoU" if task.segments else "accuracy"
        console.print(f"mean {what} without {escape(', '.join(without))}: {mean}")


def _best_start(run: RunFolder, records: Sequence[TrialRecord], study: Study) -> TrialRecord | None:
    """The best of the trials that began as the study's start points."""
    numbers = start_trials(run.journal)
    return best_trial([r for r in records if r.number in numbers], study.objective)


def _show_measured(console: Console, run: RunFolder, study: Study) -> None:
    """What `raysearch.evaluate` has measured on the test split."""
    if not run.test_file.is_file():
        return
    measured, metric = read_json(run.test_file), study.objective.metric
    value = measured["metrics"].get(metric)
    ends = {**measured["intervals"], **measured["wilson"]}.get(metric)
    between = f" (95 % {ends[0]:.4f} to {ends[1]:.4f})" if ends else ""
    shown = facts()
    of = f"trial {measured['trial']}, {measured['images']} images"
    shown.add_row("test", f"{metric} {number(value)}{between}, {of}")
    console.print()
    console.print(shown)


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


def _output(run: RunFolder) -> str:
    """The option that names the output folder; none where it is the usual one."""
    default = run.output == Path("results").absolute()
    return "" if default else f" --output {shlex.quote(_nearest(run.output))}"


def resuming(run: RunFolder, study: Study, more: str = "") -> str:
    """The command that finishes a search, or with more options extends it, as typed from here."""
    named = shlex.quote(run.info.get("named", study.name))
    return f"{python()} -m raysearch.tune {named} --resume {run.name}{more}{_output(run)}"


def show_next(console: Console, run: RunFolder, study: Study) -> None:
    """Print the commands that may come next; none where no trial has begun."""
    if not run.numbers():
        return
    info, output = run.info, _output(run)
    results = output.replace("--output", "--results")
    seed = f" --seed {info['seed']}" if info.get("seed") else ""
    best = shlex.quote(_nearest(run.best_file))
    again = f"{python()} -m raysearch.tune {best}{seed}{output}"
    commands = {
        "make ui": "" if output else "every trial in MLflow",
        f"{python()} -m raysearch.runs show {run.name}{output}": "this page again",
        resuming(run, study, " --trials +20"): "search on" if study.space else "",
        again: "train the best trial again" if run.best_file.is_file() else "",
        f"{python()} -m raysearch.evaluate {run.name}{output}": (
            "measure the best trial on the test split" if _may_test(run) else ""
        ),
        f"{python()} -m raysearch.ensemble {run.name}{output}": (
            "the best of several trials together, and its test figures" if _may_test(run) else ""
        ),
        f"{python()} -m raysearch.predict {run.name} PHOTO.jpg --output predictions{results}": (
            "ask the model about new images, files or folders" if run.best_file.is_file() else ""
        ),
        f"{python()} -m raysearch.report {run.name}{results}": "all of it on one page",
    }
    console.print("\n[bold]next[/]")
    for command, what in commands.items():
        if what:
            console.print(f"  [cyan]{escape(command)}[/]  [dim]{what}[/]", soft_wrap=True)


def _may_test(run: RunFolder) -> bool:
    """Whether there is a trained trial, and a test split that nobody has looked at."""
    official = run.info.get("splits") == "official"
    return run.best_file.is_file() and not official and not run.test_file.is_file()
