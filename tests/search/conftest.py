"""A small study and a run folder for tests of the search."""

from pathlib import Path
from typing import Any

import pytest

from raysearch.config import Study
from raysearch.records.run_folder import RunFolder


def small_study(**changes: Any) -> Study:
    """Two architectures, of which one has a condition of its own."""
    values: dict[str, Any] = {
        "name": "small",
        "data": {"format": "voc", "classes": ["background", "cat"]},
        "networks": {"unet": {"type": "unet", "width": 4}, "wide": {"type": "unet", "width": 8}},
        "space": {
            "architecture": ["unet", "wide"],
            "learning_rate": {"low": 1e-4, "high": 1e-3, "log": True},
            "batch_size": {"low": 2, "high": 6},
            "loss": ["focal", "focal + dice"],
            "network.dropout": {"low": 0.0, "high": 0.5, "when": {"architecture": "wide"}},
        },
        "fixed": {"crop_size": 32},
        "budget": {"trials": 6, "epochs": 12},
    }
    return Study.model_validate({**values, **changes})


@pytest.fixture
def study() -> Study:
    return small_study()


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path, "small")
