"""`python -m raysearch.export MODEL`: ONNX files that say what PyTorch says, and their speed."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from raysearch.errors import ConfigError, RunError, closest
from raysearch.records.run_folder import RunFolder, find_ended, find_run
from raysearch.records.terminal import guarded, make_console

if TYPE_CHECKING:  # It imports torch, which --help and mistakes need not wait for.
    from raysearch.config import Recipe

REGISTRY = "models:/"
HOLDS_WEIGHTS = ("best", "trials", "ensemble.json")  # One of these does, in a folder of a model.


def parser() -> argparse.ArgumentParser:
    """Return the command line of `raysearch.export`."""
    p = argparse.ArgumentParser(
        prog="python -m raysearch.export",
        description="Write a model as an ONNX file that takes images and gives probabilities, once "
        "its answers are found to be PyTorch's; then time and measure every form of it.",
    )
    named = (
        "a search (its ensemble, else its best trial), by name or path, a trial's folder, or a "
        "model of MLflow's registry, such as models:/animals@champion"
    )
    p.add_argument("model", metavar="MODEL", help=named)
    where = "where the files go (default: export/ in the model's folder)"
    p.add_argument("--output", type=Path, metavar="DIR", help=where)
    fixed = "fix the height and width of images (default: any, in multiples of 32)"
    p.add_argument("--size", type=_size, metavar="HxW", help=fixed)
    alone = "only the ensemble's network of trial N, without views"
    p.add_argument("--member", type=int, metavar="N", help=alone)
    p.add_argument("--no-tta", action="store_true", help="leave out test-time views")
    eight = "also a file of 8 bits for CPUs, calibrated on training images"
    p.add_argument("--int8", action="store_true", help=eight)
    taught = "train one student from the ensemble first, and export it too"
    p.add_argument("--distil", action="store_true", help=taught)
    like = "the student's recipe: a trial's number, or an architecture (default: the best trial's)"
    p.add_argument("--student", metavar="WHICH", help=like)
    p.add_argument("--no-speed", action="store_true", help="neither time nor measure the files")
    more = "check (and calibrate) on these files, folders or patterns, not on the search's images"
    p.add_argument("--images", nargs="+", default=[], metavar="IMAGE", help=more)
    most = "validation images that quality is measured on, at most (default: 500)"
    p.add_argument("--most", type=int, default=500, metavar="N", help=most)
    limit = "seconds that torch.compile may take for each model (default: 240)"
    p.add_argument("--compile-seconds", type=float, default=240.0, metavar="S", help=limit)
    opened = "measure on the test split too, which is one more opening of it"
    p.add_argument("--test", action="store_true", help=opened)
    device = "of PyTorch's rows in the table: cpu (default), cuda or mps"
    p.add_argument("--device", default="cpu", choices=["cpu", "cuda", "mps"], help=device)
    p.add_argument("--results", default="results", metavar="DIR", help="where the searches are")
    p.add_argument("--address", help="of a running Ray cluster, for --distil")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 2 for what cannot be done, or 130 when interrupted."""
    argv = sys.argv[1:] if argv is None else list(argv)
    command = shlex.join(["python", "-m", "raysearch.export", *argv])
    options = parser().parse_args(argv)
    return guarded(lambda: _run(options, command), "files that are whole stay")


def _run(options: argparse.Namespace, command: str) -> None:
    _check(options)
    folder = _folder(options)
    output = options.output or folder / "export"
    student = _student(options, folder, command) if options.distil else None
    import torch

    from raysearch.records.exported import Wanted, export
    from raysearch.records.terminal.exported import show_export

    console = make_console()
    wanted = Wanted(
        options.size, options.member, not options.no_tta, options.int8, not options.no_speed,
        tuple(options.images), student, options.test, options.most,
        options.compile_seconds,
    )  # fmt: skip

    def say(text: str) -> None:
        console.print(escape(text), style="dim", soft_wrap=True)

    told = export(folder, output, wanted, command, torch.device(options.device), say)
    show_export(console, told)


def _check(options: argparse.Namespace) -> None:
    """Refuse what does not go together before anything is loaded."""
    if options.student and not options.distil:
        raise ConfigError("--student: says what --distil shall train; add --distil")
    if options.member is not None and options.distil:
        raise ConfigError("--member and --distil: a student learns from all members; leave one out")
    if options.most < 1:
        raise ConfigError(f"--most {options.most}: must be 1 or more")
    if options.test and options.no_speed:
        raise ConfigError("--test and --no-speed: nothing is measured without the table")
    if options.device == "cpu":
        return
    import torch

    if not (torch.cuda if options.device == "cuda" else torch.backends.mps).is_available():
        raise ConfigError(f"--device {options.device}: is not here; leave it out")


def _folder(options: argparse.Namespace) -> Path:
    """The folder of a trial or a search, or of a model that was taken out of one."""
    name, path = options.model, Path(options.model)
    if name.startswith(REGISTRY):
        from raysearch.records.registry import bundle_of

        if options.output is None:
            raise ConfigError(f"{name}: name the folder for its files with --output")
        return bundle_of(name, Path(options.results))
    if any((path / one).exists() for one in HOLDS_WEIGHTS):
        return path
    if path.parent.name == "trials" and path.is_dir():
        raise RunError(f"{path}: this trial has not kept its weights; choose another")
    return find_run(options.results, name).path


def _student(options: argparse.Namespace, folder: Path, command: str) -> Path:
    """Train a student from the search's ensemble; return the folder of its trial."""
    if not (folder / "ensemble.json").is_file() or not (folder / "run.json").is_file():
        raise ConfigError(
            f"{folder}: --distil needs a search with an ensemble to learn from; make one with "
            "`python -m raysearch.ensemble`"
        )
    run = find_ended(options.results, str(folder), "distil")
    from raysearch.inference.models import load_model
    from raysearch.search.again import distil

    teachers = [member.place for member in load_model(folder).members]
    recipe = _recipe(run, options.student)
    return distil(run, recipe, teachers, command, options.address).trial_folder(0)


def _recipe(run: RunFolder, which: str | None) -> "Recipe":
    """The recipe of a trial by number, of an architecture's best trial, or of the best of all."""
    from raysearch.records.leaderboard import ranked
    from raysearch.study import load_study

    objective = load_study(str(run.study_file)).objective
    valued = [one for one in ranked(run.trials(), objective) if one.value is not None]
    named: dict[str, Any] = {}
    for one in valued:
        named.setdefault(one.recipe.architecture, one.recipe)
        named.setdefault(str(one.number), one.recipe)
    if not valued:
        raise RunError(f"{run.name}: no trial of it has a value; finish the search first")
    if which is not None and which not in named:
        raise ConfigError(f"--student '{which}': no such trial. {closest(which, named)}")
    found: Recipe = valued[0].recipe if which is None else named[which]
    return found


def _size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    return int(height), int(width or height)


_size.__name__ = "size such as 512 or 384x512"

if __name__ == "__main__":
    sys.exit(main())
