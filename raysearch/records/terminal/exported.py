"""What an export says: its files, how fast each form of the model is, and what that costs."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from raysearch.inference.choose import ENSEMBLE, SINGLE
from raysearch.records.speeds import EIGHT_BITS, ONNX, STUDENT
from raysearch.records.terminal.evaluated import opened_text
from raysearch.records.terminal.text import number


def show_export(console: Console, told: Mapping[str, Any]) -> None:
    """Print what `raysearch.records.exported.export` returned."""
    console.print()
    console.print(_files(told))
    console.print(escape(f"checked on {told['checked']}"), soft_wrap=True)
    if "rows" in told:
        console.print()
        console.print(_table(told))
        console.print(f"[dim]{escape(told['where'])}; medians after a warm-up[/]", soft_wrap=True)
        for line in _findings(told):
            console.print(escape(line), soft_wrap=True)
    if "opened" in told:
        console.print(f"test split: {opened_text(told['opened'])}", soft_wrap=True)
    console.print(f"\nwritten to {escape(told['folder'])}", soft_wrap=True)
    console.print("\n[bold]next[/]")
    console.print(f"  {escape(_next(told))}", soft_wrap=True)


def _files(told: Mapping[str, Any]) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    table.add_column("file")
    for title in ("MB", "largest difference from PyTorch"):
        table.add_column(title, justify="right")
    for name, one in told["files"].items():
        difference = one["difference"]
        shown = "see below" if difference is None else f"{difference:.1e}"
        table.add_row(name, f"{one['bytes'] / 1e6:.1f}", shown)
    return table


def _table(told: Mapping[str, Any]) -> Table:
    """A row for each form of each model: times of one image, by the images asked about at once."""
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    metric, tested = told["metric"], "test" in told["gain"]
    measured = bool(told["images"])
    titles = ["ms, batch 1", "images/s", "ms, batch 8", "images/s", "MB"]
    titles += [f"{metric}", "differs"] if measured else []
    titles += ["test"] if tested else []
    for title in ("model", "engine"):
        table.add_column(title)
    for title in titles:
        table.add_column(title, justify="right")
    previous = ""
    for row in told["rows"]:
        where = "" if row["device"] == "cpu" else f" ({row['device']})"
        cells = [row["model"] if row["model"] != previous else "", row["engine"] + where]
        cells += [*_times(row), f"{row['megabytes']:.1f}"]
        if measured:
            share = row.get("differs")
            cells += [number(row.get("value")), "-" if share is None else f"{share:.2%}"]
        cells += [number(row.get("test_value"))] if tested else []
        table.add_row(*cells)
        previous = row["model"]
    return table


def _times(row: Mapping[str, Any]) -> list[str]:
    found = []
    for count in ("1", "8"):
        milliseconds = row["ms"].get(count)
        if milliseconds is None:
            found += ["-", "-"]
        else:
            found += [f"{milliseconds:.1f}", f"{row['images_per_second'][count]:.1f}"]
    return found


def _findings(told: Mapping[str, Any]) -> list[str]:
    """What the table does not say: reasons, the loss by 8 bits, and what a student keeps."""
    lines = [
        f"{row['model']}, {row['engine']}: {row['reason']}" for row in told["rows"] if row["reason"]
    ]
    for name, one in told["minus"].items():
        if not name.endswith(EIGHT_BITS):
            continue
        ends = one["interval"]
        between = f", paired 95 % interval {ends[0]:+.4f} to {ends[1]:+.4f}" if ends else ""
        lines.append(
            f"{name} minus PyTorch: {told['metric']} {one['difference']:+.4f}{between}, on "
            f"{told['images']} validation images"
        )
    for split, values in told["gain"].items():
        if "kept" in values:
            whole = next(value for name, value in values.items() if name.startswith(ENSEMBLE))
            lines.append(
                f"{STUDENT} on {split}: {told['metric']} {values[STUDENT]:.4f}, best single "
                f"{values[SINGLE]:.4f}, ensemble {whole:.4f}: it keeps {values['kept']:.0%} of the "
                f"gain of {whole - values[SINGLE]:+.4f}"
            )
    times = {row["model"]: row["ms"].get("1") for row in told["rows"] if row["engine"] == ONNX}
    if STUDENT in times and (slow := next((v for k, v in times.items() if ENSEMBLE in k), None)):
        lines.append(
            f"{STUDENT}: {slow / times[STUDENT]:.1f} times as fast as the ensemble, as ONNX"
        )
    return lines


def _next(told: Mapping[str, Any]) -> str:
    path = Path(told["folder"]) / next(iter(told["files"]))
    code = (
        "from raysearch.inference.onnx import OnnxModel; "
        f'm = OnnxModel("{path}"); print(*m.about["preparation"], sep="\\n")'
    )
    return f"python -c {shlex.quote(code)}"
