"""What ended the workers of a trial: a process that was lost, or an exception of their own."""

from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayActorError
from ray.train.v2._internal.exceptions import (
    UserExceptionWithTraceback,
    WorkerHealthCheckFailedError,
)
from ray.train.v2.api.exceptions import WorkerGroupError

from raysearch.cluster import Slots
from raysearch.config import Study
from raysearch.errors import TrialError
from raysearch.records.run_folder import ERROR
from raysearch.search import trial
from raysearch.search.context import Context
from raysearch.search.failures import TRIES
from raysearch.search.leaving import LEAVE
from raysearch.search.ready import NotReady
from raysearch.search.trial import Halved, inline, lost_process, with_train
from raysearch.training.unfinished import Preempted

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


class TestWorkersElsewhere:
    """Workers on nodes whose files the driver of their trial does not see."""

    @pytest.fixture(autouse=True)
    def driver(self, tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = tmp_path / "trials/0000"
        self.folder.mkdir(parents=True)
        self.told: list[dict[str, Any]] = []
        self.runs = 0
        slots = Slots(1, 2, 1, 1.0, 2)
        self.context = Context(
            tmp_path, tmp_path, tmp_path, tmp_path, "digest", study, slots, "train", 0
        )
        monkeypatch.setattr(trial.tune, "report", self.told.append)
        monkeypatch.setattr(trial, "_trainer", lambda config, context: self)

    def fit(self) -> None:
        """Stand for Ray Train's trainer: fail as often as there are errors."""
        self.runs += 1
        if self.errors:
            failures = dict(enumerate(self.errors.pop(0)))
            told = "\n".join(f"Traceback of {one}" for one in failures.values())
            raise WorkerGroupError(told, failures)

    def train(self, *errors: list[Exception]) -> int:
        self.errors = list(errors)
        with_train({"number": 0}, self.context)
        return self.runs

    def test_memory_is_halved_as_often_as_it_takes(self) -> None:
        halved: list[Exception] = [Halved("CUDA out of memory"), RuntimeError("peer closed")]
        assert self.train(*[halved] * 6) == 7
        assert not self.told
        assert not (self.folder / TRIES).exists()

    def test_what_raysearch_says_itself_is_final(self) -> None:
        assert self.train([TrialError("epoch 3: the loss is not finite")]) == 1
        assert self.told == [{"failed": "not finite"}]
        assert "Traceback of epoch 3" in (self.folder / ERROR).read_text()

    def test_another_exception_is_tried_once_more(self) -> None:
        assert self.train([KeyError("x")], [KeyError("x")]) == 2
        assert self.told == [{"failed": "exception"}]

    def test_workers_that_broke_off_go_on_and_are_no_failure(self) -> None:
        gone: list[Exception] = [Preempted("epoch 3: broken off after 7 steps, to go on later")]
        assert self.train(*[gone] * 4) == 5
        (self.context.run / LEAVE).touch()
        assert self.train(gone) == 6
        assert self.told == [{"left": True}]
        assert not (self.folder / TRIES).exists()

    def test_what_a_node_lacks_is_a_loss(self) -> None:
        with pytest.raises(NotReady):
            self.train([NotReady("node: nobody answers"), RuntimeError("peer closed")])
        assert not self.told


def test_memory_that_is_exhausted_inline_counts_as_no_failure(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [Halved("CUDA out of memory")] * 5

    def train(*given: Any) -> None:
        if errors:
            raise errors.pop()

    monkeypatch.setattr(trial, "_train", train)
    slots = Slots(1, 1, 1, 0, 1)
    paths = (tmp_path, tmp_path, tmp_path, tmp_path)
    inline({"number": 0}, Context(*paths, "digest", study, slots, "inline", 0))
    assert not errors
    assert not list(tmp_path.iterdir())
