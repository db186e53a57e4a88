"""Write a model as ONNX files, and keep beside them what a user must know and what they are worth.

model.onnx   model.int8.onnx   model.json    student.onnx   student.int8.onnx   student.json
speed.json   speed.csv   speed.md (how fast and how good each form of the model is)
"""

import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raysearch.config import Objective, Study
from raysearch.data import Data
from raysearch.data.batch import as_tensor
from raysearch.errors import ConfigError, DataError, RunError
from raysearch.inference.choose import ENSEMBLE, SINGLE, TTA, measurable
from raysearch.inference.evaluation import data_of_run
from raysearch.inference.files import data_of, find_images, read_picture
from raysearch.inference.models import Model, load_model
from raysearch.inference.onnx import OnnxModel, adapted, write
from raysearch.inference.onnx.int8 import quantize
from raysearch.inference.speed import COMPILE_SECONDS
from raysearch.inference.tta import IDENTITY
from raysearch.records.evaluation import cache_folder, data_root
from raysearch.records.files import write_json, write_text
from raysearch.records.run_folder import RunFolder
from raysearch.records.speeds import (
    EIGHT_BITS,
    ONNX,
    STUDENT,
    Form,
    as_csv,
    as_markdown,
    measured,
    measured_on_test,
    spaced,
)
from raysearch.study import load_study
from raysearch.training.trained import Trained

SPEED = "speed"
CHECKED, CALIBRATION = 8, 64  # Images, at most.
NOISE, SIDE = 4, 256  # Images without data, and their sides.

Say = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """What is exported, and what is measured.

    Attributes:
        size: fixed height and width of the graph's images.
        member: trial whose network is exported alone, without views.
        tta: whether the model keeps its views.
        images: files, folders or patterns to check on, in place of the search's own.
        student: folder of a trial that has learned from the model, to be exported beside it.
        test: measure on the test split too, which is one more opening of it.
        most: validation images that quality is measured on.
        compiling: seconds that `torch.compile` may take for a model.
    """

    size: tuple[int, int] | None = None
    member: int | None = None
    tta: bool = True
    int8: bool = False
    speed: bool = True
    images: tuple[str, ...] = ()
    student: Path | None = None
    test: bool = False
    most: int = 500
    compiling: float = COMPILE_SECONDS


class Place:
    """The folder of a model, and the search that it comes from, if there is one."""

    def __init__(self, folder: Path, wanted: Wanted) -> None:
        self.folder, self.wanted = folder, wanted

    @cached_property
    def run(self) -> RunFolder | None:
        """The search: the folder itself, or what a trial's folder lies in."""
        for folder in (self.folder, self.folder.resolve().parent.parent):
            if (folder / "run.json").is_file():
                return RunFolder.read(folder)
        return None

    @cached_property
    def study(self) -> Study | None:
        return None if self.run is None else load_study(str(self.run.study_file))

    @cached_property
    def data(self) -> Data | None:
        """The search's images; None where there is no search.

        Raises:
            DataError: they are gone or changed, and no others are named.
        """
        if self.run is None or self.study is None:
            return None
        try:
            root = data_root(self.run, self.study).resolve()
            digest = self.run.info["data_digest"]
            folder = cache_folder(self.study)
            return data_of_run(self.study.data, root, folder, digest, self.run.splits_file)
        except (DataError, RunError) as error:
            if self.wanted.images:
                return None
            raise DataError(
                f"{error} Or name images to check on with --images, and leave out quality"
            ) from error

    def objective(self, model: Model) -> Objective:
        """Return what quality is told by."""
        if self.study is None:
            return Objective(metric=model.task.headline)
        return measurable(self.study.objective, model.task)

    def checks(self, model: Model) -> tuple[list[Tensor], str]:
        """Return images to compare the file with PyTorch on, and what they are."""
        if self.wanted.images:
            images = list(self._named(model))[:CHECKED]
            return images, f"{len(images)} images named by --images"
        if self.data is not None:
            images = self._split("val", CHECKED)
            return images, f"{len(images)} validation images"
        told = f"{NOISE} images of noise, since this model comes without data (see --images)"
        return _noise(model), told

    def calibration(self, model: Model) -> list[Tensor]:
        """Return images to find the ranges of 8-bit values by: of training, where there is one.

        Raises:
            ConfigError: there are none.
        """
        if self.data is not None:
            return self._split("train", CALIBRATION)
        if not self.wanted.images:
            raise ConfigError(
                "--int8: needs images to calibrate by, and this model comes without data; name "
                "some with --images"
            )
        return list(self._named(model))[:CALIBRATION]

    def _split(self, split: str, most: int) -> list[Tensor]:
        assert self.data is not None
        return [as_tensor(self.data.cache.image(at)) for at in spaced(self.data, split, most)]

    def _named(self, model: Model) -> Iterator[Tensor]:
        data = data_of(self.folder, model.task)
        found = find_images(self.wanted.images, self.folder / "none")
        if not found:
            raise ConfigError(f"{', '.join(self.wanted.images)}: no images in there")
        for image in found:
            pixels = read_picture(image, data, model.task).pixels
            if not isinstance(pixels, np.ndarray):
                raise ConfigError(f"{image.path}: is too large to check a model on; cut a part out")
            yield as_tensor(pixels)


