"""Everything that is checked and brought to its place before the first trial."""

import os
from dataclasses import dataclass
from pathlib import Path

from raysearch.config import DataConfig, Resources, Study
from raysearch.data import Data, open_data, settled
from raysearch.data.formats import reader
from raysearch.data.sample import generate, generators
from raysearch.errors import ConfigError, DataError, RunError, WeightsError
from raysearch.inspection import Finding, quick_findings, refuse
from raysearch.models.weights import fetch
from raysearch.records.evaluation import cache_folder
from raysearch.search.variants import all_specs
from raysearch.study import checked

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
    return checked(study, data=settled(data, root)), tuple(notes)


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


def bring_weights(study: Study, folder: Path) -> tuple[Study, tuple[str, ...]]:
    """Bring every encoder's weights to a folder that all nodes read.

    Returns the study, in which networks train from random weights where theirs cannot be fetched
    and the study allows it, and what there is to say about that.

    Raises:
        WeightsError: weights cannot be fetched, with the reason and both ways out.
    """
    networks, without, reason = dict(study.networks), list[str](), ""
    for name, specs in all_specs(study).items():
        try:
            for spec in specs:
                fetch(spec, folder)
        except WeightsError as error:
            if not study.allow_random_weights:
                raise
            networks[name] = {**networks[name], "encoder_weights": None}
            encoder = networks[name].get("encoder", name)
            without.append(f"{name} ({encoder})")
            reason = reason or _first_line(error)  # That of the others is seldom another one.
    notes = (f"random weights for {', '.join(without)}: {reason}",) if without else ()
    return study.model_copy(update={"networks": networks}), notes


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
