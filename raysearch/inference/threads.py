"""How many threads work on one tensor."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let so many threads share each operation on the CPU, then as many as before.

    One is best for many small operations: where other processes hold the cores, threads wait for
    each other at the end of every one of them. It took 18 times as long to select members so.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
