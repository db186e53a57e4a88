"""Assign samples to train, validation and test, so that no image stands on two sides."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raysearch.config import DataConfig
from raysearch.data.samples import SPLITS, Sample
from raysearch.errors import DataError

Unit = list[Sample]


@dataclass(frozen=True)
class Splits:
    """Names of samples, sorted.

    Attributes:
        mode: "honest" or "official" (the lists as they are; nothing is a test figure then).
        dropped: left out of every split, because a duplicate or group mate stands in a later one.
    """

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    mode: str
    dropped: tuple[str, ...] = ()

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"


def read_splits(path: Path) -> Splits:
    """Read splits as `Splits.to_json` wrote them.

    Raises:
        DataError: no such file, or one that holds no splits.
    """
    try:
        parts = json.loads(path.read_text(encoding="utf-8"))
        mode = parts.pop("mode")
        return Splits(**{name: tuple(part) for name, part in parts.items()}, mode=mode)
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise DataError(f"{path}: not readable as splits ({error})") from error


def split(
    samples: Sequence[Sample],
    digests: Mapping[str, str],
    data: DataConfig,
    seed: int,
    strata: Mapping[str, str] | None = None,
) -> Splits:
    """Split samples by `data.splits`.

    honest: lists are kept, but where there is no test list the validation list becomes the test
    split and validation images are held out of the training list; where there are no lists at
    all, both are held out. Groups and byte-identical images stay on one side: what also stands
    in a later split leaves the earlier one. official: the lists as they are.

    Args:
        digests: digest of each sample's image file by name; equal means duplicate.
        strata: what to spread evenly, by name, such as the rarest class in the image; by default
            the class id, or the sample's folder.

    Raises:
        DataError: a split is empty, or official splits are asked for where there are no lists.
    """
    lists = {s.name: s.split for s in samples}
    dropped: set[str] = set()
    if data.splits == "official":
        assigned = _official(lists)
    else:
        strata = strata or {s.name: _stratum(s) for s in samples}
        units = _units(samples, digests)
        assigned = _listed(lists)
        dropped = _keep_apart(units, assigned)
        _hold_out_missing(units, assigned, strata, data, np.random.default_rng(seed))
    parts = {name: _named(assigned, name) for name in SPLITS}
    _check_filled(parts, data)
    return Splits(**parts, mode=data.splits, dropped=tuple(sorted(dropped)))


def rarest_classes(names: Iterable[str], held: NDArray[np.bool_]) -> dict[str, str]:
    """Return the rarest class in each image by name, by which splits are stratified.

    Args:
        held: which classes each of the images holds, (N, K).
    """
    images = np.where(held, held.sum(axis=0), np.iinfo(np.int64).max)
    return dict(zip(names, images.argmin(axis=1).astype(str).tolist(), strict=True))


def _named(assigned: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(sorted(sample for sample, part in assigned.items() if part == name))


def _stratum(sample: Sample) -> str:
    return str(sample.target) if isinstance(sample.target, int) else str(sample.image.parent)


def _official(lists: Mapping[str, str | None]) -> dict[str, str]:
    assigned = {name: part for name, part in lists.items() if part}
    if not {"train", "val"} <= set(assigned.values()):
        raise DataError(
            "official splits need a training list and a validation list with images in them; "
            "take data.splits: honest (--splits honest)"
        )
    return assigned


def _listed(lists: Mapping[str, str | None]) -> dict[str, str]:
    """Assign by lists; a validation list without a test list becomes the test split."""
    only_val = "test" not in lists.values()
    renamed = {"val": "test"} if only_val else {}
    return {name: renamed.get(part or "", part or "train") for name, part in lists.items()}


def _units(samples: Sequence[Sample], digests: Mapping[str, str]) -> list[Unit]:
    """Return samples that must stay together, through a group or equal bytes, as one unit each."""
    parent = {sample.name: sample.name for sample in samples}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    first: dict[tuple[str, str], str] = {}
    for sample in sorted(samples, key=lambda s: s.name):
        for key in (("group", sample.group), ("digest", digests[sample.name])):
            one, two = sorted((root(first.setdefault(key, sample.name)), root(sample.name)))
            parent[two] = one
    units: dict[str, Unit] = defaultdict(list)
    for sample in sorted(samples, key=lambda s: s.name):
        units[root(sample.name)].append(sample)
    return list(units.values())


def _keep_apart(units: Iterable[Unit], assigned: dict[str, str]) -> set[str]:
    """Take members of a unit out of every split but the last one that the unit touches."""
    dropped = set()
    for unit in units:
        last = max((assigned[s.name] for s in unit), key=SPLITS.index)
        dropped |= {s.name for s in unit if assigned[s.name] != last}
    for name in dropped:
        del assigned[name]
    return dropped


def _hold_out_missing(
    units: Iterable[Unit],
    assigned: dict[str, str],
    strata: Mapping[str, str],
    data: DataConfig,
    random: np.random.Generator,
) -> None:
    for name, fraction in (("test", data.test_fraction), ("val", data.validation_fraction)):
        if name in assigned.values():
            continue
        pool = [
            remaining
            for unit in units
            if (remaining := [s for s in unit if assigned.get(s.name) == "train"])
        ]
        for sample in _choose(pool, strata, fraction, random):
            assigned[sample.name] = name


def _choose(
    pool: Sequence[Unit], strata: Mapping[str, str], fraction: float, random: np.random.Generator
) -> list[Sample]:
    """Draw whole units, the same fraction of each stratum, at least one unit of every two."""
    by_stratum: dict[str, list[Unit]] = defaultdict(list)
    for unit in pool:
        by_stratum[strata[unit[0].name]].append(unit)
    chosen: list[Sample] = []
    for stratum in sorted(by_stratum):
        here = by_stratum[stratum]
        wanted = max(1, round(fraction * sum(map(len, here))))
        drawn: list[Sample] = []
        for position in random.permutation(len(here))[: len(here) - 1]:
            if drawn and len(drawn) + len(here[position]) > wanted:
                continue
            if len(drawn) < wanted:
                drawn += here[position]
        chosen += drawn
    return chosen


def _check_filled(parts: Mapping[str, tuple[str, ...]], data: DataConfig) -> None:
    needed = SPLITS if data.splits == "honest" else SPLITS[:2]
    sizes = ", ".join(f"{name} {len(part)}" for name, part in parts.items())
    for name in needed:
        if not parts[name]:
            raise DataError(
                f"the {name} split is empty ({sizes} images); add images to its list, or change "
                "data.validation_fraction and data.test_fraction"
            )
