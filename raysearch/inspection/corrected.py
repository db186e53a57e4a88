"""Write split lists without what the check has found, beside the data set and never into it."""

import shutil
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from raysearch.data import Sample
from raysearch.data.formats import Reader
from raysearch.data.samples import SPLITS
from raysearch.errors import DataError
from raysearch.inspection.duplicates import CONTRADICTION, disagreement, groups, near_pairs
from raysearch.inspection.report import Report, assignment_of


def corrected_splits(report: Report) -> dict[str, str]:
    """Return the split of every sample that stays, by name.

    Damaged files go, and duplicates whose labels contradict each other; of other duplicates one
    stays, in the last split that names it; of images that look almost the same in two splits, the
    one in the later split.
    """
    assert report.source is not None
    sound = report.sound
    assigned = assignment_of(report)
    for group in groups(sound):
        named = [look for look in group if look.sample.name in assigned]
        last = sorted(named, key=lambda look: SPLITS.index(assigned[look.sample.name]))[-1:]
        contradict = disagreement(group, report.study, report.source.target) > CONTRADICTION
        for look in named if contradict else [look for look in named if look not in last]:
            del assigned[look.sample.name]
    for earlier, later in list(near_pairs(sound, assigned)):
        if later.sample.name in assigned:
            assigned.pop(earlier.sample.name, None)
    return assigned


def write_corrected(report: Report, folder: Path | None = None) -> tuple[Path, str]:
    """Write corrected lists in the format's own form; return their folder and how to use them.

    Args:
        folder: by default one beside the data set, named after it.

    Raises:
        DataError: the format has no lists of its own, the folder exists, or it cannot be written.
    """
    source = report.source
    place = (folder or report.root.with_name(f"{report.root.name}-splits")).absolute()
    if source is None or "lists" not in type(source).Options.model_fields:
        raise DataError(
            f"--fix: the format {report.study.data.format} has no lists that could lie elsewhere; "
            "move the files that are named above out of the data set's folder"
        )
    if place.exists():
        raise DataError(f"--fix: {place} exists already; remove it, or name another with --fix DIR")
    if place.is_relative_to(report.root):
        raise DataError(f"--fix: {place} lies in the data set, which is never written to")
    splits = corrected_splits(report)
    partial = place.with_name(f".{place.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        _write(source, report, splits, partial)
        _check(report, splits, partial)
        partial.rename(place)
    except OSError as error:
        raise DataError(f"--fix: {place} cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return place, f"--set data.options.lists={place}"


def _write(source: Reader, report: Report, splits: Mapping[str, str], folder: Path) -> None:
    """Write <root>/train.txt and so on, with every list in every root that the format has."""
    samples = {look.sample.name: look.sample for look in report.sound}
    roots: list[Path] = list(getattr(source, "roots", [Path()]))
    lines: dict[Path, list[str]] = defaultdict(list)
    used = [split for split in SPLITS if split in splits.values()]
    for name, split in sorted(splits.items()):
        root = _root(samples[name], roots)
        lines[root / f"{split}.txt"].append(Path(name).relative_to(root).as_posix())
    for root in roots:
        (folder / root).mkdir(parents=True, exist_ok=True)
        for split in used:
            text = "".join(f"{line}\n" for line in lines[root / f"{split}.txt"])
            (folder / root / f"{split}.txt").write_text(text, encoding="utf-8")


def _root(sample: Sample, roots: list[Path]) -> Path:
    return next(root for root in roots if Path(sample.name).is_relative_to(root))


def _check(report: Report, splits: Mapping[str, str], folder: Path) -> None:
    """Read the lists back with the format's own reader."""
    assert report.source is not None
    options = {**report.study.data.options, "lists": str(folder)}
    data = report.study.data.model_copy(update={"options": options})
    samples = type(report.source)(report.root, data).samples()
    if {sample.name: sample.split for sample in samples} != dict(splits):
        raise DataError(
            f"--fix: the format {data.format} reads corrected lists otherwise than they are "
            "meant, so none are written; move the files that are named above"
        )
