"""One thread: the networks of these tests are too small to share."""

import pytest
import torch

torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    told = "write what the fault tests came to into this page"
    parser.addoption("--reliability", metavar="FILE", help=told)
