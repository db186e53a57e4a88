"""Everything that is found out about a data set: `inspect` for all, `quick_findings` for `tune`."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysearch.config import Study
from raysearch.data import Cache, Data, Sample
from raysearch.data.formats import Reader, reader
from raysearch.data.samples import SPLITS
from raysearch.data.splits import Splits, rarest_classes, split
from raysearch.errors import DataError
from raysearch.inspection import duplicates, files, shortcuts
from raysearch.inspection.bands import Band, band_ranges, constant_bands
from raysearch.inspection.classes import ClassShare, class_shares, missing
from raysearch.inspection.estimates import Memory, cache_bytes, memory_estimates
from raysearch.inspection.findings import Finding, errors
from raysearch.inspection.look import Look, held_classes, look_at_all
from raysearch.inspection.outside import place_facts

Advance = Callable[[int], Callable[[], None]]


@dataclass(frozen=True)
class Report:
    """What a check has found. `looks` and `source` serve the page's pictures, not the JSON.

    Attributes:
        listed: how many samples each list names, by split; "" where no list names them.
        used: how many of them each split takes, as a search would split them.
        dropped: samples that no split takes.
        sizes: how many images have each size ("224x224"), the most frequent first.
        cache_bytes: estimate of the cache's size.
    """

    study: Study
    root: Path
    findings: list[Finding]
    listed: Mapping[str, int] = field(default_factory=dict)
    used: Mapping[str, int] = field(default_factory=dict)
    dropped: Sequence[str] = ()
    shares: list[ClassShare] = field(default_factory=list)
    sizes: Mapping[str, int] = field(default_factory=dict)
    facts: list[shortcuts.Fact] = field(default_factory=list)
    bands: list[Band] = field(default_factory=list)
    no_data: float = 0.0
    cache_bytes: int = 0
    memory: list[Memory] = field(default_factory=list)
    seconds: float = 0.0
    looks: list[Look] = field(default_factory=list)
    source: Reader | None = None
    seed: int = 0

    @property
    def sound(self) -> list[Look]:
        return [look for look in self.looks if look.fault is None]

    @property
    def passed(self) -> bool:
        return not errors(self.findings)

    def to_json(self) -> dict[str, Any]:
        return {
            "study": self.study.name,
            "data": str(self.root),
            "format": self.study.data.format,
            "passed": self.passed,
            "findings": [finding.to_json() for finding in self.findings],
            "images": {"listed": dict(self.listed), "used": dict(self.used)},
            "dropped": list(self.dropped),
            "classes": [{**asdict(share), "total": share.total} for share in self.shares],
            "sizes": dict(self.sizes),
            "facts": [asdict(fact) for fact in self.facts],
            "bands": [asdict(band) for band in self.bands],
            "no_data": self.no_data,
            "estimates": {
                "cache_bytes": self.cache_bytes,
                "memory": [{**asdict(m), "total": m.total} for m in self.memory],
            },
            "seconds": round(self.seconds, 2),
        }


def no_progress(total: int) -> Callable[[], None]:
    """Tell nobody how far the check is."""
    return lambda: None


def inspect(study: Study, root: Path, seed: int = 0, progress: Advance = no_progress) -> Report:
    """Open every file of a data set and return everything there is to say.

    Args:
        seed: of the splits, as of a search.
        progress: is told how many files there are, and returns what is called after each.

    Raises:
        DataError: the folder is missing, or is no data set of this format.
        ConfigError: options that the format does not know.
    """
    begun = time.monotonic()
    source = reader(study.data.format)(root, study.data)
    try:
        samples = source.samples()
    except DataError as error:
        return Report(study, root, [Finding("error", "lists", str(error))])
    looks = look_at_all(source, samples, progress(len(samples)))
    report = _judge(study, root, source, looks, seed)
    return replace(report, seconds=time.monotonic() - begun)


def _judge(study: Study, root: Path, source: Reader, looks: list[Look], seed: int) -> Report:
    sound = [look for look in looks if look.fault is None]
    parts, problem = _split(study, sound, seed)
    assigned = assignment(parts) if parts else _listed(sound)
    shares = class_shares(study, sound, assigned)
    ranges = band_ranges(sound)
    damaged = files.damaged(root, looks)
    found = [
        *damaged,
        *duplicates.exact(root, sound, study, source.target),
        *([Finding("error", "splits", problem)] if problem and not damaged else []),
        *shortcuts.shortcuts(root, study, sound),
        *duplicates.near(root, sound, assigned),
        *(missing(shares, study) if parts else []),
        *files.absurd(root, sound, study),
        *constant_bands(ranges),
    ]
    listed = Counter(look.sample.split or "" for look in looks)
    used = Counter(assigned.values())
    return Report(
        study,
        root,
        sorted(found, key=lambda finding: finding.level != "error"),
        listed={name: listed[name] for name in (*SPLITS, "") if listed[name]},
        used={name: used[name] for name in SPLITS},
        dropped=sorted({look.sample.name for look in sound} - assigned.keys()),
        shares=shares,
        sizes=dict(Counter(f"{x.shape[1]}x{x.shape[0]}" for x in sound).most_common()),
        facts=shortcuts.fact_table(study, sound),
        bands=ranges,
        no_data=float(np.mean([look.no_data for look in sound])) if sound else 0.0,
        cache_bytes=cache_bytes(source, sound),
        memory=memory_estimates(study),
        looks=looks,
        source=source,
        seed=seed,
    )


def _listed(looks: Sequence[Look]) -> dict[str, str]:
    return {look.sample.name: look.sample.split for look in looks if look.sample.split}


def _split(study: Study, looks: Sequence[Look], seed: int) -> tuple[Splits | None, str]:
    """Return the splits that a search takes, or None and why there are none."""
    samples = [look.sample for look in looks]
    digests = {look.sample.name: look.digest for look in looks}
    strata = rarest_classes(digests, held_classes(looks, study.what.num_classes))
    try:
        return split(samples, digests, study.data, seed, strata), ""
    except DataError as error:
        return None, str(error)


def assignment(parts: Splits) -> dict[str, str]:
    """Return each sample's split by its name."""
    return {name: part for part in SPLITS for name in getattr(parts, part)}


