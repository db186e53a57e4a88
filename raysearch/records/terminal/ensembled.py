"""What making an ensemble says: who was taken, what helped, and what it is worth."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from raysearch.inference.choose import MODEL
from raysearch.records.ensemble import ROWS
from raysearch.records.terminal.evaluated import opened_text, time_text
from raysearch.records.terminal.text import facts, number

SHOWN = 12  # Candidates; the others are in ensemble.json.


def show_ensemble(console: Console, told: Mapping[str, Any]) -> None:
    """Print what `ensemble_run` returned."""
    console.rule(f"[bold]{escape(told['run'])}[/]", align="left", style="dim")
    console.print(_candidates(told))
    console.print()
    console.print(_model(told))
    console.print("\n[bold]validation[/], which everything was chosen by")
    console.print(_figures(told["metric"], told["validation"]))
    test = told["test"]
    if test is None:
        console.print("\nthe test split stays closed")
        return
    console.print(f"\n[bold]test[/], {test['images']} images, {opened_text(test['opened'])}")
    console.print(_figures(told["metric"], test["rows"]))
    for name in _different(test["rows"]):
        differences = test["minus_single"].get(name, {})
        if ends := differences.get(told["metric"]):
            low, high = ends
            console.print(
                f"{name} minus single: {_difference(test, name, told['metric']):+.4f}, paired 95 % "
                f"interval {low:+.4f} to {high:+.4f}{_verdict(low, high)}"
            )


def _candidates(told: Mapping[str, Any]) -> Table:
    """The candidates, members first, then by their own figure."""
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    for title in ("trial", "epoch", told["metric"], "an image", "MB", "greedy", "bagged", "weight"):
        table.add_column(title, justify="right")
    weights = {one["place"]: one["weight"] for one in told["members"]}

    def key(one: Mapping[str, Any]) -> tuple[float, float]:
        return -weights.get(one["place"], 0.0), -(one["greedy"] + one["bagged"])

    ordered = sorted(told["candidates"], key=key)
    for one in ordered[:SHOWN]:
        weight = weights.get(one["place"])
        table.add_row(
            _trial(one), str(one["epoch"]), number(one[told["metric"]]),
            time_text(one["seconds_per_image"]), f"{one['bytes'] / 1e6:.1f}",
            _share(one["greedy"]), _share(one["bagged"]), f"[bold]{_share(weight)}[/]",
        )  # fmt: skip
    if len(ordered) > SHOWN:
        table.caption = f"and {len(ordered) - SHOWN} more candidates"
    return table


def _trial(one: Mapping[str, Any]) -> str:
    """A candidate's trial, and its search where that is another one."""
    return str(one["trial"]) if one["run"] is None else f"{one['run']} {one['trial']}"


def _model(told: Mapping[str, Any]) -> Table:
    """What was kept, and of what was tried without gain, that it was."""
    shown = facts()
    count = len(told["members"])
    shown.add_row("members", f"{count}" if count > 1 else "1: no ensemble is as good as it alone")
    shown.add_row("vote", told["vote"])
    if count > 1:
        shown.add_row("diversity", f"two members differ on {told['diversity']:.1%}, on average")
    views = ", ".join(told["tta"]).replace("_", " ")
    shown.add_row("test-time views", views if len(told["tta"]) > 1 else "none that helps")
    fitted = told["tried"]["temperature"].get("fitted")
    tried = f", {fitted:.3g} does not help" if fitted is not None else ""
    warm = told["temperature"]
    shown.add_row("temperature", f"{warm:.3g}" if warm != 1 else f"1{tried}")
    if told["threshold"] is not None:
        shown.add_row("threshold", f"{told['threshold']:.3g}")
    how = ", ".join(f"{k} {v:.2%}" for k, v in told["postprocessing"].items())
    shown.add_row("post-processing", how.replace("_", " ") or "none that helps")
    if told["suspects"]:
        shown.add_row("label suspects", f"{told['suspects']}, worst first in label_suspects.csv")
    return shown


def _figures(metric: str, rows: Mapping[str, Mapping[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    drops = any("drop" in row for row in rows.values())
    titles = ["", metric, *(["95 %", "drop"] if drops else []), "calibration error", "an image"]
    for title in titles:
        table.add_column(title, justify="left" if not title else "right")
    for name in _different(rows):
        row = rows[name]
        between = []
        if drops:
            ends, lost = row["intervals"].get(metric), row["drop"].get(metric)
            between = [
                f"{ends[0]:.4f} to {ends[1]:.4f}" if ends else "-",
                "-" if lost is None else f"{lost:+.4f}",
            ]
        seconds = row["seconds_per_image"]
        table.add_row(
            name, f"[bold]{number(row['metrics'].get(metric))}[/]", *between,
            number(row["calibration_error"]), "-" if seconds is None else time_text(seconds),
        )  # fmt: skip
    return table


def _different(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The rows that there are; the model only where it is none of the others."""
    names = [name for name in ROWS if name in rows]
    others = [_said(rows[name]) for name in names if name != MODEL]
    return [name for name in names if name != MODEL or _said(rows[name]) not in others]


def _said(row: Mapping[str, Any]) -> tuple[Any, Any]:
    return row["nll"], row["metrics"]


def _difference(test: Mapping[str, Any], name: str, metric: str) -> float:
    rows = test["rows"]
    return float(rows[name]["metrics"][metric] - rows["single"]["metrics"][metric])


def _verdict(low: float, high: float) -> str:
    return "" if low > 0 or high < 0 else ", which holds 0"


def _share(weight: float | None) -> str:
    return f"{weight:.3f}" if weight else "-"
