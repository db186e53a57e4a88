"""Everything that is checked and brought to its place before the first trial."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from raysearch.config import DataConfig, Resources, Study, outer
from raysearch.data import Data, open_data
from raysearch.data.formats import reader
from raysearch.data.sample import generate, generators
from raysearch.errors import ConfigError, DataError, RunError, WeightsError
from raysearch.inspection import Finding, quick_findings, refuse
from raysearch.models import build
from raysearch.models.weights import fetch
from raysearch.records.evaluation import cache_folder
from raysearch.study import checked
from raysearch.training.losses import build_loss
from raysearch.training.optimisation import build_schedule
from raysearch.training.trained import load_trained

SAMPLE_SEED = 0


@dataclass(frozen=True)
class Prepared:
    """A study with its data decoded, split and checked. `notes` are said aloud in the plan.

    findings: what is strange about the data, as `python -m raysearch.check` says it.
    """

    study: Study
    root: Path
    cache: Path
    data: Data
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


def locate(study: Study, output: Path) -> tuple[Study, tuple[str, ...]]:
    """Return the study with its data's folder and classes, and what there is to say about them.

    A study without a folder takes generated sample data, where its name has some; one without
    classes takes those that the reader finds.

    Raises:
        ConfigError: no folder is given, and there is no sample data of that name; or no classes
            are named, and none can be recognised.
    """
    notes = []
    root = study.data.path
    if root is None:
        root = _sample(study, output)
        notes.append(f"no --data: generated sample data in {root}")
    data = study.data.model_copy(update={"path": root.resolve()})
    if not data.classes:
        classes = _recognised(data, root)
        notes.append(f"{len(classes)} classes found in {root}")
        data = data.model_copy(update={"classes": classes})
    return checked(study, data=data), tuple(notes)


def _sample(study: Study, output: Path) -> Path:
    if study.name not in generators():
        raise ConfigError(
            f"data.path: the study '{study.name}' has no folder and no sample data; "
            "give the data set's folder with --data DIR"
        )
    return generate(study.name, output / "sample_data", SAMPLE_SEED, study.sample)


def _recognised(data: DataConfig, root: Path) -> tuple[str, ...]:
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; give the data set's folder with --data")
    found = reader(data.format).recognise(root)
    if found is None or len(found["classes"]) < 2:
        raise ConfigError(
            f"data.classes: none are named, and {root} is not recognised as {data.format}; name "
            "them in the study, or correct data.format (`python -m raysearch.check new --data "
            f"{root}` writes a first study)"
        )
    return tuple(found["classes"])


def prepare(study: Study, seed: int, notes: tuple[str, ...] = ()) -> Prepared:
    """Check the data of a located study, and build its cache on this node.

    Raises:
        DataError: anything wrong with the images, the masks or the lists, or contradictions.
    """
    assert study.data.path is not None
    root = study.data.path
    cache = cache_folder(study)
    data = open_data(study.data, root, cache, seed)
    findings = tuple(quick_findings(study, root, data))
    refuse(findings)
    warnings = tuple(f"{finding.kind}: {finding.words}" for finding in findings)
    return Prepared(study, root, cache, data, (*notes, *warnings), findings)


def check_sources(study: Study) -> None:
    """Make sure that what trials begin with, and learn from, can be read.

    Raises:
        RunError: a trial's folder without a readable checkpoint.
        ConfigError: teachers of another task or other classes.
    """
    for folder in study.init_from.values():
        load_trained(folder)
    for folder in study.teachers:
        task = load_trained(folder).task
        if (task.kind, task.bands, task.classes) != (
            study.what.kind,
            study.what.bands,
            study.what.classes,
        ):
            raise ConfigError(
                f"teachers: {folder} tells {len(task.classes)} classes apart in {task.bands} bands "
                f"({task.kind}), not this study's; name a trial of the same classes in their order"
            )


def bring_weights(study: Study, folder: Path) -> tuple[Study, tuple[str, ...]]:
    """Bring every encoder's weights to a folder that all nodes read.

    Returns the study, in which networks train from random weights where theirs cannot be fetched
    and the study allows it, and what there is to say about that.

    Raises:
        WeightsError: weights cannot be fetched, with the reason and both ways out.
    """
    networks, notes = dict(study.networks), []
    for name, specs in all_specs(study).items():
        try:
            for spec in specs:
                fetch(spec, folder)
        except WeightsError as error:
            if not study.allow_random_weights:
                raise
            networks[name] = {**networks[name], "encoder_weights": None}
            encoder = networks[name].get("encoder", name)
            notes.append(f"{name}: random weights ({encoder}: {_first_line(error)})")
    return study.model_copy(update={"networks": networks}), tuple(notes)


def all_specs(study: Study) -> dict[str, list[dict[str, Any]]]:
    """Return each network that the search may pick, with every variant of `network.*` in turn."""
    found: dict[str, list[dict[str, Any]]] = {}
    for architecture in _architectures(study):
        for values in study.examples():
            own = {"architecture": architecture, **_applicable(study, architecture, values)}
            spec = study.network_spec(study.recipe(own))
            if spec not in found.setdefault(architecture, []):
                found[architecture].append(spec)
    return found


def _architectures(study: Study) -> list[str]:
    """Return the networks of the space, or the fixed one, and those of the start points."""
    dimension = study.space.get("architecture")
    found = dimension.examples() if dimension else [study.fixed["architecture"]]
    started = [point["architecture"] for point in study.start_values() if "architecture" in point]
    return list(dict.fromkeys([*found, *started]))


def _applicable(study: Study, architecture: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `network.*` that hold for an architecture: where searched, by their `when`."""
    chosen = {**values, "architecture": architecture}
    same = values.get("architecture") == architecture
    return {
        key: value
        for key, value in values.items()
        if outer(key) == "network"
        and (study.space[key].applies(chosen) if key in study.space else same)
    }


