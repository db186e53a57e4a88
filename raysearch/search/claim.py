"""Which process searches in a run that is in storage: one at a time, and who it is.

Storage has no locks. So a process writes there who it is, again and again while it lives; what
another one writes meanwhile tells it that it is not alone. Of two that write at once the later one
stays, and both read what is there after a moment.
"""

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from raysearch.errors import RunError
from raysearch.records.lock import OWNER, Owner, this_process
from raysearch.records.run_folder import INFO
from raysearch.search.uploads import LONGEST_PAUSE, Background
from raysearch.storage import Storage, reason

EVERY_SECONDS = 5.0
# A process that lives writes again within this time, also just after an outage.
WATCH_SECONDS = LONGEST_PAUSE + 3 * EVERY_SECONDS
MOMENT_SECONDS = 3.0  # Longer than it takes from a look into storage to a word there.

_brought: dict[str, "Claim"] = {}  # Of runs that are here and not yet searched in, by their tokens.


class Claim:
    """A process's word that it searches in a run, renewed until it is released.

    Attributes:
        taken: which other process has put its own word there; "" as long as none has.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage, self.token, self.taken = storage, uuid.uuid4().hex, ""
        self._refuse_running()
        self._write()
        if storage.has(INFO):  # A run that is only being made is nobody else's.
            self._watch(self._is_mine, MOMENT_SECONDS)
        self.background = Background(self._renew, "note of who searches", EVERY_SECONDS)

    def release(self, delete: bool = True) -> None:
        """Take the word back, if it is still there.

        Raises:
            OSError: storage is away.
        """
        self.background.close(EVERY_SECONDS if delete else 0.0, while_well=True)
        if delete and self._is_mine(_read(self.storage)):
            self.storage.delete(OWNER)

    def _refuse_running(self) -> None:
        known = _read(self.storage)
        if known and not _is_dead(known):
            self._watch(lambda now: now == known, WATCH_SECONDS)

    def _watch(self, same: Callable[[dict[str, Any]], bool], seconds: float) -> None:
        """Raise a RunError where another process writes its word within some seconds."""
        end = time.monotonic() + seconds
        while (now := _read(self.storage)) and time.monotonic() < end:
            if not same(now):
                raise RunError(
                    f"{self.storage}: {_name(now)} is searching here; wait for it, or end it there "
                    "with `python -m raysearch.runs stop`"
                )
            time.sleep(MOMENT_SECONDS / 3)

    def _is_mine(self, told: dict[str, Any]) -> bool:
        return told.get("token") == self.token

    def _renew(self) -> None:
        now = _read(self.storage)
        if now and not self._is_mine(now):
            self.taken = f"{_name(now)} goes on with the search in {self.storage}"
        if not self.taken:
            self._write()

    def _write(self) -> None:
        told = asdict(this_process()) | {"token": self.token, "time": time.time()}
        self.storage.write(OWNER, json.dumps(told).encode())


def claim(storage: Storage) -> Claim:
    """Become the one process that searches in a run; one that has brought it here is it already.

    Raises:
        RunError: another process searches there, or storage cannot be reached.
    """
    try:
        token = _read(storage).get("token", "")
        return _brought.pop(token, None) or Claim(storage)
    except OSError as error:
        raise RunError(f"{storage}: cannot be reached ({reason(error)}); try again") from error


def keep(claim: Claim) -> None:
    """Hold a claim until the search begins."""
    _brought[claim.token] = claim


def _read(storage: Storage) -> dict[str, Any]:
    """What is told of the process that searches; nothing where there is none."""
    return dict(json.loads(storage.read(OWNER))) if storage.has(OWNER) else {}


def _is_dead(told: dict[str, Any]) -> bool:
    """Whether a process was one of this machine and is gone."""
    if "started" not in told:  # Earlier versions wrote less.
        return False
    owner = Owner(told["pid"], told["host"], told["started"])
    return owner.here and not owner.alive


def _name(told: dict[str, Any]) -> str:
    return f"process {told['pid']} on {told['host']}"
