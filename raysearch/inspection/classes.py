"""How much there is of each class, in each split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from raysearch.config import Study
from raysearch.data.samples import SPLITS
from raysearch.inspection.findings import Finding
from raysearch.inspection.look import Look

FEW = 3


@dataclass(frozen=True)
class ClassShare:
    """One class.

    Attributes:
        pixels: its share of all labelled pixels (of all images, where images are labelled).
        images: how many images hold it, by split.
    """

    name: str
    pixels: float
    images: Mapping[str, int]

    @property
    def total(self) -> int:
        return sum(self.images.values())


def class_shares(
    study: Study, looks: Sequence[Look], assigned: Mapping[str, str]
) -> list[ClassShare]:
    """Count classes. Takes sound looks, and each sample's split by name ("" for none)."""
    names = study.data.classes
    counts = np.array([look.classes for look in looks]).reshape(len(looks), len(names))
    pixels = counts.sum(axis=0)
    places = np.array([assigned.get(look.sample.name, "") for look in looks])
    return [
        ClassShare(
            name,
            float(pixels[index] / max(1, pixels.sum())),
            {
                split: int((counts[places == split, index] > 0).sum())
                for split in (*SPLITS, "")
                if split or "" in places
            },
        )
        for index, name in enumerate(names)
    ]


def missing(shares: Sequence[ClassShare], study: Study) -> list[Finding]:
    """Return warnings about classes that a split, or the whole set, lacks."""
    findings = []
    for share in shares:
        lacking = [s for s in SPLITS if s in _filled(shares) and not share.images[s]]
        if not share.total:
            words = (
                f"no image holds '{share.name}'; take it out of data.classes, or find images of it"
            )
            findings.append(Finding("warning", "class", words))
        elif lacking:
            words = (
                f"'{share.name}' is missing from {' and '.join(lacking)} "
                f"({share.total} images hold it); {_meaning(lacking)}"
            )
            findings.append(Finding("warning", "class", words))
        elif share.images["train"] < FEW:
            words = (
                f"only {share.images['train']} training images hold '{share.name}'; "
                "a class needs more to be learned"
            )
            findings.append(Finding("warning", "class", words))
    return findings


def _filled(shares: Sequence[ClassShare]) -> list[str]:
    return [split for split in SPLITS if any(share.images[split] for share in shares)]


def _meaning(lacking: Sequence[str]) -> str:
    if "train" in lacking:
        return "it cannot be learned"
    return "its score there says nothing"
