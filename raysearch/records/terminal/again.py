"""What trainings again have shown: finalists by mean and spread, techniques by gain, the refit."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from raysearch.records.terminal.evaluated import opened_text, time_text
from raysearch.records.terminal.text import number


def show_finalists(console: Console, told: Mapping[str, Any]) -> None:
    """Print finalists.json, the best mean first."""
    table = _table(
        "trial", "architecture", "as searched", "mean", "std", "least", "greatest", "trained",
        left=("architecture",),
    )  # fmt: skip
    for one in told["finalists"]:
        table.add_row(
            str(one["trial"]), escape(one["architecture"]), number(one["searched"]),
            f"[bold]{number(one['mean'])}[/]", number(one["std"]), number(one["min"]),
            number(one["max"]), f"{one['n']} of {len(told['seeds'][str(one['trial'])])}",
        )  # fmt: skip
    console.print(f"\n[bold]finalists[/], trained again: {escape(told['metric'])} on validation")
    console.print(table)
    _show_run(console, told)


def show_ablation(console: Console, told: Mapping[str, Any]) -> None:
    """Print ablation.json, the technique that gains most first."""
    metric, champion = told["metric"], told["champion"]
    several = len(told["seeds"]) > 1
    beside = ["std"] if several else []
    table = _table("without", metric, "gain", *beside, "instead", left=("without", "instead"))
    own = escape(f"nothing ({champion['architecture']})")
    table.add_row(own, number(champion["mean"]), "", *[""] * several, "")
    for one in told["techniques"]:
        gain = one["gain"]["mean"]
        spread = [number(one["gain"]["std"])] if several else []
        table.add_row(
            escape(one["technique"]), number(one["mean"]),
            "-" if gain is None else f"[bold]{gain:+.4f}[/]", *spread, escape(_changed(one["off"])),
        )  # fmt: skip
    console.print(
        f"\n[bold]techniques[/] of trial {champion['trial']}, each left out once; a gain above 0 "
        "says that it helps"
    )
    console.print(table)
    if not several:
        console.print(
            "one seed each: a gain below what seeds differ by is chance (see --seeds and "
            "--finalists)", style="dim",
        )  # fmt: skip
    _show_run(console, told)


def show_refit(console: Console, told: Mapping[str, Any]) -> None:
    """Print what refit/ensemble.json says of the members and the test split."""
    members = ", ".join(f"{one['epochs']} epochs" for one in told["members"])
    console.print(
        f"\n[bold]refit[/] {len(told['members'])} members on training and validation images "
        f"({members})"
    )
    test, metric = told["test"], told["metric"]
    if test is None:
        console.print("the test split stays closed")
        return
    console.print(f"[bold]test[/], {test['images']} images, {opened_text(test['opened'])}")
    table = _table("", metric, "95 %", "calibration error", "an image", left=("",))
    for name, row in test["rows"].items():
        ends = row["intervals"].get(metric)
        table.add_row(
            name, f"[bold]{number(row['metrics'].get(metric))}[/]",
            f"{ends[0]:.4f} to {ends[1]:.4f}" if ends else "-",
            number(row["calibration_error"]), time_text(row["seconds_per_image"]),
        )  # fmt: skip
    console.print(table)
    if ends := test["minus_model"].get(metric):
        gain = test["rows"]["refit"]["metrics"][metric] - test["rows"]["model"]["metrics"][metric]
        verdict = "" if ends[0] > 0 or ends[1] < 0 else ", which holds 0"
        console.print(
            f"refit minus model: {gain:+.4f}, paired 95 % interval {ends[0]:+.4f} to "
            f"{ends[1]:+.4f}{verdict}"
        )


def _table(*titles: str, left: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    for title in titles:
        table.add_column(title, justify="left" if title in left else "right", overflow="fold")
    return table


def _changed(off: Mapping[str, Any]) -> str:
    """What a technique is replaced by, such as schedule constant."""
    flat: dict[str, Any] = {}
    for key, value in off.items():
        flat |= value if key == "network" else {key: value}
    return ", ".join(f"{key} {_value(value)}" for key, value in flat.items())


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return " + ".join(f"{weight:g}*{term}" for term, weight in value.items())
    return "none" if value is None else "off" if value is False else str(value)


def _show_run(console: Console, told: Mapping[str, Any]) -> None:
    console.print(f"trained as {escape(told['again'])}", style="dim", soft_wrap=True)