def assignment_of(report: Report) -> dict[str, str]:
    """Return each sound sample's split: as the lists say, or where none do, as a search draws it.

    Raises:
        DataError: there are no lists, and splits cannot be drawn.
    """
    listed = _listed(report.sound)
    if listed:
        return listed
    parts, problem = _split(report.study, report.sound, report.seed)
    if parts is None:
        raise DataError(problem)
    return assignment(parts)


def quick_findings(
    study: Study, root: Path, data: Data, samples: Sequence[Sample] | None = None
) -> list[Finding]:
    """Return what the cache already tells, in the words of `check`; opens no image file.

    Damaged files do not come so far: the cache refuses them in the same words. `refuse` raises
    what is an error.

    Args:
        samples: of the reader; None reads the lists again.
    """
    source = reader(study.data.format)(root, study.data)
    looks = _cached_looks(source, samples or source.samples(), data.cache)

    def mask(sample: Sample) -> NDArray[np.uint8]:
        return data.cache.mask(data.cache.index(sample.name))

    shares = class_shares(study, looks, assignment(data.splits))
    found = [
        *duplicates.exact(root, looks, study, mask),
        *shortcuts.shortcuts(root, study, looks),
        *missing(shares, study),
    ]
    return sorted(found, key=lambda finding: finding.level != "error")


def _cached_looks(source: Reader, samples: Sequence[Sample], cache: Cache) -> list[Look]:
    """Return looks with what the cache knows: shape, classes, digest, no data; labels where asked.

    Masks are told apart for files that stand twice only, which spares reading the others.
    """
    copies = Counter(cache.file_digests.values())

    def one(sample: Sample) -> Look:
        at, digest = cache.index(sample.name), cache.file_digests[sample.name]
        whole = isinstance(sample.target, int)
        label = str(sample.target) if whole else ""
        if copies[digest] > 1 and not whole:
            label = str(hash(cache.mask(at).tobytes()))
        return Look(
            sample,
            shape=cache.shape(at),
            outside=place_facts(source, sample),
            classes=cache.class_pixels[at],
            digest=digest,
            label=label,
            no_data=float(cache.no_data[at]),
        )

    return [one(sample) for sample in samples]
