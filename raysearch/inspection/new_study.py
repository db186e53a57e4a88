"""Look at a folder of images and write a first study of it, with comments."""

import re
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from os import getpid
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysearch.config import DataConfig
from raysearch.data.formats import Reader, names, reader
from raysearch.data.samples import Sample, damaged
from raysearch.errors import ConfigError, DataError
from raysearch.inspection.bands import Band, band_ranges
from raysearch.inspection.look import Look, look_at_all
from raysearch.inspection.study_text import counted, study_text
from raysearch.study import load_study, profile_names

MOST_IMAGES, FEWEST_IMAGES = 200, 8
MOST_PIXELS = 400_000_000
# A folder of folders with pictures is what many formats look like, so it counts last.
WEAKEST = "class_folders"


@dataclass(frozen=True)
class Facts:
    """What is known of a data set from some of its images, evenly spread.

    Attributes:
        folder: the data set, as an absolute path.
        data: what the study says of it: format, classes, bands and options.
        task: "segmentation" or "classification".
        dtype: of the images.
        total: images in all; looked_at: those opened; faults: what was wrong with some of them.
        listed: images of each split that lists (or folders) name, "" for none.
        shapes: (height, width) of the images looked at, (n, 2).
        classes: pixels of each class in each image, (n, K); one 1 a row where images are labelled.
        no_data: share of the values that are missing.
    """

    folder: Path
    data: DataConfig
    task: str
    dtype: str
    total: int
    looked_at: int
    faults: tuple[str, ...]
    listed: dict[str, int]
    shapes: NDArray[np.int64]
    classes: NDArray[np.int64]
    bands: Sequence[Band]
    no_data: float


def write_new(data: Path, target: Path | None = None, name: str | None = None) -> int:
    """Write the first study of a folder to target, by default ./<folder's name>.yaml.

    Raises:
        DataError: no format, or several, fit the folder; or none of its images can be used.
        ConfigError: target exists already, or cannot be a study's file.
    """
    folder = data.resolve()
    name = name or study_name(folder)
    target = target or Path(f"{name}.yaml")
    _check_target(target)
    facts = look(folder)
    _write(study_text(facts, name, target), target)
    _tell(facts, target)
    return 0


def study_name(folder: Path) -> str:
    """Return a folder's name as a study may be called."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", folder.name).strip(".-") or "study"


def recognise(folder: Path) -> tuple[str, dict[str, Any]]:
    """Return the one format that a folder is in, and what that format says of it.

    Raises:
        DataError: no such folder, or no format or several that fit.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give the data set's folder with --data")
    fitting = {name: said for name in names() if (said := reader(name).recognise(folder))}
    if len(fitting) > 1:
        fitting.pop(WEAKEST, None)
    if not fitting:
        raise DataError(
            f"{folder}: none of the formats fits ({', '.join(names())}). Give the folder that "
            "holds images/ and masks/ (pairs), one folder of pictures for each class "
            "(class_folders), or the root of another format; or write the study's data by hand"
        )
    if len(fitting) > 1:
        raise DataError(
            f"{folder}: {' and '.join(fitting)} both fit. Give a folder that holds one data set, "
            "or write the study's data by hand with the format that is meant"
        )
    return next(iter(fitting.items()))


def look(folder: Path) -> Facts:
    """Recognise a folder's format and open some of its images."""
    format_, said = recognise(folder)
    task = said.pop("task", "segmentation")
    if len(said["classes"]) < 2:
        raise DataError(
            f"{folder}: in format {format_}, but it names fewer than 2 classes; "
            "write the study's data.classes by hand"
        )
    data = DataConfig(format=format_, path=folder, **said)
    opened = reader(format_)(folder, data)
    samples = opened.samples()
    if not samples:
        raise DataError(f"{folder}: in format {format_}, but no image is labelled in it")
    chosen = _spread(opened, samples)
    looks = look_at_all(opened, chosen)
    faults = tuple(found.fault for found in looks if found.fault)
    sound = [found for found in looks if not found.fault]
    if not sound:
        raise damaged(faults, len(chosen))
    listed = Counter(sample.split or "" for sample in samples)
    return Facts(
        folder=folder,
        data=data,
        task=task,
        dtype=str(opened.dtype),
        total=len(samples),
        looked_at=len(chosen),
        faults=faults,
        listed=dict(listed),
        shapes=np.array([found.shape for found in sound]),
        classes=np.array([found.classes for found in sound]),
        bands=band_ranges(sound),
        no_data=_missing(sound),
    )


def _spread(opened: Reader, samples: Sequence[Sample]) -> Sequence[Sample]:
    """Return some of the samples, evenly spread; fewer where the images are large."""
    try:
        height, width = opened.shape(samples[0])
    except DataError:  # Told when it is looked at.
        height, width = 1, 1
    most = min(MOST_IMAGES, max(FEWEST_IMAGES, MOST_PIXELS // (height * width)))
    return samples[:: -(-len(samples) // most)]


def _missing(looks: Sequence[Look]) -> float:
    pixels = np.array([found.pixels for found in looks], dtype=np.float64)
    return float(np.average([found.no_data for found in looks], weights=pixels))


def _check_target(target: Path) -> None:
    if target.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{target}: a study ends in .yaml; give such a name with --output")
    if target.exists():
        raise ConfigError(
            f"{target}: exists already and is not overwritten; give another name with --output"
        )


def _write(text: str, target: Path) -> None:
    """Write aside, read back as a study with each of its profiles, and rename."""
    aside = target.with_name(f".{target.stem}.{getpid()}.yaml")
    try:
        aside.write_text(text, encoding="utf-8")
        for profile in (None, *profile_names(str(aside))):
            load_study(str(aside), profile)
        _check_target(target)
        aside.replace(target)
    except OSError as error:
        raise ConfigError(
            f"{target}: cannot be written ({error.strerror}); give another place with --output"
        ) from error
    finally:
        aside.unlink(missing_ok=True)


def _tell(facts: Facts, target: Path) -> None:
    data = facts.data
    print(
        f"{facts.folder}: format {data.format}, {counted(facts.total, 'image')}, "
        f"{counted(data.bands, 'band')} of {facts.dtype}, {len(data.classes)} classes "
        f"({facts.task})"
    )
    if facts.faults:
        print(
            f"{len(facts.faults)} of {facts.looked_at} images looked at cannot be used, "
            f"such as: {facts.faults[0]}"
        )
    path = shlex.quote(str(target))
    print(f"wrote {target}; read its comments, then:")
    print(f"  python -m raysearch.check {path}")
    print(f"  python -m raysearch.tune {path} --dry-run")
