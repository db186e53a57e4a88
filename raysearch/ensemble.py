"""`python -m raysearch.ensemble RUN`: the best model that a search's trials make together."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape

from raysearch.errors import ConfigError, RunError
from raysearch.records.run_folder import RunFolder, find_ended
from raysearch.records.terminal import guarded, make_console

SEEDS = 3  # Of a finalist.


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
    scales = "try views at these scales too, such as 0.75 1.25"
    p.add_argument("--tta-scales", type=_positive, nargs="+", default=(), metavar="S", help=scales)
    draws = "try the mean over N random views too"
    p.add_argument("--tta-draws", type=_whole, default=0, metavar="N", help=draws)
    p.add_argument("--no-test", action="store_true", help="leave the test split closed")
    how = "in runs of their own beside the search; the same command goes on after an interruption"
    again = p.add_argument_group("training again", how)
    best = "train the best K trials from scratch, rank them by mean and spread, take them too"
    again.add_argument("--finalists", type=_whole, metavar="K", help=best)
    seeds = "how often a finalist, or the champion of --ablate, is trained; default: 3, or 1"
    again.add_argument("--seeds", type=_whole, metavar="S", help=seeds)
    refit = "train the members on training and validation images together"
    again.add_argument("--refit", action="store_true", help=refit)
    ablate = "train the best trial without each of its techniques: what each of them gains"
    again.add_argument("--ablate", action="store_true", help=ablate)
    p.add_argument("--output", default="results", metavar="DIR", help="where the searches are")
    p.add_argument("--address", help="of a running Ray cluster (default: RAY_ADDRESS, or here)")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 2 for what cannot be done, or 130 when interrupted."""
    argv = sys.argv[1:] if argv is None else list(argv)
    command = shlex.join(["python", "-m", "raysearch.ensemble", *argv])
    options = parser().parse_args(argv)
    return guarded(lambda: _run(options, command), "the same command goes on with what is there")


def _run(options: argparse.Namespace, command: str) -> None:
    run, *others = (_ended(options.output, name) for name in (options.run, *options.others))
    if options.seeds and not (options.finalists or options.ablate):
        raise ConfigError("--seeds: says how often --finalists or --ablate train; name one of them")
    if options.finalists:
        others.append(_finalists(run, options, command))
    only = options.refit or options.ablate
    if options.finalists or not only or (options.refit and not _file(run).is_file()):
        _ensemble(run, others, options, command)
    if options.refit:
        _refit(run, options, command)
    if options.ablate:
        _ablate(run, options, command)


def _file(run: RunFolder) -> Path:
    return run.path / "ensemble.json"


def _ensemble(
    run: RunFolder, others: Sequence[RunFolder], options: argparse.Namespace, command: str
) -> None:
    from raysearch.inference.selection import Limits
    from raysearch.inference.tta import Views
    from raysearch.search.together import make_ensemble

    limits, console = Limits(options.members, options.max_ms, options.max_gb), make_console()
    views = Views(tuple(options.tta_scales), options.tta_draws)
    test = not options.no_test
    make_ensemble(run, console, limits, test, command, others, options.address, views)
    _say_written(_file(run))


def _finalists(run: RunFolder, options: argparse.Namespace, command: str) -> RunFolder:
    from raysearch.records.again import write_finalists
    from raysearch.records.terminal.again import show_finalists
    from raysearch.search.again import train_finalists

    seeds = options.seeds or SEEDS
    again = train_finalists(run, options.finalists, seeds, command, options.address)
    show_finalists(make_console(), write_finalists(run, again, command))
    _say_written(run.path / "finalists.json")
    return again


def _refit(run: RunFolder, options: argparse.Namespace, command: str) -> None:
    from raysearch.inference.models import REFIT_FOLDER
    from raysearch.records.refit import write_refit
    from raysearch.records.terminal.again import show_refit
    from raysearch.search.again import train_on_all

    again = train_on_all(run, command, options.address)
    show_refit(make_console(), write_refit(run, again, command, not options.no_test))
    _say_written(run.path / REFIT_FOLDER)


def _ablate(run: RunFolder, options: argparse.Namespace, command: str) -> None:
    from raysearch.records.again import write_ablation
    from raysearch.records.terminal.again import show_ablation
    from raysearch.search.again import train_without

    again = train_without(run, options.seeds or 1, command, options.address)
    show_ablation(make_console(), write_ablation(run, again, command))
    _say_written(run.path / "ablation.json")


def _say_written(path: Path) -> None:
    make_console().print(f"\nwritten to {escape(str(path))}", soft_wrap=True)


def _ended(output: str, name: str) -> RunFolder:
    run = find_ended(output, name, "make the ensemble")
    again = run.info.get("again", {})
    if again.get("kind") == "refit":
        raise RunError(
            f"{run.name}: has learned from its validation images, so that they can choose nothing; "
            f"name the search, {again['name']}"
        )
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
