"""Images that stand twice: byte for byte, or almost the same to the eye."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysearch.config import Study
from raysearch.data import Sample
from raysearch.data.samples import SPLITS
from raysearch.inspection.findings import Finding, relative, some
from raysearch.inspection.look import Look

Mask = Callable[[Sample], NDArray[np.uint8]]
Pair = tuple[Look, Look]

CONTRADICTION = 0.25
BITS = 6
ALIKE = 0.95
PLAIN = 4.0
BLOCK = 1024
SEVERAL = 10


def groups(looks: Sequence[Look]) -> list[list[Look]]:
    """Return the looks at files with the same bytes, two and more together."""
    same: dict[str, list[Look]] = defaultdict(list)
    for look in looks:
        if look.digest:
            same[look.digest].append(look)
    return [group for group in same.values() if len(group) > 1]


def exact(root: Path, looks: Sequence[Look], study: Study, mask: Mask) -> list[Finding]:
    """Return what there is to say of files with the same bytes.

    Args:
        mask: gives a sample's class ids (H, W); asked for the duplicates of segmentation only.
    """
    findings, inside = [], []
    for group in groups(looks):
        differ = disagreement(group, study, mask)
        if differ > CONTRADICTION:
            findings.append(_contradiction(root, group, study, differ))
        lists = {look.sample.split for look in group} - {None}
        if len(lists) > 1:
            findings.append(_across(root, group, study, differ))
        elif differ <= CONTRADICTION:
            inside.append(group)
    return [*findings, *_inside(root, inside)]


def disagreement(group: Sequence[Look], study: Study, mask: Mask) -> float:
    """Return the largest share of the foreground on which duplicates are labelled differently."""
    if len({look.label for look in group}) == 1:
        return 0.0
    if not study.what.segments:
        return 1.0
    first = mask(group[0].sample)
    return max(_differing(first, mask(look.sample), study) for look in group[1:])


def _differing(one: NDArray[np.uint8], two: NDArray[np.uint8], study: Study) -> float:
    known = (one != study.data.ignore_index) & (two != study.data.ignore_index)
    foreground = known & ((one > 0) | (two > 0))
    return float(((one != two) & known).sum() / max(1, foreground.sum()))


def _contradiction(root: Path, group: Sequence[Look], study: Study, differ: float) -> Finding:
    files = relative(root, [look.sample for look in group])
    if study.what.segments:
        how = f"their masks differ on {differ:.0%} of the foreground"
    else:
        told = (f"'{study.data.classes[int(look.label)]}'" for look in group)
        how = f"they are labelled {' and '.join(dict.fromkeys(told))}"
    words = (
        f"{' and '.join(files)}: the same bytes, but {how}; correct the labels, or take these "
        "files out (--fix writes lists without them)"
    )
    return Finding("error", "contradiction", words, files)


def _across(root: Path, group: Sequence[Look], study: Study, differ: float) -> Finding:
    files = relative(root, [look.sample for look in group])
    told = " and ".join(
        f"{file} ({look.sample.split or 'no list'})"
        for file, look in zip(files, group, strict=True)
    )
    labelled = f" (their masks differ on {differ:.1%} of the foreground)" if differ else ""
    kept = max((look.sample.split or "train" for look in group), key=SPLITS.index)
    repair = (
        f"honest splits leave it in {kept} alone"
        if study.data.splits == "honest"
        else "official splits keep both, so that what is measured was learned"
    )
    words = f"{told}: the same bytes in two splits{labelled}; {repair}; --fix writes such lists"
    return Finding("warning", "duplicate", words, files)


def _inside(root: Path, groups: Sequence[Sequence[Look]]) -> list[Finding]:
    if not groups:
        return []
    files = relative(root, [look.sample for group in groups for look in group])
    words = (
        f"{len(groups)} image{'s' if len(groups) > 1 else ''} with byte-identical copies: "
        f"{some(files)}; splits keep copies together, but they weigh more in training"
    )
    return [Finding("warning", "duplicate", words, files)]


def near(root: Path, looks: Sequence[Look], assigned: Mapping[str, str]) -> list[Finding]:
    """Return warnings about images in different splits that look almost the same.

    Args:
        assigned: each sample's split by name; samples in none are not compared.
    """
    pairs = [pair for pair in near_pairs(looks, assigned) if pair[0].digest != pair[1].digest]
    if len(pairs) <= SEVERAL:
        return [_near(root, pair, assigned) for pair in pairs]
    files = relative(root, [look.sample for pair in pairs for look in pair])
    words = (
        f"{len(pairs)} pairs of images in different splits look almost the same, such as "
        f"{files[0]} and {files[1]}; give what belongs together one group, or take --fix's lists"
    )
    return [Finding("warning", "near-duplicate", words, files)]


def _near(root: Path, pair: Pair, assigned: Mapping[str, str]) -> Finding:
    files = relative(root, [look.sample for look in pair])
    told = " and ".join(
        f"{file} ({assigned[look.sample.name]})" for file, look in zip(files, pair, strict=True)
    )
    words = f"{told} look almost the same, in different splits; keep one of them"
    return Finding("warning", "near-duplicate", words, files)


def near_pairs(looks: Sequence[Look], assigned: Mapping[str, str]) -> Iterator[Pair]:
    """Yield pairs across splits and groups whose perceptual hashes and thumbnails agree.

    A hash is 64 bits; all pairs are compared in blocks (20000 images take seconds). Hashes of plain
    pictures agree by chance, so that the thumbnails must correlate as well.
    """
    placed = [x for x in looks if assigned.get(x.sample.name) and _deviation(x.thumb) > PLAIN]
    hashes = np.array([look.hash for look in placed], dtype=np.uint64)
    splits = np.array([SPLITS.index(assigned[look.sample.name]) for look in placed])
    for begin in range(0, len(placed), BLOCK):
        rows = slice(begin, begin + BLOCK)
        close = np.bitwise_count(hashes[rows, None] ^ hashes[None]) <= BITS
        close &= splits[rows, None] < splits[None]
        for one, two in zip(*np.nonzero(close), strict=True):
            pair = placed[begin + int(one)], placed[int(two)]
            if pair[0].sample.group != pair[1].sample.group and _alike(*pair):
                yield pair


def _alike(one: Look, two: Look) -> bool:
    left, right = (_centred(look.thumb) for look in (one, two))
    norm = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float((left * right).sum()) >= ALIKE * max(norm, 1e-9)


def _centred(thumb: NDArray[Any]) -> NDArray[np.float64]:
    values = thumb.astype(np.float64)
    return np.asarray(values - values.mean(axis=(0, 1)))


def _deviation(thumb: NDArray[Any]) -> float:
    return float(_centred(thumb).std())
