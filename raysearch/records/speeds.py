"""How fast and how good a model is in PyTorch, compiled, as ONNX and in 8 bits: one table."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from raysearch.data import Data
from raysearch.errors import RunError
from raysearch.inference.choose import SINGLE
from raysearch.inference.models import Model
from raysearch.inference.onnx import OnnxModel
from raysearch.inference.onnx.quality import Quality, quality
from raysearch.inference.speed import batches, compiled_speed, eager_speed, here, onnx_speed
from raysearch.records.evaluation import openings
from raysearch.records.files import read_json, write_json
from raysearch.records.run_folder import RunFolder

STUDENT = "student"
PYTORCH, COMPILED, ONNX, EIGHT_BITS = "PyTorch", "torch.compile", "ONNX Runtime", "INT8"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Form:
    """A model of the table.

    Attributes:
        asked: the model as it is exported, see `raysearch.inference.onnx.adapted`.
        files: by the engine that runs them.
    """

    name: str
    model: Model
    asked: Model
    files: Mapping[str, OnnxModel]


def measured(
    forms: Sequence[Form],
    metric: str,
    data: Data | None,
    most: int,
    image: Tensor,
    device: torch.device,
    compiling: float,
    say: Say,
) -> dict[str, Any]:
    """Time every form of every model on an image, then measure all of them in one pass.

    Args:
        data: None leaves quality out.
        most: validation images to measure on.
        image: (C, h, w), as stored.
        device: of PyTorch's rows.
        compiling: seconds that `torch.compile` may take for a model.
    """
    rows: list[dict[str, Any]] = []
    for form in forms:
        say(f"timing the {form.name} model")
        rows += _timed(form, image, device, compiling)
    where = here()
    told = {"where": where, "metric": metric, "images": 0, "minus": {}, "gain": {}, "rows": rows}
    if data is None:
        return told
    models: dict[str, Model | OnnxModel] = {}
    against: dict[str, str] = {}
    for form in forms:
        models[_key(form.name, PYTORCH)] = form.model
        for engine, onnx in form.files.items():
            models[_key(form.name, engine)] = onnx
            against[_key(form.name, engine)] = _key(form.name, PYTORCH)
    few = _few(data, most)
    say(f"measuring on {len(few.indices('val'))} validation images")
    found = quality(models, few, "val", against)
    _add_quality(rows, found, metric)
    minus, gain = _differences(found, against, metric), {"val": _gain(found, metric)}
    return {**told, "images": len(few.indices("val")), "minus": minus, "gain": gain}


def measured_on_test(
    forms: Sequence[Form], told: dict[str, Any], data: Data, run: RunFolder, say: Say
) -> dict[str, Any]:
    """Measure PyTorch's models on the test split too, and count the opening in test.json.

    Raises:
        RunError: nothing has opened the test split yet, so that there is no record to count in.
    """
    if not run.test_file.is_file():
        raise RunError(
            f"{run.name}: its test split was never opened; make the ensemble or use "
            "`python -m raysearch.evaluate` first"
        )
    say("opening the test split")
    models = {_key(form.name, PYTORCH): form.model for form in forms}
    found = quality(models, data, "test", {})
    _add_quality(told["rows"], found, told["metric"], "test_")
    told["gain"]["test"] = _gain(found, told["metric"])
    opened = openings(run.test_file, {**told, "trial": None})
    write_json(run.test_file, read_json(run.test_file) | opened)
    return {**told, "opened": opened["opened"]}


def _key(model: str, engine: str) -> str:
    return f"{model}: {engine}"


def spaced(data: Data, split: str, most: int) -> list[int]:
    """Return positions of a split's images in the cache, evenly spaced, at most so many."""
    indices = data.indices(split)
    step = max(1, -(-len(indices) // most))
    return list(indices[::step])


def _few(data: Data, most: int) -> Data:
    names = tuple(data.cache.names[at] for at in spaced(data, "val", most))
    return replace(data, splits=replace(data.splits, val=names))


def _timed(
    form: Form, image: Tensor, device: torch.device, compiling: float
) -> list[dict[str, Any]]:
    """The rows of one model: how long an image takes, and how large it is."""
    feeds = batches(form.files[ONNX], image)
    weights = sum(
        p.numel() for one in form.asked.members for p in one.network.state_dict().values()
    )
    there = _on(form.asked, device)
    speeds = {
        PYTORCH: (eager_speed(there, feeds, device), 4 * weights, str(device)),
        COMPILED: (compiled_speed(there, feeds, device, compiling), 4 * weights, str(device)),
    }
    _on(form.asked, torch.device("cpu"))
    for engine, onnx in form.files.items():
        speeds[engine] = onnx_speed(onnx, feeds), onnx.path.stat().st_size, "cpu"
    return [
        {
            "model": form.name,
            "engine": engine,
            "device": where,
            "ms": {str(count): 1000 * s for count, s in speed.seconds.items()},
            "images_per_second": {str(count): 1 / s for count, s in speed.seconds.items()},
            "megabytes": size / 1e6,
            "reason": speed.reason,
        }
        for engine, (speed, size, where) in speeds.items()
    ]


def _on(model: Model, device: torch.device) -> Model:
    """Move a model's networks."""
    for member in model.members:
        member.network.to(device)
        member.normalise.to(device)
    return model


def _add_quality(
    rows: Sequence[dict[str, Any]], found: Mapping[str, Quality], metric: str, prefix: str = ""
) -> None:
    for row in rows:
        one = found.get(_key(row["model"], row["engine"]))
        if one is not None:
            row[prefix + "value"] = one.measured.metrics.get(metric)
            row[prefix + "differs"] = one.differs


def _differences(
    found: Mapping[str, Quality], against: Mapping[str, str], metric: str
) -> dict[str, Any]:
    """What each file's figure is minus PyTorch's, with its paired bootstrap interval."""
    told = {}
    for name, other in against.items():
        own, theirs = found[name].measured, found[other].measured
        ends = own.tallies.difference(theirs.tallies).get(metric)
        value = own.metrics.get(metric, float("nan")) - theirs.metrics.get(metric, float("nan"))
        told[name] = {"difference": value, "interval": list(ends) if ends else None}
    return told


def _gain(found: Mapping[str, Quality], metric: str) -> dict[str, float]:
    """What single, ensemble and student are worth, and which share of the ensemble's gain over the
    single the student keeps."""
    values = {
        name.removesuffix(f": {PYTORCH}"): one.measured.metrics.get(metric, float("nan"))
        for name, one in found.items()
        if name.endswith(PYTORCH)
    }
    wholes = [value for name, value in values.items() if name not in (SINGLE, STUDENT)]
    if STUDENT in values and SINGLE in values and wholes and wholes[0] != values[SINGLE]:
        kept = (values[STUDENT] - values[SINGLE]) / (wholes[0] - values[SINGLE])
        values["kept"] = kept
    return values


COLUMNS = (
    "model", "engine", "device", "ms an image, batch 1", "images/s, batch 1",
    "ms an image, batch 8", "images/s, batch 8", "MB",
)  # fmt: skip


def _cells(row: Mapping[str, Any]) -> list[Any]:
    times = [
        row[key].get(count, "")
        for count in ("1", "8")
        for key in ("ms", "images_per_second")
    ]  # fmt: skip
    return [row["model"], row["engine"], row["device"], *times, row["megabytes"]]


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow([*COLUMNS, "validation", "differs", "test", "reason"])
    for row in rows:
        rest = [row.get("value"), row.get("differs"), row.get("test_value"), row["reason"]]
        writer.writerow([*_cells(row), *rest])
    return text.getvalue()


def as_markdown(told: Mapping[str, Any]) -> str:
    """The table as people read it, with the command that made it."""
    titles = [*COLUMNS, f"{told['metric']}, validation", "differs from PyTorch", "note"]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for row in told["rows"]:
        cells = [f"{one:.3g}" if isinstance(one, float) else one or "-" for one in _cells(row)]
        value, differs = row.get("value"), row.get("differs")
        cells += ["-" if value is None else f"{value:.4f}"]
        cells += ["-" if differs is None else f"{differs:.3%}", row["reason"]]
        lines.append(f"| {' | '.join(cells)} |")
    where = f"{told['where']}; {told['images']} validation images; medians after a warm-up"
    return "\n".join([*lines, "", f"{where}. Made by:", "", f"    {told['command']}", ""])
