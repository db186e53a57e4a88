"""`python -m raysearch.tune STUDY`: from a folder of images to a leaderboard."""

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raysearch.config import Study
from raysearch.errors import ConfigError, RaysearchError, RunError
from raysearch.records import terminal
from raysearch.study import load_study, parse_value, profile_names, single

INTERRUPTED = 130


def parser() -> argparse.ArgumentParser:
    """Return the command line of `raysearch.tune`."""
    p = argparse.ArgumentParser(
        prog="python -m raysearch.tune",
        description="Search the best model for a data set: Ray Tune, Optuna and ASHA.",
    )
    p.add_argument("study", help="a file in search_spaces/ without its ending, or a YAML's path")
    p.add_argument("--data", type=Path, metavar="DIR", help="the data set (default: the study's)")
    p.add_argument("--splits", choices=["honest", "official"], help="how the lists are used")
    p.add_argument("--profile", help="quick, full, or another of the study (default: by GPU)")
    p.add_argument("--trials", metavar="N", help="number of trials; +N with --resume adds to it")
    p.add_argument("--epochs", type=int, metavar="N", help="most epochs of a trial")
    p.add_argument("--minutes", type=float, metavar="M", help="time for the search")
    p.add_argument("--seed", type=int, help="of splits, sampler and training (default: 0)")
    p.add_argument("--output", type=Path, default=Path("results"), help="default: results")
    p.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="changes",
        help="change a key of the study, such as fixed.schedule=cosine; may be repeated",
    )  # fmt: skip
    p.add_argument("--launcher", choices=["auto", "train", "inline"], help="how trials run")
    p.add_argument("--address", help="of a running Ray cluster (default: RAY_ADDRESS, or local)")
    what = p.add_mutually_exclusive_group()
    what.add_argument("--dry-run", action="store_true", help="check all input, print the plan")
    what.add_argument(
        "--resume", nargs="?", const="latest", metavar="RUN",
        help="finish an interrupted search, or extend a finished one (default: the latest)",
    )  # fmt: skip
    what.add_argument("--one", nargs="*", metavar="KEY=VALUE", help="train a single configuration")
    what.add_argument("--overfit-batch", action="store_true", help="learn one batch by heart")
    p.add_argument("--start-from", metavar="RUN", help="begin with the best points of this search")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code: 0, 1 (every trial failed), 2 (bad input) or 130."""
    options = parser().parse_args(argv)
    command = shlex.join(["python", "-m", "raysearch.tune", *(argv or sys.argv[1:])])
    try:
        return run(options, command)
    except RaysearchError as error:
        terminal.error(error)
        return 2
    except KeyboardInterrupt:
        terminal.interrupted()
        return INTERRUPTED


def run(options: argparse.Namespace, command: str) -> int:
    """Do what the command line asks for."""
    from raysearch.search.session import Job, begin, overfit, plan, resume

    if options.resume is not None:
        study, folder = _resumed(options)
        return resume(folder, study, options, command)
    study = _study(options)
    job = Job(study, options.output, options.seed or 0, options.address, command)
    if options.dry_run:
        return plan(job)
    if options.overfit_batch:
        return overfit(job)
    return begin(job)
