"""What gives the class of an image away without its pixels: size, format, folder, camera.

A network that is shown such a set may learn the shortcut instead of the subject. Two tests, both
corrected for how many are made (Bonferroni):

- of each value of a fact (224x224), whether a class is over- or under-represented in its images:
  the hypergeometric distribution (Fisher's exact test), and at least half of the doubt that the
  class's share leaves must be gone;
- of each fact as a whole, whether a rule learned on four fifths of the images (the share of the
  class by value) ranks those of the last fifth: area under the ROC curve, Mann-Whitney's test.

Samples of one group count once for each value: frames of a video are no independent evidence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import adjusted_mutual_info_score

from raysearch.config import Study
from raysearch.inspection.findings import Finding, relative
from raysearch.inspection.look import Look, held_classes

CHANCE = 0.02
LEAST = 5
GAIN, ABSENCE = 0.5, 0.9
EXPECTED = 3  # Where fewer are expected, none at all is no surprise.
AREA = 0.8
FOLDS = 5
BINS = 8
SHOWN = 3
MOST = 5000  # For a rule over all values.
INFORMING = 5000  # The adjustment takes the square of the number of values.
# Of facts that follow from each other, the first that gives a class away is told.
FAMILIES = (
    ("image size", "longer side", "aspect ratio"),
    ("file format", "file ending", "JPEG quantisation"),
)
Presence = NDArray[np.bool_]


@dataclass(frozen=True)
class Clue:
    """One class that one fact gives away.

    Attributes:
        value: of the fact, where one value alone says it; None where the fact as a whole does.
        chance: the corrected probability of finding this in a set without shortcuts.
    """

    fact: str
    class_name: str
    value: str | None
    chance: float
    words: str


@dataclass(frozen=True)
class Fact:
    """What is told of a fact in the report.

    Attributes:
        values: how many images have each of its values, the most frequent first.
        information: adjusted mutual information with the label, 0 (none) to 1 (all).
    """

    name: str
    values: Mapping[str, int]
    information: float


@dataclass(frozen=True)
class Column:
    """A fact of every unit of evidence (a group with one value), and the classes it holds."""

    name: str
    values: NDArray[np.int64]
    names: Sequence[str]
    present: Presence


def facts_of(looks: Sequence[Look]) -> dict[str, list[str]]:
    """Return the value of every fact that varies, by its name, in the order of the looks."""
    sides = np.array([look.shape for look in looks], dtype=np.float64).reshape(-1, 2)
    columns = {
        "image size": [f"{look.shape[1]}x{look.shape[0]}" for look in looks],
        "longer side": _binned(sides.max(axis=1, initial=0), "{:.0f}"),
        "aspect ratio": _binned(sides[:, 1] / np.maximum(sides[:, 0], 1), "{:.2f}"),
    }
    for name in dict.fromkeys(name for look in looks for name in look.outside):
        columns[name] = [look.outside.get(name, "none") for look in looks]
    return {name: values for name, values in columns.items() if len(set(values)) > 1}


def _binned(numbers: NDArray[np.float64], style: str) -> list[str]:
    """Return numbers as ranges between their quantiles, or as they are where they are few."""
    different = np.unique(numbers.round(2))
    if len(different) <= BINS:
        return [style.format(number) for number in numbers]
    edges = np.unique(np.quantile(numbers, np.linspace(0, 1, BINS + 1)[1:-1]))
    at = np.searchsorted(edges, numbers, side="right")
    texts = [style.format(edge) for edge in edges]
    names = [f"below {texts[0]}", *(f"{a} to {b}" for a, b in pairwise(texts))]
    names.append(f"{texts[-1]} and more")
    return [names[place] for place in at]


def presence(study: Study, looks: Sequence[Look]) -> tuple[Presence, list[str]]:
    """Return which classes each image holds, (N, K), and their names; without the background."""
    held = held_classes(looks, study.what.num_classes)
    first = 1 if study.what.segments else 0
    return held[:, first:], list(study.data.classes[first:])


def fact_table(study: Study, looks: Sequence[Look]) -> list[Fact]:
    """Return every fact that varies, and how much it tells of the label."""
    held, _ = presence(study, looks)
    labels = np.unique(held, axis=0, return_inverse=True)[1].ravel()
    some = np.random.default_rng(0).permutation(len(labels))[:INFORMING]
    table = []
    for name, values in facts_of(looks).items():
        different, counts = np.unique(values, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        told = {str(different[at]): int(counts[at]) for at in order}
        information = float(adjusted_mutual_info_score(labels[some], np.array(values)[some]))
        table.append(Fact(name, told, max(0.0, information)))
    return sorted(table, key=lambda fact: -fact.information)


def shortcuts(root: Path, study: Study, looks: Sequence[Look]) -> list[Finding]:
    """Return a warning for each fact that gives classes away. Takes sound looks."""
    facts = facts_of(looks)
    findings = []
    for name, clues in _strongest(clues_of(study, looks, facts)).items():
        values = {clue.value for clue in clues}
        about = [x for x, value in zip(looks, facts[name], strict=True) if value in values]
        more = f"; and so for {len(clues) - SHOWN} more classes" if len(clues) > SHOWN else ""
        words = (
            f"{name} gives the class away: "
            + "; ".join(clue.words for clue in clues[:SHOWN])
            + f"{more}. A network may learn this in place of the subject; {_repair(name)}"
        )
        findings.append(
            Finding("warning", "shortcut", words, relative(root, [x.sample for x in about]))
        )
    return findings


def _repair(name: str) -> str:
    if name in FAMILIES[0]:
        return "set image_size to what the smallest have, and add images of other sizes"
    if name in ("folder", "camera"):
        return "take images of every class from each, and compare scores within one of them"
    return "save all images alike, from sources as good as each other"


def _strongest(clues: Sequence[Clue]) -> dict[str, list[Clue]]:
    """Return clues by fact, without what follows from another fact of its family."""
    told = {(clue.fact, clue.class_name) for clue in clues}
    kept: dict[str, list[Clue]] = {}
    for clue in sorted(clues, key=lambda clue: clue.chance):
        family = next((f for f in FAMILIES if clue.fact in f), (clue.fact,))
        before = family[: family.index(clue.fact)]
        if not any((name, clue.class_name) in told for name in before):
            kept.setdefault(clue.fact, []).append(clue)
    return kept


def clues_of(study: Study, looks: Sequence[Look], facts: Mapping[str, Sequence[str]]) -> list[Clue]:
    """Return each class that a fact gives away, at most once for each fact."""
    held, classes = presence(study, looks)
    groups = [look.sample.group for look in looks]
    columns = [_column(name, values, held, groups) for name, values in facts.items()]
    tests = max(1, sum(_tests(column) for column in columns))
    clues = []
    for column in columns:
        by_value = _by_value(column, classes, tests)
        told = {clue.class_name for clue in by_value}
        whole = [c for c in _as_a_whole(column, classes, tests) if c.class_name not in told]
        clues += [*by_value, *whole]
    return clues


def _column(name: str, values: Sequence[str], held: Presence, groups: Sequence[str]) -> Column:
    units: dict[tuple[str, str], Presence] = {}
    for group, value, row in zip(groups, values, held, strict=True):
        key = (group, value)
        units[key] = units[key] | row if key in units else row
    names, numbers = np.unique([value for _, value in units], return_inverse=True)
    present = np.array(list(units.values())).reshape(len(units), -1)
    return Column(name, numbers, [str(name) for name in names], present)


def _testable(column: Column) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the values and the classes that are frequent enough to be tested."""
    sizes = np.bincount(column.values, minlength=len(column.names))
    counts = column.present.sum(axis=0)
    return np.flatnonzero(sizes >= LEAST), np.flatnonzero(
        (counts > 0) & (counts < len(column.present))
    )