def _noise(model: Model) -> list[Tensor]:
    """Values as varied as those that the first member was trained on."""
    normalise = model.members[0].normalise
    random = np.random.default_rng(0).normal(size=(NOISE, SIDE, SIDE, model.task.bands))
    values = random * normalise.std.numpy() + normalise.mean.numpy()
    return [as_tensor(one) for one in values]


def export(
    folder: Path,
    output: Path,
    wanted: Wanted,
    command: str,
    device: torch.device,
    say: Say = lambda text: None,
) -> dict[str, Any]:
    """Write a model's files, and return what speed.json says of them.

    Args:
        folder: of a search, a trial, or what `write_bundle` has written.
        output: where the files go.
        command: as it was typed.
        device: of PyTorch's rows in the table; ONNX Runtime's are the CPU's.
        say: is told what happens.

    Raises:
        ConfigError: the model cannot be exported so.
        RunError: a file does not say what PyTorch says; nothing is left of it.
        DataError: the images cannot be read.
    """
    place = Place(folder, wanted)
    whole = load_model(folder)
    if not wanted.tta:
        whole = replace(whole, tta=(IDENTITY,))
    model = chosen(whole, wanted.member)
    checks, source = place.checks(model)
    writer = _Writer(place, checks, source, command, say)
    told: dict[str, Any] = {"model": str(folder), "when": time.time(), "command": command}
    with tempfile.TemporaryDirectory() as aside:
        forms = [writer.form(_name(model), model, output / "model.onnx")]
        if wanted.student is not None:
            forms.append(writer.form(STUDENT, load_model(wanted.student), output / "student.onnx"))
        told |= {"folder": str(output), "files": dict(writer.files), "checked": source}
        if not wanted.speed:
            return told
        if forms[0].name != SINGLE and wanted.member is None:
            single = best_member(whole, place.objective(whole))
            forms.insert(0, writer.form(SINGLE, single, Path(aside) / "single.onnx"))
        metric, data = place.objective(model).metric, place.data
        told |= measured(forms, metric, data, wanted.most, checks[0], device, wanted.compiling, say)
        if wanted.test and data is not None and place.run is not None:
            told = measured_on_test(forms, told, data, place.run, say)
    write_json(output / f"{SPEED}.json", told)
    write_text(output / f"{SPEED}.csv", as_csv(told["rows"]))
    write_text(output / f"{SPEED}.md", as_markdown(told))
    return told


class _Writer:
    """Writes the files of one model after the other.

    Attributes:
        files: name, bytes and the largest difference from PyTorch (None of 8 bits, which are not
            held to it).
    """

    def __init__(
        self, place: Place, checks: list[Tensor], source: str, command: str, say: Say
    ) -> None:
        self.place, self.checks, self.source = place, checks, source
        self.command, self.say = command, say
        self.files: dict[str, dict[str, Any]] = {}

    def form(self, name: str, model: Model, path: Path) -> Form:
        wanted, about = self.place.wanted, path.with_suffix(".json")
        asked = adapted(model, wanted.size)
        self.say(f"writing {path.name}, checked on {self.source}")
        written = write(asked, path, self.checks, wanted.size)
        checked = {"checked": self.source, "difference": written.difference}
        self._note(path, written.difference)
        files = {ONNX: OnnxModel(path)}
        if wanted.int8:
            eight = path.with_suffix(".int8.onnx")
            self.say(f"writing {eight.name}")
            quantize(path, eight, self.place.calibration(model))
            self._note(eight, None)
            files[EIGHT_BITS] = OnnxModel(eight)
        write_json(about, {"command": self.command, **checked, **written.about})
        return Form(name, model, asked, files)

    def _note(self, path: Path, difference: float | None) -> None:
        self.files[path.name] = {"bytes": path.stat().st_size, "difference": difference}


def chosen(model: Model, member: int | None) -> Model:
    """Return a model, or one of its members alone and without views, by the number of its trial.

    Raises:
        ConfigError: no member has that number.
    """
    if member is None:
        return model
    numbers = {int(one.place.parent.name): one for one in reversed(model.members)}
    if member not in numbers:
        known = ", ".join(map(str, sorted(numbers)))
        raise ConfigError(f"--member {member}: is not in this model; its members are {known}")
    return _alone(numbers[member])


def best_member(model: Model, objective: Objective) -> Model:
    """Return the member that was best in validation, alone and without views."""
    best = model.members[0]
    for one in model.members[1:]:
        value, other = (m.metrics.get(objective.metric, math.nan) for m in (one, best))
        if objective.better(value, other):
            best = one
    return _alone(best)


def _alone(member: Trained) -> Model:
    return Model((member,), (1.0,), threshold=member.threshold)


def _name(model: Model) -> str:
    base = ENSEMBLE if len(model.members) > 1 else SINGLE
    return base + (TTA if len(model.tta) > 1 else "")
