"""One thread: the networks of these tests are too small to share."""

import os
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
        if item.path.relative_to(HERE).parts[0] in OF_RAY:
            item.add_marker(pytest.mark.ray)
