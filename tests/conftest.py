"""One thread: the networks of these tests are too small to share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
OF_RAY = ("commands", "faults")  # Folders whose tests start Ray, or a whole command.

torch.set_num_threads(1)
# Beside another test, the trials of a search would wait for it: Ray starts them as the nicest.
os.environ.setdefault("RAY_worker_niceness", "0")


def pytest_addoption(parser: pytest.Parser) -> None:
    told = "write what the fault tests came to into this page"
    parser.addoption("--reliability", metavar="FILE", help=told)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(HERE).parts[0]
        if folder in OF_RAY or "services" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.ray)


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One Ray of two CPUs and one MLflow database; yields the database's address."""
    import ray  # Seconds, which most tests do without.

    from raysearch import cluster

    cluster.join(dashboard=True)
    yield f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
    ray.shutdown()
