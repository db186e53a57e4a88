"""`python -m raysearch.report RUN`: one HTML page about a search, from its records alone."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape

from raysearch.records.run_folder import find_run
from raysearch.records.terminal import guarded, make_console


def parser() -> argparse.ArgumentParser:
    """Return the command line of `raysearch.report`."""
    p = argparse.ArgumentParser(
        prog="python -m raysearch.report",
        description="Write one self-contained HTML page about a search.",
    )
    p.add_argument("run", metavar="RUN", help="study (its latest), study/run, run, or a path")
    there = "where the page goes (default: report.html in the run's folder)"
    p.add_argument("--output", type=Path, metavar="FILE", help=there)
    p.add_argument("--results", default="results", metavar="DIR", help="where the searches are")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 2 for what cannot be done, or 130 when interrupted."""
    options = parser().parse_args(argv)
    return guarded(lambda: _run(options), "nothing is written")


def _run(options: argparse.Namespace) -> None:
    run = find_run(options.results, options.run)
    from raysearch.records.report.page import write_report

    path = write_report(run, options.output)
    make_console().print(f"written to {escape(str(path))}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
