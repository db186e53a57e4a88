"""Trials on GPUs that Ray only counts: as many at once as fit, never more, and none is starved."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
CASES = {"1,1": 8, "4,1": 2}  # Workers and GPUs of each, and how many such trials fit.


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The benchmark's figures, in a process of its own, beside the Ray of other tests."""
    path = tmp_path_factory.mktemp("scheduling") / "found.json"
    short = ["--waves", "2", "--epochs", "2", "--seconds", "0.3", "--json", str(path)]
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.scheduling", "--cases", *CASES, *short],
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if not key.startswith("RAY_")},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    outcomes = json.loads(path.read_text(encoding="utf-8"))
    return dict(zip(CASES, outcomes, strict=True))


@pytest.mark.parametrize("case", CASES)
def test_as_many_trials_as_fit_run_at_once(found: dict[str, Any], case: str) -> None:
    assert found[case]["slots"] == found[case]["most"] == CASES[case]


@pytest.mark.parametrize("case", CASES)
def test_no_trial_is_starved(found: dict[str, Any], case: str) -> None:
    assert found[case]["trials"] == 2 * CASES[case]
    assert found[case]["longest_wait"] < 60
