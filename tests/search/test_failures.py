"""When a failed configuration is tried once more, and when a lost one is given up."""

from pathlib import Path

import pytest

from raysearch.errors import TrialError
from raysearch.search import failures
from raysearch.search.losses import BESIDE, LOST, MEMORY, Losses, reason_of


def fail(folder: Path, error: Exception) -> bool:
    try:
        raise error
    except Exception as caught:
        failures.note(folder, caught)
    return failures.once_more(folder)


def test_the_same_exception_is_not_tried_a_third_time(tmp_path: Path) -> None:
    assert fail(tmp_path, OSError("the disk hiccups"))
    assert not fail(tmp_path, OSError("the disk hiccups"))


def test_an_exception_of_many_lines_is_known_again(tmp_path: Path) -> None:
    assert fail(tmp_path, ValueError("first line\n  second, indented\n  third"))
    assert fail(tmp_path, ValueError("another first line\n  second, indented\n  third"))
    assert not fail(tmp_path, ValueError("first line\n  second, indented\n  third"))


def test_no_third_failure_is_tried_again_whatever_it_is(tmp_path: Path) -> None:
    tried = [fail(tmp_path, OSError(str(number))) for number in range(3)]
    assert tried == [True, True, False]


def test_what_raysearch_says_itself_is_final(tmp_path: Path) -> None:
    assert not fail(tmp_path, TrialError("epoch 3: the loss is not finite"))
    assert failures.reason(tmp_path) == "not finite"


def test_a_lost_process_counts_only_without_progress() -> None:
    losses = Losses(now=iter(range(0, 10_000, 60)).__next__)
    assert [losses.given_up(7, (epoch, 0), LOST) for epoch in range(9)] == [False] * 9
    assert [losses.given_up(7, (9, 12), LOST) for _ in range(3)] == [False, False, True]


def test_a_storm_of_losses_is_one() -> None:
    losses = Losses(now=iter(range(0, 200, 10)).__next__)
    lost = [losses.given_up(7, (0, 0), LOST) for _ in range(12)]
    assert lost == [False] * 9 + [True] * 3


def test_memory_is_given_one_more_try_and_other_trials_are_not_counted() -> None:
    losses = Losses()
    assert not losses.given_up(1, (0, 0), MEMORY)
    assert not losses.given_up(2, (0, 0), MEMORY)
    assert losses.given_up(1, (0, 0), MEMORY)


@pytest.mark.parametrize(
    ("error", "name"),
    [(MemoryError(), "out of memory"), (RuntimeError("CUDA out of memory"), "out of memory"),
     (KeyError("x"), "exception")],
)  # fmt: skip
def test_failures_have_names(tmp_path: Path, error: Exception, name: str) -> None:
    fail(tmp_path, error)
    assert failures.reason(tmp_path) == name


def test_a_trial_that_ray_kills_in_place_of_a_larger_one_is_not_to_blame() -> None:
    """The text is that of Ray 2.60's memory monitor, its lines cut short."""
    told = """ray.exceptions.OutOfMemoryError: 2 worker(s) were killed
Ray killed 2 worker(s) based on the killing policy
Considered workers: [
Selected to kill: (Task: job ID=01000000, task name=TrainController.__init__, pid=12809, \
actual memory used=0.21GB, worker ID=a78b)
Selected to kill: (Actor(5ab2): job ID=01000000, task name=_QueueActor.__init__, pid=12808, \
actual memory used=0.07GB, worker ID=d0f4)
{}(Actor(f61d): job ID=01000000, task name=RayTrainWorker.__init__, pid=12097, \
actual memory used=12.98GB, worker ID=b06b)
(Actor(87f3): job ID=01000000, task name=TrainController.__init__, pid=11762, \
actual memory used=0.38GB, worker ID=5060)
]"""
    spared, killed = told.format(""), told.format("Selected to kill: ")
    assert reason_of(spared) == BESIDE
    assert reason_of(killed) == MEMORY
    assert reason_of(spared, alone=True) == MEMORY
    losses = Losses()
    assert not any(losses.given_up(1, (0, 0), BESIDE) for _ in range(9))
