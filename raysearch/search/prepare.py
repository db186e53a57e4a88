"""Everything that is checked and brought to its place before the first trial."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from raysearch.config import Choice, Resources, Study
from raysearch.data import Data, open_data
from raysearch.data.sample import generate, generators
from raysearch.errors import ConfigError, WeightsError
from raysearch.models import build
from raysearch.models.weights import fetch
from raysearch.training.losses import build_loss
from raysearch.training.optimisation import build_schedule

CACHE = Path("~/.cache/raysearch")
SAMPLE_SEED = 0


@dataclass(frozen=True)
class Prepared:
    """A study with its data decoded, split and checked. `notes` are said aloud in the plan."""

    study: Study
    root: Path
    cache: Path
    data: Data
    notes: tuple[str, ...] = ()


def prepare(study: Study, output: Path, seed: int) -> Prepared:
    """Check the data, and build its cache on this node.

    A study without a folder of its own takes generated sample data, where its name has some.

    Raises:
        DataError: anything wrong with the images, the masks or the lists.
        ConfigError: no folder is given, and there is no sample data of that name.
    """
    notes = []
    root = study.data.path
    if root is None:
        root = _sample(study, output)
        notes.append(f"no --data: generated sample data in {root}")
    cache = (study.resources.cache or CACHE).expanduser().resolve()
    data = open_data(study.data, root, cache, seed)
    located = study.data.model_copy(update={"path": root.resolve()})
    study = study.model_copy(update={"data": located})
    return Prepared(study, root.resolve(), cache, data, tuple(notes))


def _sample(study: Study, output: Path) -> Path:
    if study.name not in generators():
        raise ConfigError(
            f"data.path: the study '{study.name}' has no folder and no sample data; "
            "give the data set's folder with --data DIR"
        )
    return generate(study.name, output / "sample_data", SAMPLE_SEED)


def bring_weights(study: Study, folder: Path) -> tuple[Study, tuple[str, ...]]:
    """Bring every encoder's weights to a folder that all nodes read.

    Returns the study, in which networks train from random weights where theirs cannot be fetched
    and the study allows it, and what there is to say about that.

    Raises:
        WeightsError: weights cannot be fetched, with the reason and both ways out.
    """
    networks, notes = dict(study.networks), []
    for name in architectures(study):
        try:
            for spec in _variants(study, name):
                fetch(spec, folder)
        except WeightsError as error:
            if not study.allow_random_weights:
                raise
            networks[name] = {**networks[name], "encoder_weights": None}
            encoder = networks[name].get("encoder", name)
            notes.append(f"{name}: random weights ({encoder}: {_first_line(error)})")
    return study.model_copy(update={"networks": networks}), tuple(notes)


def architectures(study: Study) -> list[str]:
    """Return the networks that the search may pick."""
    dimension = study.space.get("architecture")
    if isinstance(dimension, Choice):
        return [str(choice) for choice in dimension.choices]
    return [str(study.fixed["architecture"])]


def _variants(study: Study, architecture: str) -> list[dict[str, Any]]:
    """The specifications of one network, one for each encoder that may be searched with it."""
    spec = study.networks[architecture]
    dimension = study.space.get("network.encoder")
    if isinstance(dimension, Choice) and dimension.applies({"architecture": architecture}):
        return [{**spec, "encoder": encoder} for encoder in dimension.choices]
    return [spec]


def count_parameters(study: Study) -> dict[str, int]:
    """Build each network once, without its weights; a wrong one fails here, not in a trial.

    Raises:
        ConfigError: a network that cannot be built.
    """
    counts = {}
    for name in architectures(study):
        spec = dict(study.networks[name])
        if "encoder_weights" in spec:
            spec["encoder_weights"] = None
        network = build(spec, study.what)
        counts[name] = sum(parameter.numel() for parameter in network.parameters())
    return counts


def check_parts(study: Study) -> None:
    """Build the loss and the schedule of every kind that the search may choose.

    Raises:
        ConfigError: an unknown term of a loss, or an unknown schedule.
    """
    middle = {key: dimension.ends()[0] for key, dimension in study.space.items()}
    choices = [
        {key: choice}
        for key, dimension in study.space.items()
        if isinstance(dimension, Choice)
        for choice in dimension.choices
    ]
    frequency = torch.ones(study.what.num_classes)
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
    for values in [{}, *choices, *study.start_values()]:
        recipe = study.recipe({**middle, **values})
        build_loss(recipe, study.what, frequency)
        build_schedule(recipe, optimizer, steps_per_epoch=1)


def loader_workers(resources: Resources, cpus: int, gpus: float) -> int:
    """Beside a GPU all reserved cores but one load data; on a CPU the training has them all."""
    if resources.loader_workers is not None:
        return min(resources.loader_workers, cpus - 1)
    return cpus - 1 if gpus else 0


def _first_line(error: Exception) -> str:
    reason = str(error).splitlines()[0]
    return reason.split(". Either")[0].removesuffix(".")
