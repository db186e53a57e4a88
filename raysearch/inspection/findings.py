"""What is wrong with a data set, or strange about it, in one sentence each."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from raysearch.data.samples import Sample
from raysearch.errors import DataError

NAMED = 3


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        level: "error" (damaged or contradictory: nothing can be trained on it) or "warning".
        kind: one word for what it is, such as "damaged", "duplicate" or "shortcut".
        words: what, where and how to repair it.
        files: the image files that it is about, relative to the data set's folder.
    """

    level: Literal["error", "warning"]
    kind: str
    words: str
    files: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "files": list(self.files)}


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """Return those that no training may begin with."""
    return [finding for finding in findings if finding.level == "error"]


def refuse(findings: Iterable[Finding]) -> None:
    """Raise a DataError in the findings' own words where one of them is an error."""
    found = errors(findings)
    if found:
        raise DataError("\n".join(finding.words for finding in found))


def relative(root: Path, samples: Iterable[Sample]) -> tuple[str, ...]:
    """Return the image files of samples, relative to the data set's folder where they lie in it."""
    return tuple(
        (s.image.relative_to(root) if s.image.is_relative_to(root) else s.image).as_posix()
        for s in samples
    )


def some(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
