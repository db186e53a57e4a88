"""What a configuration does wrong: written down, named, and tried once more where that may help."""

import json
import traceback
from pathlib import Path

from raysearch.records.files import write_text
from raysearch.records.run_folder import ERROR
from raysearch.redaction import redacted

TRIES = "failures.json"
OWN = "raysearch.errors."  # What raysearch raises on purpose comes again in the same way.
MOST_TRIES = 3
# How Python, safetensors and PyTorch say that a disk is full.
FULL = ("No space left on device", "Disk quota exceeded", "inline_container.cc")


def disk_full(error: BaseException) -> bool:
    """Whether a disk has no room left, which no configuration is to blame for."""
    return any(text in str(error) for text in FULL)


def note(folder: Path, error: BaseException) -> None:
    """Write an exception's traceback into a trial's folder."""
    write(folder, "".join(traceback.format_exception(error)))


def write(folder: Path, text: str) -> None:
    """Write the traceback of the last failure, aside and renamed."""
    write_text(folder / ERROR, redacted(text))


def once_more(folder: Path) -> bool:
    """Count the failure that was written last; return whether to try the trial again.

    An exception that has come before is final, in whichever try or session, and so is the third.
    """
    last = _last_line(folder)
    before = _tries(folder)
    write_text(folder / TRIES, redacted(json.dumps([*before, last])))
    final = last.startswith(OWN) or last in before or len(before) + 1 >= MOST_TRIES
    return not final


def reason(folder: Path) -> str:
    """Name a failure by its traceback: "not finite", "out of memory", "exception"; "" for none."""
    if not (folder / ERROR).is_file():
        return ""
    text = (folder / ERROR).read_text(encoding="utf-8")
    if "the loss is not finite" in text:
        return "not finite"
    memory = "MemoryError" in text or "out of memory" in text.lower()
    return "out of memory" if memory else "exception"


def _last_line(folder: Path) -> str:
    """What the traceback ends with: the exception's type and message."""
    lines = (folder / ERROR).read_text(encoding="utf-8").strip().splitlines()
    starts = [line for line in lines if line and not line[0].isspace()]
    return starts[-1] if starts else ""


def _tries(folder: Path) -> list[str]:
    path = folder / TRIES
    return list(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else []