def count_parameters(study: Study) -> dict[str, int]:
    """Build each variant of each network, without weights; return the first's parameters.

    Raises:
        ConfigError: a network that cannot be built.
    """
    counts: dict[str, int] = {}
    for name, specs in all_specs(study).items():
        for spec in specs:
            bare = spec | ({"encoder_weights": None} if "encoder_weights" in spec else {})
            network = build(bare, study.what)
            counts.setdefault(name, sum(p.numel() for p in network.parameters()))
    return counts


def check_parts(study: Study) -> None:
    """Build the loss and the schedule of every kind that the search may choose.

    Raises:
        ConfigError: an unknown term of a loss, or an unknown schedule.
    """
    frequency = torch.ones(study.what.num_classes)
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
    for values in study.examples():
        recipe = study.recipe(values)
        build_loss(recipe, study.what, frequency)
        build_schedule(recipe, optimizer, steps_per_epoch=1)


def check_batches(study: Study, workers: int) -> None:
    """Make sure that every worker of a trial has an image in every part of a batch.

    Raises:
        ConfigError: a batch that is too small.
    """
    for values in study.examples():
        recipe = study.recipe(values)
        if recipe.batch_size < workers * recipe.accumulation:
            raise ConfigError(
                f"batch_size: {recipe.batch_size} is less than one image for each of {workers} "
                f"workers and {recipe.accumulation} accumulated parts; raise it, or take fewer"
            )


def check_writable(output: Path) -> None:
    """Raise a RunError where an output folder neither is nor can become one of ours."""
    place = output.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise RunError(
            f"{output}: cannot be written (see {place}); change its permissions, or choose another "
            "folder with --output"
        )


def loader_workers(resources: Resources, cpus: int, gpus: float) -> int:
    """Beside a GPU all reserved cores but one load data; on a CPU the training has them all."""
    if resources.loader_workers is not None:
        return min(resources.loader_workers, cpus - 1)
    return cpus - 1 if gpus else 0


def _first_line(error: Exception) -> str:
    reason = str(error).splitlines()[0]
    return reason.split(". Either")[0].removesuffix(".")
