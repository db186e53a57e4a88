"""`python -m raysearch.ensemble RUN`: the best model that a search's trials make together."""

import argparse
import shlex
import sys
from collections.abc import Sequence

from rich.markup import escape

from raysearch.errors import RaysearchError, RunError
from raysearch.records.run_folder import RunFolder, find_run
from raysearch.records.terminal import make_console

BAD_INPUT, INTERRUPTED = 2, 130


def parser() -> argparse.ArgumentParser:
    """Return the command line of `raysearch.ensemble`."""
    p = argparse.ArgumentParser(
        prog="python -m raysearch.ensemble",
        description="Make an ensemble of a search's trials on validation images, then measure it "
        "on the test split.",
    )
    p.add_argument("run", metavar="RUN", help="study (its latest), study/run, run, or a path")
    more = "another search over the same images, split alike: its trials are candidates too"
    p.add_argument("--with", action="append", default=[], metavar="RUN", dest="others", help=more)
    p.add_argument("--members", type=_whole, default=5, metavar="N", help="at most; default: 5")
    time = "networks may take so many milliseconds an image, on this machine"
    p.add_argument("--max-ms", type=_positive, metavar="MS", help=time)
    p.add_argument("--max-gb", type=_positive, metavar="GB", help="weights may have so many")
    p.add_argument("--no-test", action="store_true", help="leave the test split closed")
    p.add_argument("--output", default="results", metavar="DIR", help="where the searches are")
    p.add_argument("--address", help="of a running Ray cluster (default: RAY_ADDRESS, or here)")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 2 for what cannot be done, or 130 when interrupted."""
    argv = sys.argv[1:] if argv is None else list(argv)
    command = shlex.join(["python", "-m", "raysearch.ensemble", *argv])
    try:
        _run(parser().parse_args(argv), command)
    except RaysearchError as error:
        console = make_console(stderr=True)
        console.print(f"[bold red]error:[/] {escape(str(error))}", soft_wrap=True)
        return BAD_INPUT
    except KeyboardInterrupt:
        make_console(stderr=True).print("interrupted; no ensemble is written")
        return INTERRUPTED
    return 0


def _run(options: argparse.Namespace, command: str) -> None:
    run, *others = (_ended(options.output, name) for name in (options.run, *options.others))
    from raysearch.inference.selection import Limits
    from raysearch.search.together import make_ensemble

    limits, console = Limits(options.members, options.max_ms, options.max_gb), make_console()
    make_ensemble(run, console, limits, not options.no_test, command, others, options.address)
    console.print(f"\nwritten to {escape(str(run.path / 'ensemble.json'))}", soft_wrap=True)


def _ended(output: str, name: str) -> RunFolder:
    run = RunFolder.open(find_run(output, name).path)
    owner = run.owner()
    if owner is not None:
        raise RunError(f"{run.name} runs as {owner}; make the ensemble when the search has ended")
    return run


def _whole(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _positive(text: str) -> float:
    number = float(text)
    if not number > 0:
        raise ValueError
    return number


_whole.__name__, _positive.__name__ = "whole number above 0", "number above 0"

if __name__ == "__main__":
    sys.exit(main())
