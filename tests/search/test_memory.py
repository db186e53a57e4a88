"""A trial whose process Ray's memory monitor kills before it has said anything."""

from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import OutOfMemoryError
from ray.tune.experiment import Trial

from raysearch.search.memory import spare_the_search


def test_a_kill_at_a_trials_beginning_leaves_the_search_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def killed(reference: Any) -> None:
        raise OutOfMemoryError("2 worker(s) were killed")

    monkeypatch.setattr(ray, "get", killed)
    trial: Any = SimpleNamespace(_default_result_or_future=ray.ObjectRef.from_random())
    spare_the_search()
    assert Trial._get_default_result_or_future(trial) is None
    assert trial._default_result_or_future is None


def test_what_a_process_said_of_itself_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "get", lambda reference: {"pid": 7})
    temporary = SimpleNamespace(ray_actor=None)
    reference = ray.ObjectRef.from_random()
    trial: Any = SimpleNamespace(_default_result_or_future=reference, temporary_state=temporary)
    spare_the_search()
    assert Trial._get_default_result_or_future(trial) == {"pid": 7}
