"""`python -m raysearch.predict MODEL IMAGES`: masks or classes of new images."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from raysearch.errors import ConfigError, RunError
from raysearch.records.run_folder import find_run
from raysearch.records.terminal import guarded, make_console

if TYPE_CHECKING:  # These import torch, which --help and mistakes need not wait for.
    import torch

    from raysearch.inference.models import Model
    from raysearch.inference.prediction import Outcome

SKIPPED = 1
REGISTRY = "models:/"
HOLDS_WEIGHTS = ("best", "trials", "ensemble.json")  # One of these does, in a folder of a model.
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
    named = (
        "a search (its ensemble, else its best trial), by name or path, a trial's folder, or a "
        "model of MLflow's registry, such as models:/animals@champion"
    )
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
    return guarded(lambda: _run(options), "what was done is written")


def _run(options: argparse.Namespace) -> int:
    if options.top_k < 1:
        raise ConfigError(f"--top-k {options.top_k}: must be 1 or more")
    folder = _folder(options.results, options.model)
    import torch

    try:
        return SKIPPED if _predict(options, folder).faults else 0
    except torch.OutOfMemoryError as error:
        raise RunError(
            "the GPU has no room; choose smaller tiles with --tile, or --device cpu"
        ) from error


def _predict(options: argparse.Namespace, folder: Path) -> "Outcome":
    from raysearch.inference.files import data_of, find_images
    from raysearch.inference.models import load_model
    from raysearch.inference.prediction import Wanted, Watcher, adjusted, predict
    from raysearch.records.terminal.predicted import PredictionProgress

    console, errors = make_console(), make_console(stderr=True)
    images = find_images(options.images, options.output)
    if not images:
        raise ConfigError(f"{', '.join(options.images)}: no images in there")
    device = _device(options.device)
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


def _tell(
    console: Console, model: "Model", outcome: "Outcome", options: argparse.Namespace
) -> None:
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


def _described(model: "Model") -> str:
    folders = [member.folder for member in model.members]
    trials = ", ".join(folder.name.lstrip("0") or "0" for folder in folders)
    members = f"trial {trials}" if len(folders) == 1 else f"trials {trials} together"
    if any(folder.parent.name == "members" for folder in folders):  # Of a model that left its run.
        members = "1 network" if len(folders) == 1 else f"{len(folders)} networks together"
    return members if len(model.tta) == 1 else f"{members}, in {len(model.tta)} positions"


def _check_classification(options: argparse.Namespace) -> None:
    for name in MASKS_ONLY:
        if getattr(options, name):
            raise ConfigError(f"--{name}: is for masks, but this model gives a class to each image")


def _folder(results: str, name: str) -> Path:
    """The folder of a trial or a search, or of a model that was taken out of one."""
    if name.startswith(REGISTRY):
        from raysearch.records.registry import bundle_of

        return bundle_of(name, Path(results))
    path = Path(name)
    if any((path / one).exists() for one in HOLDS_WEIGHTS):
        return path
    if path.parent.name == "trials" and path.is_dir():
        raise RunError(f"{path}: this trial has not kept its weights; choose another")
    return find_run(results, name).path


def _device(name: str | None) -> "torch.device":
    import torch

    from raysearch.training.device import find_device

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
