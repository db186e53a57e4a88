"""What ended the workers of a trial: a process that was lost, or an exception of their own."""

from ray.exceptions import ActorDiedError, OutOfMemoryError, RayActorError
from ray.train.v2._internal.exceptions import (
    UserExceptionWithTraceback,
    WorkerHealthCheckFailedError,
)

from raysearch.errors import TrialError
from raysearch.search.trial import lost_process

RAISED = UserExceptionWithTraceback(ValueError("wrong"), "ValueError: wrong")


def test_an_exception_of_all_workers_is_the_configuration_s_own() -> None:
    assert lost_process([RAISED, RAISED]) is None
    assert lost_process([TrialError("the loss is not finite")]) is None


def test_a_lost_process_counts_before_what_its_peers_raise() -> None:
    lost = WorkerHealthCheckFailedError("rank 1", ActorDiedError())
    assert "rank 1" in str(lost_process([RAISED, lost]))


def test_a_process_killed_for_memory_is_known_by_its_text() -> None:
    killed = WorkerHealthCheckFailedError("rank 1", OutOfMemoryError("the node runs low"))
    found = lost_process([RAISED, killed])
    assert isinstance(found, RayActorError)
    assert "OutOfMemoryError" in str(found)
