"""Trials that a node's memory has no room for.

Where memory runs out, the kernel or Ray's memory monitor kills the largest process. The kernel
tells nobody which, so each try of a trial notes in the trial's folder how many kills there were
before, and the next one looks whether there are more.
"""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray.air.execution._internal import RayActorManager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.execution import tune_controller
from ray.tune.experiment import Trial

from raysearch.errors import TrialError
from raysearch.limits import oom_kills
from raysearch.records.files import read_json, write_json
from raysearch.search.losses import MEMORY, MOST
from raysearch.training.checkpoint import newest

NOTE = "memory.json"


@contextmanager
def one_try(folder: Path, count: Callable[[], int | None] = oom_kills) -> Iterator[None]:
    """Train a trial that has this folder, unless the kernel has killed as many tries of it as are
    granted, without an epoch between them.

    Args:
        count: returns how often the kernel has killed until now.

    Raises:
        TrialError: on entering, instead of a further try.
    """
    note, kills = _read(folder), count()
    place, node = list(newest(folder)), _node()
    counted, killed = note.get("kills"), note.get("killed", 0)
    if kills is not None and counted is not None and kills > counted and note["node"] == node:
        killed = killed + 1 if note["place"] == place else 1
    told = {"killed": killed, "place": place, "node": node, "kills": kills}
    write_json(folder / NOTE, told)
    if killed >= MOST[MEMORY]:
        raise TrialError(
            f"{MEMORY}: the kernel killed {killed} tries of this trial; lower batch_size, "
            "crop_size or loader_workers, run fewer trials at once "
            "(resources.max_concurrent_trials), or use a machine with more memory"
        )
    yield
    (folder / NOTE).unlink(missing_ok=True)


def _read(folder: Path) -> dict[str, Any]:
    return read_json(folder / NOTE) if (folder / NOTE).is_file() else {}


def _node() -> str:
    """This node, as long as it runs: the kernel counts from its start."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{socket.gethostname()} {boot.read_text().strip() if boot.is_file() else ''}"


class KilledForMemory(RayActorError):
    """Ray's memory monitor has killed the process of a trial."""


def killed_for_memory(error: OutOfMemoryError) -> KilledForMemory:
    """Return such a kill as the loss of a process, by whose text the search knows it."""
    return KilledForMemory(error_msg=f"OutOfMemoryError: {error}")


class Actors(RayActorManager):
    """The manager of Tune's trials, for which such a kill is the loss of one trial's process.

    That of Ray 2.60 takes it for an unknown error, and ends the whole search.
    """

    def _actor_task_failed(self, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = killed_for_memory(exception)
        super()._actor_task_failed(tracked_actor_task, exception)


_said_first = Trial._get_default_result_or_future


def _said_first_or_nothing(trial: Trial) -> dict[str, Any] | None:
    """What a trial's process said of itself when it began; None where it was killed before.

    That of Ray 2.60 does not know this way to be killed, and ends the whole search.
    """
    try:
        said: dict[str, Any] | None = _said_first(trial)
    except OutOfMemoryError:
        trial._default_result_or_future = said = None
    return said


def spare_the_search() -> None:
    """Let Tune take such a kill for what it is."""
    tune_controller.RayActorManager = Actors
    Trial._get_default_result_or_future = _said_first_or_nothing
