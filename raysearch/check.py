"""`python -m raysearch.check STUDY`: look at every file before a GPU hour is spent on them."""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from raysearch.errors import ConfigError, RunError
from raysearch.records.files import write_json
from raysearch.records.terminal import guarded, make_console
from raysearch.study import load_study, profile_names

GOOD, ERRORS = 0, 1
RESULTS = Path("results")


def parser() -> argparse.ArgumentParser:
    """Return the command line of `raysearch.check`."""
    p = argparse.ArgumentParser(
        prog="python -m raysearch.check",
        description="Look at every file of a data set: damage, duplicates, shortcuts, classes, "
        "sizes and bands. Exit code 0: no errors; 1: damaged or contradictory files; 2: bad input.",
    )
    add = p.add_argument
    add("study", help="a study's name or YAML; `new` writes a first study for the folder --data")
    add("--data", type=Path, metavar="DIR", help="the data set (default: the study's)")
    add("--splits", choices=["honest", "official"], help="how the lists are used")
    add("--profile", help="estimate with this profile of the study (default: as tune, by GPU)")
    add("--seed", type=int, default=0, help="of the splits (default: 0)")
    key = "change a key of the study, such as data.bands=1; may be repeated"
    add("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes", help=key)
    where = (
        "where check.html and check.json go (default: results/<study>/check); of `new`, the YAML"
    )
    add("--output", type=Path, metavar="DIR", help=where)
    fix = "write split lists without what was found (default: beside the data set)"
    add("--fix", nargs="?", const=Path(), type=Path, metavar="DIR", help=fix)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 1 (errors were found), 2 (bad input) or 130 (interrupted)."""
    options = parser().parse_args(argv)
    work = _new if options.study == "new" else _check
    return guarded(lambda: work(options), "nothing is written")


def _new(options: argparse.Namespace) -> int:
    from raysearch.inspection.new_study import write_new

    if options.data is None:
        raise ConfigError("check new: name the folder to look at with --data DIR")
    code: int = write_new(options.data, options.output)
    return code


def _check(options: argparse.Namespace) -> int:
    # These import torch, which --help need not wait for.
    from raysearch.cluster import suited_profile
    from raysearch.inspection import inspect
    from raysearch.inspection.page import write_page
    from raysearch.inspection.table import show_report
    from raysearch.search.prepare import locate

    profile = options.profile or suited_profile(profile_names(options.study))
    study = load_study(options.study, profile, _changes(options))
    study, notes = locate(study, RESULTS)
    assert study.data.path is not None
    console = make_console()
    for note in notes:
        console.print(f"[yellow]{escape(note)}[/]")
    folder = options.output or RESULTS / study.name / "check"
    _make(folder)
    with _progress(console) as progress:
        report = inspect(study, study.data.path, options.seed, progress)
    show_report(console, report)
    write_json(folder / "check.json", report.to_json())
    page = write_page(report, folder / "check.html")
    console.print(f"{escape(str(page))} shows it", soft_wrap=True)
    if options.fix is not None:
        from raysearch.inspection.corrected import write_corrected

        place, use = write_corrected(report, None if options.fix == Path() else options.fix)
        console.print(f"corrected lists: {escape(str(place))}; use them with {escape(use)}",
                      soft_wrap=True)  # fmt: skip
    return GOOD if report.passed else ERRORS


def _changes(options: argparse.Namespace) -> list[str]:
    data = options.data and f"data.path={json.dumps(str(options.data.resolve()))}"
    splits = options.splits and f"data.splits={options.splits}"
    return [*options.changes, *(change for change in (data, splits) if change)]


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"{folder}: cannot be written ({error.strerror}); choose another with --output"
        ) from error


@contextmanager
def _progress(console: Console) -> Iterator[Callable[[int], Callable[[], None]]]:
    """Show how many files are opened, on a terminal alone."""
    bars = Progress(
        TextColumn("opening files"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip

    def begin(total: int) -> Callable[[], None]:
        task = bars.add_task("", total=total)
        return lambda: bars.advance(task)

    with bars:
        yield begin


if __name__ == "__main__":
    sys.exit(main())
