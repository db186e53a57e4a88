"""One thread: the networks of these tests are too small to share."""

import os

import pytest
import torch

torch.set_num_threads(1)
# Beside another test, the trials of a search would wait for it: Ray starts them as the nicest.
os.environ.setdefault("RAY_worker_niceness", "0")


def pytest_addoption(parser: pytest.Parser) -> None:
    told = "write what the fault tests came to into this page"
    parser.addoption("--reliability", metavar="FILE", help=told)