def _tests(column: Column) -> int:
    """Count independent tests: two values that are all there is are one, and so are two classes."""
    values, classes = _testable(column)
    exclusive = bool((column.present.sum(axis=1) == 1).all())
    return max(1, len(values) - 1) * max(1, len(classes) - exclusive)


def _by_value(column: Column, classes: Sequence[str], tests: int) -> list[Clue]:
    """Return the classes that a single value says: nearly always there, else never."""
    values, tested = _testable(column)
    if not len(values) or not len(tested):
        return []
    member = column.values[:, None] == values[None]
    total, size = len(member), member.sum(axis=0)[:, None]
    both = member.astype(np.float64).T @ column.present[:, tested].astype(np.float64)
    both = both.round().astype(np.int64)
    count = column.present[:, tested].sum(axis=0)[None]
    share, prior = both / size, count / total
    # The tails are slow to sum, so that they are asked for only where they can be small enough.
    often = (share - prior) >= GAIN * (1 - prior)
    never = ((prior - share) >= ABSENCE * prior) & (size * prior >= EXPECTED)
    sizes, counts = np.broadcast_to(size, both.shape), np.broadcast_to(count, both.shape)
    present, absent = np.ones(both.shape), np.ones(both.shape)
    present[often] = stats.hypergeom.sf(both[often] - 1, total, counts[often], sizes[often])
    absent[never] = stats.hypergeom.cdf(both[never], total, counts[never], sizes[never])
    # Where a value says what there is, it goes without saying what there is not.
    absent[(present * tests < CHANCE).any(axis=1)] = 1.0
    clues = []
    for at, number in enumerate(tested):
        sure, rare = present[:, at], absent[:, at]
        holds = sure.min() <= rare.min()
        row = int(np.argmin(sure if holds else rare))
        chance = float(tests * (sure if holds else rare)[row])
        if chance >= CHANCE:
            continue
        name = column.names[int(values[row])]
        inside, of = int(both[row, at]), int(size[row, 0])
        others, rest = int(count[0, at]) - inside, total - of
        verb = _how_often(inside, of) if holds else "never" if not inside else "hardly ever"
        words = (
            f"{name} is {verb} '{classes[number]}' "
            f"({inside} of its {of} images, {others} of the {rest} others)"
        )
        clues.append(Clue(column.name, classes[number], name, chance, words))
    return clues


