"""What a check has found, in the terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from raysearch.inspection.report import Report
from raysearch.records.terminal.text import duration, facts, millions

STYLES = {"error": "bold red", "warning": "yellow"}
SHOWN = 30
VALUES = 4


def show_report(console: Console, report: Report) -> None:
    """Print what there is, class by class, and every finding."""
    console.rule(f"[bold]{escape(report.study.name)}[/]", align="left", style="dim")
    console.print(_summary(report))
    if report.shares:
        console.print()
        console.print(_class_table(report))
    if len(report.bands) != 3 and report.bands:
        console.print()
        console.print(_band_table(report))
    console.print()
    for finding in report.findings[:SHOWN]:
        style = STYLES[finding.level]
        kind = f"[{style}]{finding.level}[/] [bold]{escape(finding.kind)}[/]"
        console.print(f"{kind}  {escape(finding.words)}", soft_wrap=not console.is_terminal)
    if len(report.findings) > SHOWN:
        console.print(f"and {len(report.findings) - SHOWN} more, see the page")
    console.print(f"[bold]{verdict(report)}[/]")


def verdict(report: Report) -> str:
    """Return the number of errors and warnings in words."""
    levels = [finding.level for finding in report.findings]
    if not levels:
        return "nothing wrong or strange was found"
    counted = ((levels.count(name), name) for name in ("error", "warning"))
    return ", ".join(f"{n} {name}{'s' if n > 1 else ''}" for n, name in counted if n)


def _summary(report: Report) -> Table:
    shown = facts()
    shown.add_row("data", escape(f"{report.root} ({report.study.data.format})"))
    shown.add_row("images", escape(splits_text(report)))
    sizes = [f"{size}: {count}" for size, count in list(report.sizes.items())[:VALUES]]
    more = len(report.sizes) - VALUES
    shown.add_row("sizes", ", ".join(sizes) + (f" and {more} more" if more > 0 else ""))
    for fact in report.facts:
        if fact.name in ("file format", "mode", "camera", "folder") and len(fact.values) <= 12:
            told = ", ".join(f"{value}: {count}" for value, count in fact.values.items())
            shown.add_row(fact.name, escape(told))
    if report.no_data:
        shown.add_row("no data", f"{report.no_data:.2%} of all values")
    shown.add_row("estimates", escape(_estimates_text(report)))
    shown.add_row("took", duration(report.seconds))
    return shown


def splits_text(report: Report) -> str:
    """Return how many images the lists name, and what a search takes of them."""
    listed = ", ".join(
        f"{n} {name}" if name else f"{n} in no list" for name, n in report.listed.items()
    )
    used = ", ".join(f"{n} {name}" for name, n in report.used.items() if n)
    dropped = f", {len(report.dropped)} left out" if report.dropped else ""
    return f"{listed or 'none'}; used as {used or 'nothing'}{dropped}"


def _estimates_text(report: Report) -> str:
    lines = [f"cache about {bytes_text(report.cache_bytes)}"]
    lines += [
        f"{m.architecture}: about {bytes_text(m.total)} for a trial in float32 "
        f"({millions(m.parameters)} parameters, {m.batch_size} images of {m.side} pixels)"
        for m in report.memory
    ]
    return "\n".join(lines)


def bytes_text(count: float) -> str:
    """Return a number of bytes as people say it: 312 MB, 4.7 GB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"


def filled_splits(report: Report) -> list[str]:
    """Return the splits that have images, "" for what none of them takes."""
    images = report.shares[0].images if report.shares else {}
    return [name for name in images if any(s.images[name] for s in report.shares)]


def _class_table(report: Report) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="dim", pad_edge=False)
    table.add_column("class", style="cyan")
    table.add_column(
        "share of pixels" if report.study.what.segments else "share of images", justify="right"
    )
    splits = filled_splits(report)
    for title in ("images", *(name or "left out" for name in splits)):
        table.add_column(title, justify="right")
    for share in report.shares:
        counts = [str(share.images[name]) for name in splits]
        table.add_row(escape(share.name), f"{share.pixels:.2%}", str(share.total), *counts)
    return table


def _band_table(report: Report) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="dim", pad_edge=False)
    for title in ("band", "least", "1 %", "mean", "99 %", "greatest", "deviation"):
        table.add_column(title, justify="right")
    for band in report.bands:
        values = (band.low, band.first, band.mean, band.last, band.high, band.std)
        table.add_row(str(band.number), *(f"{value:.4g}" for value in values))
    return table
