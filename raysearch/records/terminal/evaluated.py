"""What a measurement of a trained trial says: scores with their intervals, and the classes."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from raysearch.config import Study
from raysearch.records.goals import by_class
from raysearch.records.terminal.classes import class_table
from raysearch.records.terminal.text import facts, number

TUNED = ("threshold", "max_probability")


def show_evaluation(console: Console, study: Study, told: Mapping[str, Any]) -> None:
    """Print what `evaluate_run` returned."""
    task = study.what
    console.rule(f"[bold]{escape(told['run'])}[/]", align="left", style="dim")
    head = facts()
    head.add_row("trial", escape(f"{told['trial']}, {told['architecture']}, epoch {told['epoch']}"))
    head.add_row("images", escape(f"{told['images']} of {told['split']} in {told['data']}"))
    if "opened" in told:
        head.add_row("test split", opened_text(told["opened"]))
    head.add_row("speed", f"{time_text(told['seconds_per_image'])} an image on {told['device']}")
    if told["threshold"] is not None:
        most = number(told["metrics"].get("max_probability"))
        head.add_row("threshold", f"{told['threshold']:.3g}, highest probability {most}")
    console.print(head)
    console.print()
    console.print(_scores(study, told))
    for metric, (low, high) in told["wilson"].items():
        if "/" not in metric:
            console.print(f"{metric}: Wilson's 95 % interval {low:.4f} to {high:.4f}")
    console.print()
    ends = {**told["intervals"], **told["wilson"]}
    prefix = f"{task.by_class}/"
    between = {k.removeprefix(prefix): v for k, v in ends.items() if k.startswith(prefix)}
    scores = by_class(task, told["metrics"])
    console.print(class_table(task, scores, study.objective.expected, between))


def opened_text(times: int) -> str:
    """Say how often a test split was opened; after the first time it is no longer unseen."""
    if times == 1:
        return "opened for the first time"
    return (
        f"[yellow]opened {times} times[/]: what is chosen by these figures is no longer measured "
        "by them"
    )


def _scores(study: Study, told: Mapping[str, Any]) -> Table:
    """The headline scores, the objective first, with what is lost from validation to here."""
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    for title in ("score", told["split"], "95 %", "validation", "drop"):
        table.add_column(title, justify="left" if title == "score" else "right")
    for metric in dict.fromkeys([study.objective.metric, *study.what.scores]):
        if metric in TUNED or metric not in told["metrics"]:
            continue
        ends = told["intervals"].get(metric)
        between = f"{ends[0]:.4f} to {ends[1]:.4f}" if ends else "-"
        before, lost = told["validation"].get(metric), told["drop"].get(metric)
        change = "-" if lost is None else f"{lost:+.4f}"
        table.add_row(
            escape(metric), f"[bold]{number(told['metrics'][metric])}[/]", between,
            number(before), change,
        )  # fmt: skip
    return table


def time_text(seconds: float) -> str:
    """Return a time of one image: milliseconds, or seconds from one on."""
    return f"{1000 * seconds:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
