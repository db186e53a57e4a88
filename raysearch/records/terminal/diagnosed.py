"""What the doctor has found, and what to do about it."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red"}
Row = Mapping[str, str]  # check, node, found, verdict, repair


def show_diagnosis(console: Console, rows: Sequence[Row]) -> None:
    """Print a table of what was found, and a line for all that should be done."""
    console.print(_table(rows))
    repairs = _repairs(rows)
    if repairs:
        console.print("\n[bold]what to do[/]")
    for row, nodes in repairs:
        style, where = STYLES[row["verdict"]], f"{row['check']}, {nodes}"
        console.print(f"[{style}]{escape(where)}:[/] {escape(row['repair'])}", soft_wrap=True)
    console.print(f"\n[bold]{verdict(rows)}[/]")


def verdict(rows: Sequence[Row]) -> str:
    """Return the numbers of failures and warnings in words."""
    verdicts = [row["verdict"] for row in rows]
    counted = {"failed": verdicts.count("failed"), "warning": verdicts.count("warning")}
    if not any(counted.values()):
        return "all is well"
    plural = "" if counted["warning"] == 1 else "s"
    return f"{counted['failed']} failed, {counted['warning']} warning{plural}"


def _table(rows: Sequence[Row]) -> Table:
    """Nodes that are alike share a row."""
    table = Table(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    table.add_column("check", no_wrap=True, style="cyan")
    table.add_column("node", overflow="fold", max_width=28)
    table.add_column("found", overflow="fold")
    table.add_column("verdict", no_wrap=True)
    before = ""
    for row, nodes in _together(rows, ("check", "found", "verdict")):
        name = row["check"] if row["check"] != before else ""
        style = STYLES[row["verdict"]]
        told = f"[{style}]{row['verdict']}[/]"
        table.add_row(escape(name), escape(nodes), escape(row["found"]), told)
        before = row["check"]
    return table


def _repairs(rows: Sequence[Row]) -> list[tuple[Row, str]]:
    wanting = [row for row in rows if row["verdict"] != "ok"]
    return _together(wanting, ("check", "verdict", "repair"))


def _together(rows: Sequence[Row], keys: Sequence[str]) -> list[tuple[Row, str]]:
    """Return the first of the rows that have the same values, each with the nodes of all."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    return [(group[0], _nodes(group, rows)) for group in groups.values()]


def _nodes(group: Sequence[Row], rows: Sequence[Row]) -> str:
    nodes = list(dict.fromkeys(row["node"] for row in group))
    asked = {row["node"] for row in rows if row["check"] == group[0]["check"]}
    return f"all {len(nodes)}" if len(nodes) > 1 and len(nodes) == len(asked) else ", ".join(nodes)
