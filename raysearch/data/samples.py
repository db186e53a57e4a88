"""One labelled image, as a list names it, and the error that names every damaged one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from raysearch.errors import DataError

SPLITS = ("train", "val", "test")
SHOWN = 20


@dataclass(frozen=True)
class Sample:
    """One labelled image.

    Attributes:
        name: unique in its data set, such as "cheetah/00000012".
        image: file of the image.
        target: file of the mask, or the class id of a whole image.
        group: samples of one group (a scene, a video) never stand in two splits.
        split: the list that names the sample: "train", "val" or "test"; None where none does.
        facts: what else is known of the picture, such as {"camera": "left"}.
    """

    name: str
    image: Path
    target: Path | int
    group: str
    split: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


def damaged(lines: Sequence[str], total: int, what: str = "images") -> DataError:
    """Return the error that lists damaged samples, one line each, the first 20 in full."""
    shown = "".join(f"\n  {line}" for line in lines[:SHOWN])
    rest = f"\n  and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    return DataError(
        f"{len(lines)} of {total} {what} cannot be used:{shown}{rest}\n"
        "Repair these files, or take them out of the lists."
    )
