"""`python -m raysearch.predict MODEL IMAGES`: masks or classes of new images."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape

from raysearch.errors import ConfigError, RaysearchError, RunError
from raysearch.inference.files import data_of, find_images
from raysearch.inference.models import Model, load_model
from raysearch.inference.prediction import Outcome, Wanted, Watcher, adjusted, predict
from raysearch.records.run_folder import find_run
from raysearch.records.terminal import make_console
from raysearch.records.terminal.predicted import PredictionProgress
from raysearch.training.checkpoint import BEST
from raysearch.training.device import find_device

SKIPPED, BAD_INPUT, INTERRUPTED = 1, 2, 130
DEVICES = ("cpu", "cuda", "mps")
MASKS_ONLY = ("overlay", "palette", "tile", "size")
MUCH_LARGER = 3  # Than the crops of training: so large an image rarely shows things at their size.


def parser() -> argparse.ArgumentParser:
    """Return the command line of `raysearch.predict`."""
    p = argparse.ArgumentParser(
        prog="python -m raysearch.predict",
        description="Write masks of new images, or their likeliest classes, and a table.",
        epilog="Images that cannot be read are named and skipped; the exit code is then 1.",
    )
    named = "a search (its ensemble, else its best trial), by name or path, or a trial's folder"
    p.add_argument("model", metavar="MODEL", help=named)
    p.add_argument("images", metavar="IMAGES", nargs="+", help="files, folders or patterns")
    p.add_argument("--output", type=Path, required=True, metavar="DIR", help="where results go")
    p.add_argument("--overlay", action="store_true", help="also the image with masks laid over it")
    p.add_argument("--palette", action="store_true", help="masks with a palette of class colours")
    p.add_argument("--probabilities", action="store_true", help="also that of each class")
    mirrored = "ask about the mirrored image too, or never (default: as was best in validation)"
    p.add_argument("--tta", action=argparse.BooleanOptionalAction, help=mirrored)
    p.add_argument("--device", metavar="D", help="cpu, cuda, cuda:1 or mps (default: the best)")
    least = "least probability of the second of two classes (default: the model's)"
    p.add_argument("--threshold", type=float, metavar="T", help=least)
    cut = "ask about overlapping tiles of N pixels (default: where networks see images unreduced)"
    p.add_argument("--tile", type=int, metavar="N", help=cut)
    reduce = "bring the longer side to N pixels first, for images that show things much larger"
    p.add_argument("--size", type=int, metavar="N", help=reduce)
    p.add_argument("--top-k", type=int, default=5, metavar="K", help="classes named (default: 5)")
    p.add_argument("--results", default="results", metavar="DIR", help="where the searches are")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 1 where an image was skipped, 2 for what cannot be, or 130."""
    options = parser().parse_args(argv)
    try:
        outcome = _run(options)
    except RaysearchError as error:
        return _refused(str(error))
    except torch.OutOfMemoryError:
        return _refused("the GPU has no room; choose smaller tiles with --tile, or --device cpu")
    except KeyboardInterrupt:
        make_console(stderr=True).print("interrupted; what was done is written")
        return INTERRUPTED
    return SKIPPED if outcome.faults else 0


def _refused(reason: str) -> int:
    make_console(stderr=True).print(f"[bold red]error:[/] {escape(reason)}", soft_wrap=True)
    return BAD_INPUT


def _run(options: argparse.Namespace) -> Outcome:
    console, errors = make_console(), make_console(stderr=True)
    if options.top_k < 1:
        raise ConfigError(f"--top-k {options.top_k}: must be 1 or more")
    images = find_images(options.images, options.output)
    if not images:
        raise ConfigError(f"{', '.join(options.images)}: no images in there")
    device = _device(options.device)
    folder = _folder(options.results, options.model)
    model = load_model(folder, device)
    if not model.task.segments:
        _check_classification(options)
    model = adjusted(model, options.tta, options.threshold, options.size)
    wanted = Wanted(
        options.overlay, options.palette, options.probabilities, options.tile, options.top_k
    )
    console.print(f"{escape(str(folder))}: {_described(model)}, on {device}", soft_wrap=True)
    data = data_of(folder, model.task)
    with PredictionProgress(errors, len(images)) as progress:
        watcher = Watcher(progress.advance, progress.fault)
        outcome = predict(model, images, data, options.output, wanted, watcher)
    _tell(console, model, outcome, options)
    return outcome


def _tell(console: Console, model: Model, outcome: Outcome, options: argparse.Namespace) -> None:
    told = f"{outcome.written} written to {options.output}"
    skipped = f", {len(outcome.faults)} skipped" if outcome.faults else ""
    console.print(escape(told + skipped), soft_wrap=True)
    unreduced = [m.recipe.crop_size for m in model.members if m.recipe.image_size is None]
    if unreduced and model.task.segments and outcome.longest > MUCH_LARGER * max(unreduced):
        console.print(
            f"Images of up to {outcome.longest} pixels were asked about at their own size, but "
            f"the networks learned from crops of {max(unreduced)}. If things in them look much "
            "larger than in training, add --size.",
            soft_wrap=True,
        )


def _described(model: Model) -> str:
    trials = ", ".join(member.folder.name.lstrip("0") or "0" for member in model.members)
    members = f"trial {trials}" if len(model.members) == 1 else f"trials {trials} together"
    return members if len(model.tta) == 1 else f"{members}, in {len(model.tta)} positions"


def _check_classification(options: argparse.Namespace) -> None:
    for name in MASKS_ONLY:
        if getattr(options, name):
            raise ConfigError(f"--{name}: is for masks, but this model gives a class to each image")


def _folder(results: str, name: str) -> Path:
    """The folder of a trial or a search."""
    path = Path(name)
    if (path / BEST).is_dir() or (path / "trials").is_dir():
        return path
    if path.parent.name == "trials" and path.is_dir():
        raise RunError(f"{path}: this trial has not kept its weights; choose another")
    return find_run(results, name).path


def _device(name: str | None) -> torch.device:
    if name is None:
        return find_device()
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"--device {name}: unknown; there is cpu, cuda, cuda:1 or mps") from error
    there = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }
    if (device.index or 0) >= there.get(device.type, 0):
        has = ", ".join(kind for kind in DEVICES if there[kind])
        raise ConfigError(f"--device {name}: is not here; this machine has {has}")
    return device


if __name__ == "__main__":
    sys.exit(main())
