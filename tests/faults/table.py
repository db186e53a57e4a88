"""The fault table: what may happen, and what is promised. docs/reliability.md is made from it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

ROWS = {
    "driver killed": (
        "driver kill -9 at random moments",
        "`--resume` completes; none lost, none twice; at most one epoch of a trial repeated; the "
        "best so far never falls",
    ),
    "process killed": (
        "worker, trial driver or controller kill -9, every 5 s for a minute",
        "the search completes; a resumed epoch is its checkpoint's + 1",
    ),
    "node lost": (
        "node lost (raylet SIGKILL), node added",
        "trials move within 60 s; no CPU, GPU or placement group leaks",
    ),
    "control plane lost": (
        "the head's control plane lost",
        "the search ends with a clear message; `--resume` on a new cluster completes",
    ),
    "network cut": (
        "network cut for 10 s and for 60 s between nodes",
        "the search goes on; each epoch is counted once",
    ),
    "preemption": (
        "SIGTERM or a preemption notice with 5 s of grace",
        "a checkpoint is written; it does not count as a failure",
    ),
    "killed in a checkpoint": (
        "killed while writing a checkpoint, fifty times at random",
        "the one before loads",
    ),
    "checkpoint damaged": (
        "the newest checkpoint truncated or a bit flipped",
        "noticed by its checksum; the one before is used, with a warning",
    ),
    "disk full": (
        "disk full",
        "a clear error, the records kept; the search resumes after room is made",
    ),
    "memory exhausted": (
        "memory exhausted",
        "only that trial suffers; recorded as out of memory after its retry",
    ),
    "GPU memory exhausted": (
        "GPU out of memory",
        "the micro-batch halves, the effective batch stays",
    ),
    "NaN": (
        "the loss turns NaN",
        "the trial has failed, is never the best, and Optuna is told so",
    ),
    "same exception twice": (
        "the same exception twice from one configuration",
        "no third try",
    ),
    "open files": (
        "too many open files",
        "the limit is raised at the start, or a clear error names the command that raises it",
    ),
    "all fail": (
        "every trial fails",
        "the search stops after a few, with exit code 1 and the first traceback",
    ),
    "tracking away": (
        "tracking server away for 30 s, or for good",
        "training goes on; the records are filled in afterwards from the run's own files",
    ),
    "two owners": (
        "two searches in one output folder, or two resumes at once",
        "the second is refused with the owner named",
    ),
    "one cache": (
        "two nodes or trials building one cache",
        "it is built once; a builder killed in the middle leaves nothing false",
    ),
    "clock off": (
        "clock an hour off on a node",
        "no duration is negative, nothing is judged stale",
    ),
    "interrupt": (
        "interrupt (Ctrl-C) once, twice",
        "once: the epoch is finished and written, and how to resume is said; twice: now",
    ),
    "ray up": (
        "`ray up` on two hosts, one killed and brought back in the middle of a search",
        "the search completes, and `ray down` leaves nothing",
    ),
    "storage away": (
        "the object store away, or the head's disk lost",
        "training goes on and uploads later; `--resume` from storage loses nothing",
    ),
}


MOST_WORDS = 4  # More of them would only repeat what was tried.


@dataclass(frozen=True)
class Told:
    """What one test of a row did: how often, and what came out."""

    row: str
    test: str
    repetitions: int
    words: str


def table(told: Iterable[Told], passed: Mapping[str, str], when: str, before: str = "") -> str:
    """Return the table as Markdown.

    Args:
        told: of the tests that ran.
        passed: {test: "passed", "failed" or "skipped: reason"} of every test that has a row.
        when: and where they ran.
        before: the last table, whose lines stay for rows of which no test ran.
    """
    told, known = list(told), before.splitlines()
    lines = ["| fault | promise | repetitions | outcome | run |", "|---|---|---|---|---|"]
    for row, (fault, promise) in ROWS.items():
        start = f"| {fault} | {promise} |"
        tests = [name for name in passed if name.split("|")[0] == row]
        mine = [one for one in told if one.row == row]
        count = sum(one.repetitions for one in mine)
        line = f"{start} {count or '-'} | {_outcome(tests, passed, mine)} | {when} |"
        kept = next((one for one in known if one.startswith(start)), f"{start} - | not run | - |")
        lines.append(line if tests else kept)
    return "\n".join(lines) + "\n"


def _outcome(tests: Sequence[str], passed: Mapping[str, str], mine: Sequence[Told]) -> str:
    states = [passed[name] for name in tests]
    count = len(states)
    good = states.count("passed")
    others = sorted({state for state in states if state != "passed"})
    said_by = list(dict.fromkeys(one.words for one in mine if one.words))
    words = "; ".join(said_by) if len(said_by) <= MOST_WORDS else ""
    said = f"{good} of {count} tests passed" if good < count else f"{count} passed"
    said += f" ({', '.join(others)})" if others else ""
    return f"{said}: {words}" if words else said
