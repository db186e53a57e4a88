"""What a configuration does wrong is its own fault: it is written down, and it ends there."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from optuna.trial import TrialState

from raysearch.records.files import read_json
from raysearch.records.journal import load_journal
from raysearch.search.failures import MOST_TRIES, TRIES, note, once_more, reason
from raysearch.training.memory import INJECTED
from tests.faults.searches import EPOCHS, Search

Told = Callable[[int, str], None]
INFINITE = {"loss": "1e39*cross_entropy"}
# Weight decay of this size makes each weight ten times as large in each step: the first epoch ends
# with numbers, and a later one does not.
DIVERGES = {"learning_rate": 0.1, "weight_decay": 110.0, "warmup": 0.0, "schedule": "constant"}


def starting(folder: Path, points: Sequence[Mapping[str, Any]], **changes: Any) -> Search:
    """A search that tries these points and nothing else."""
    search = Search(folder, **{"budget": {"trials": len(points)}} | changes)
    path = folder / "animals.yaml"
    study = yaml.safe_load(path.read_text(encoding="utf-8"))
    study["start"] = [{"architecture": "unet", **point} for point in points]
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return search


@pytest.mark.slow
@pytest.mark.fault("NaN")
@pytest.mark.parametrize("launcher", ["inline", "train"])
def test_a_loss_that_turns_nan_is_a_failure_and_no_score(
    tmp_path: Path, repetitions: Told, launcher: str
) -> None:
    search = starting(tmp_path, [DIVERGES, INFINITE, {}])
    output = search.run("--launcher", launcher)
    diverged, infinite, fine = search.trials()
    assert (fine.state, fine.epochs) == ("completed", EPOCHS)
    for record in (diverged, infinite):
        assert (record.state, record.reason, record.value) == ("failed", "not finite", None)
    assert len(diverged.history) >= 1, "it has a value that must not count"
    assert all(math.isfinite(m["miou"]) for m in diverged.history)
    assert search.found is not None
    best = search.found.summary()["best"]
    assert best == {"trial": 2, "value": pytest.approx(fine.value)}
    journal = load_journal(search.found.journal)
    assert journal is not None
    states = [trial.state for trial in journal.get_trials()]
    assert states == [TrialState.FAIL, TrialState.FAIL, TrialState.COMPLETE]
    assert journal.best_trial.number == 2
    assert "not finite" in output
    tries = [read_json_list(search, number) for number in (0, 1)]
    assert [len(one) for one in tries] == [1, 1], "a loss that is not finite comes again"
    repetitions(2, f"{launcher}: both configurations have failed, and Optuna knows")


def read_json_list(search: Search, number: int) -> list[str]:
    """The failures that a trial's tries ended with."""
    assert search.found is not None
    text = (search.found.trial_folder(number) / TRIES).read_text(encoding="utf-8")
    found: list[str] = yaml.safe_load(text)
    return found


@pytest.mark.fault("same exception twice")
def test_the_same_exception_is_not_tried_a_third_time(tmp_path: Path, repetitions: Told) -> None:
    tries = 0
    while tries < 10:
        tries += 1
        note(tmp_path, ValueError("the same"))
        if not once_more(tmp_path):
            break
    assert tries == 2
    assert reason(tmp_path) == "exception"
    repetitions(tries, f"given up after {tries} tries")


@pytest.mark.fault("same exception twice")
def test_other_exceptions_are_limited_too(tmp_path: Path) -> None:
    again = []
    for number in range(MOST_TRIES):
        note(tmp_path, ValueError(f"number {number}"))
        again.append(once_more(tmp_path))
    assert again == [True] * (MOST_TRIES - 1) + [False]


@pytest.mark.slow
@pytest.mark.fault("same exception twice")
@pytest.mark.parametrize("launcher", ["inline", "train"])
def test_one_configuration_that_raises_is_tried_twice(
    tmp_path: Path, repetitions: Told, launcher: str
) -> None:
    """Where a folder must come, a file lies: this trial raises in each of its tries."""
    search = starting(tmp_path, [{}, {}, {}], budget={"trials": 3, "epochs": 30})
    process = search.start("--launcher", launcher)
    while process.poll() is None:
        found = search.found
        if found is not None:
            blocked = found.trial_folder(1)
            blocked.mkdir(parents=True, exist_ok=True)
            (blocked / "best").touch()
            break
    assert process.wait(timeout=400) == 0, search.output
    states = {record.number: (record.state, record.reason) for record in search.trials()}
    fine = ("completed", "max epochs")
    assert states == {0: fine, 1: ("failed", "exception"), 2: fine}, search.output
    first, second = read_json_list(search, 1)
    assert first == second
    assert "FileExistsError" in first
    repetitions(2, f"{launcher}: tried twice in a search, and not again")


@pytest.mark.slow
@pytest.mark.fault("all fail")
def test_a_search_whose_trials_all_fail_stops(tmp_path: Path, repetitions: Told) -> None:
    search = Search(tmp_path, fixed=INFINITE, budget={"trials": 50})
    output = search.run(code=1)
    assert "every trial failed" in output
    assert "Traceback (most recent call last)" in output
    assert "the loss is not finite" in output
    states = [record.state for record in search.trials()]
    assert 3 <= states.count("failed") <= len(states) < 10
    failed = states.count("failed")
    repetitions(failed, f"ended with exit code 1 after {failed} of 50 trials")


@pytest.mark.slow
@pytest.mark.fault("GPU memory exhausted")
@pytest.mark.parametrize("launcher", ["inline", "train"])
def test_the_micro_batch_halves_and_the_effective_batch_stays(
    tmp_path: Path, repetitions: Told, launcher: str
) -> None:
    search = starting(tmp_path, [{}], fixed={"batch_size": 8})
    process = search.start("--launcher", launcher, env={INJECTED: "3"})
    assert process.wait(timeout=400) == 0, search.output
    (record,) = search.trials()
    assert (record.state, record.epochs) == ("completed", EPOCHS)
    assert {m["micro_batch"] for m in record.history} == {2}  # 8 and 4 do not fit.
    assert {m["effective_batch"] for m in record.history} == {8}
    assert search.found is not None
    assert not read_failures(search)
    repetitions(2, f"{launcher}: 8 images at once became 4 and then 2")


def read_failures(search: Search) -> dict[str, Any]:
    assert search.found is not None
    path = search.found.trial_folder(0) / TRIES
    return read_json(path) if path.is_file() else {}
