"""Payloads that leave a trace where they run."""

from pathlib import Path
from typing import Any

import pytest

from tests.records.conftest import empty_database, recorded_run, run

__all__ = ["empty_database", "recorded_run", "run"]


class Payload:
    """What unpickles by writing a file; whoever loads it as data alone writes none."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.trace, "it ran")

    @property
    def ran(self) -> bool:
        return self.trace.exists()


@pytest.fixture
def payload(tmp_path: Path) -> Payload:
    return Payload(tmp_path / "trace")
