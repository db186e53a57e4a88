"""What the search suspects of its labels, with the pictures that lie in the run folder."""

from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysearch.inference.suspects import KNOWN
from raysearch.records.report.known import Known
from raysearch.records.suspects import FOLDER, read_suspects

MOST = 12  # Pictures; a page of a few megabytes opens everywhere.


@dataclass(frozen=True)
class Doubt:
    """One suspect; `source` is its picture as a data URI, `words` what trials say against it."""

    source: str
    image: str
    words: str


@dataclass(frozen=True)
class Doubts:
    """The worst suspects.

    Attributes:
        judged: who judged what, a sentence.
        unknown: why some classes were not judged; empty where all were.
        count: of all suspects.
        wide: whether each picture is a strip of image, label, what trials say and difference.
        table: name of the file with all of them.
    """

    shown: list[Doubt]
    judged: str
    unknown: str
    count: int
    wide: bool
    table: str


def doubts(known: Known) -> Doubts | None:
    """Return the suspects of a search; None where nobody has looked for any."""
    told = read_suspects(known.run)
    if told is None:
        return None
    rows, trials = told["suspects"], told["trials"]
    shown = [
        Doubt(_source(known.run.path / row["picture"]), row["image"], _words(row))
        for row in rows
        if "picture" in row and (known.run.path / row["picture"]).is_file()
    ]
    judged = (
        f"{told['images']} validation images were judged by trials {', '.join(trials)}"
        if trials
        else "Fewer than two trials have kept their weights, so nothing could be judged"
    )
    return Doubts(
        shown[:MOST], judged, _unknown(told["unknown"]), len(rows), known.study.what.segments,
        f"{FOLDER}.csv",
    )  # fmt: skip


def _unknown(classes: list[str]) -> str:
    if not classes:
        return ""
    names = ", ".join(classes)
    return (
        f"Labels of {names} were not judged: together, these trials reach an IoU below {KNOWN:g} "
        "there, so a difference says more about them than about the label."
    )


def _words(row: dict[str, Any]) -> str:
    said = f"{row['agreement']:.0%} of the trials say {row['said']} ({row['confidence']:.0%} sure)"
    if row["pixels"] == "" or not row["pixels"]:
        return f"labelled {row['label']}; {said}"
    return f"labelled {row['label']}, {row['pixels']} pixels; {said}"


def _source(path: Path) -> str:
    return f"data:image/jpeg;base64,{b64encode(path.read_bytes()).decode('ascii')}"
