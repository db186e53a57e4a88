"""Slots stay whole: a worker is used again however long the trial before takes to leave it."""

import os
import time
from pathlib import Path
from typing import Any

import ray
from ray import tune


def slow_to_leave(config: dict[str, Any]) -> None:
    import raysearch.search.trial  # noqa: F401  What is tested: its setting of the worker.

    try:
        for epoch in range(100):
            tune.report({"epoch": epoch})
    finally:
        time.sleep(3)


def test_a_trial_that_leaves_slowly_costs_no_slot(services: str, tmp_path: Path) -> None:
    results = tune.Tuner(
        tune.with_resources(slow_to_leave, {"cpu": 1}),
        param_space={"number": tune.grid_search([0, 1])},
        tune_config=tune.TuneConfig(max_concurrent_trials=1, reuse_actors=True),
        run_config=tune.RunConfig(stop={"epoch": 1}, verbose=0, storage_path=str(tmp_path)),
    ).fit()
    assert results.num_errors == 0
    assert [result.metrics["epoch"] for result in results if result.metrics] == [1, 1]


def test_workers_know_their_own_ray_among_several(services: str) -> None:
    """Ray Train's cleaner of stopped trials asks for "the" Ray of a machine."""
    asked = ray.remote(lambda: os.environ["RAY_ADDRESS"]).options(num_cpus=0)
    assert ray.get(asked.remote()) == ray.get_runtime_context().gcs_address
