"""`python -m raysearch.doctor [cluster.yaml]`: what would go wrong, before money is spent."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from raysearch import __version__
from raysearch.records.files import write_json
from raysearch.records.terminal import guarded, make_console

GOOD, FAILED = 0, 1


def parser() -> argparse.ArgumentParser:
    """Return the command line of `raysearch.doctor`."""
    p = argparse.ArgumentParser(
        prog="python -m raysearch.doctor",
        description="Look at this machine, at a cluster file, and at every node of the cluster "
        "that runs: versions, GPUs, disks, storage, tracking, clocks, network, authentication. "
        "Exit code 0: nothing failed; 1: something did; 2: bad input.",
    )
    add = p.add_argument
    file = "of a cluster that is to be started, with what it needs on this machine"
    add("cluster_file", nargs="?", type=Path, metavar="cluster.yaml", help=file)
    where = "of a running Ray cluster (default: RAY_ADDRESS, or the one that runs here, if any)"
    add("--address", metavar="HOST:PORT", help=f"{where}; local leaves it out")
    add("--output", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    add("--storage", default="", metavar="URI", help="of runs, such as s3://bucket/folder")
    add("--json", type=Path, metavar="FILE", help="write what was found there too")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 1 (something failed), 2 (bad input) or 130 (interrupted)."""
    options = parser().parse_args(argv)
    return guarded(lambda: _run(options), "nothing is written")


def _run(options: argparse.Namespace) -> int:
    # These import torch and Ray, which --help need not wait for.
    from raysearch.diagnosis.examine import Asked, examine
    from raysearch.diagnosis.result import passed
    from raysearch.records.evaluation import CACHE
    from raysearch.records.terminal.diagnosed import show_diagnosis

    asked = Asked(options.cluster_file, options.address, options.output, options.storage, CACHE)
    console = make_console()
    with console.status("looking"):
        results = examine(asked)
    rows = [result.to_json() for result in results]
    good = passed(results)
    show_diagnosis(console, rows)
    if options.json is not None:
        write_json(options.json, {"raysearch": __version__, "passed": good, "results": rows})
    return GOOD if good else FAILED


if __name__ == "__main__":
    sys.exit(main())
