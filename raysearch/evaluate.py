"""`python -m raysearch.evaluate RUN`: what the best trial is worth on images held out of it all."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape

from raysearch.records.run_folder import find_ended
from raysearch.records.terminal import guarded, make_console
from raysearch.study import load_study


def parser() -> argparse.ArgumentParser:
    """Return the command line of `raysearch.evaluate`."""
    p = argparse.ArgumentParser(
        prog="python -m raysearch.evaluate",
        description="Measure a search's best trial on its test split, or on other images.",
    )
    p.add_argument("run", metavar="RUN", help="study (its latest), study/run, run, or a path")
    p.add_argument("--split", choices=["test", "val"], default="test", help="default: test")
    other = "another folder of the study's format: its images of that split, or all without lists"
    p.add_argument("--data", type=Path, metavar="DIR", help=other)
    p.add_argument("--trial", type=int, metavar="N", help="another trial than the best")
    p.add_argument("--output", default="results", metavar="DIR", help="where the searches are")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 2 for what cannot be done, or 130 when interrupted."""
    argv = sys.argv[1:] if argv is None else list(argv)
    command = shlex.join(["python", "-m", "raysearch.evaluate", *argv])
    options = parser().parse_args(argv)
    return guarded(lambda: _run(options, command), "nothing is written")


def _run(options: argparse.Namespace, command: str) -> None:
    run = find_ended(options.output, options.run, "measure")
    from raysearch.records.evaluation import evaluate_run
    from raysearch.records.terminal.evaluated import show_evaluation

    console = make_console()
    told = evaluate_run(run, options.split, options.data, options.trial, command)
    show_evaluation(console, load_study(str(run.study_file)), told)
    console.print(f"\nwritten to {escape(str(run.path / told['file']))}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