def _how_often(part: int, whole: int) -> str:
    return "always" if part == whole else "mostly"


def _as_a_whole(column: Column, classes: Sequence[str], tests: int) -> list[Clue]:
    """Return the classes that a rule over all values tells, on images that it was not made from."""
    if len(column.values) > MOST:
        some = np.random.default_rng(0).permutation(len(column.values))[:MOST]
        column = replace(column, values=column.values[some], present=column.present[some])
    _, tested = _testable(column)
    if len(column.names) < 3 or len(column.present) < 2 * FOLDS:
        return []
    scores = _held_out(column)
    clues = []
    for number in tested:
        there = column.present[:, number]
        yes, no = int(there.sum()), int((~there).sum())
        ranks = stats.rankdata(scores[:, number])
        area = (ranks[there].sum() - yes * (yes + 1) / 2) / (yes * no)
        spread = np.sqrt((yes + no + 1) / (12 * yes * no))
        chance = float(tests * stats.norm.sf((area - 0.5) / spread))
        if area >= AREA and chance < CHANCE and yes >= LEAST:
            words = f"'{classes[number]}' is told by a rule over its values (AUC {area:.2f})"
            clues.append(Clue(column.name, classes[number], None, chance, words))
    return clues


def _held_out(column: Column) -> NDArray[np.float64]:
    """Return each image's share of every class by value, (N, K), learned from the other folds."""
    present = column.present.astype(np.float64)
    fold = np.random.default_rng(0).permutation(len(present)) % FOLDS
    scores = np.empty_like(present)
    for number in range(FOLDS):
        held = fold == number
        prior = present[~held].mean(axis=0)
        sums = np.zeros((len(column.names), present.shape[1]))
        np.add.at(sums, column.values[~held], present[~held])
        sizes = np.bincount(column.values[~held], minlength=len(column.names))[:, None]
        scores[held] = ((sums + prior) / (sizes + 1))[column.values[held]]
    return scores
