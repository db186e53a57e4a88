"""Commands are run as a user runs them: a process of their own, in a folder of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient

from tests.data.voc_miniature import CLASSES, write_plain

STUDY: dict[str, Any] = {
    "name": "tiny",
    "data": {"format": "voc", "path": "voc", "classes": list(CLASSES)},
    "networks": {
        "narrow": {"type": "unet", "width": 4, "depth": 2},
        "wide": {"type": "unet", "width": 6, "depth": 2},
    },
    "space": {
        "architecture": ["narrow", "wide"],
        "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    },
    "fixed": {"image_size": 32, "crop_size": 32, "batch_size": 4, "schedule": "cosine"},
    "start": [{"architecture": "narrow", "learning_rate": 0.005}],
    "budget": {"trials": 4, "epochs": 4},
    "resources": {"cache": "cache"},
}


class Workplace:
    """A folder with a study, its data, and the command to run in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        write_plain(path / "voc")

    def write_study(self, **changes: Any) -> None:
        text = yaml.safe_dump({**STUDY, **changes})
        (self.path / "tiny.yaml").write_text(text, encoding="utf-8")

    def start(self, *arguments: str, module: str = "raysearch.tune") -> subprocess.Popen[str]:
        command = [sys.executable, "-m", module, *arguments]
        return subprocess.Popen(
            command,
            cwd=self.path,
            env={**os.environ, "PYTHONWARNINGS": "default", "COLUMNS": "160"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str, code: int = 0, **options: str) -> str:
        process = self.start(*arguments, **options)
        output, _ = process.communicate(timeout=400)
        assert process.returncode == code, output
        return output

    def tune(self, *arguments: str, code: int = 0) -> str:
        return self.run("tiny.yaml", *arguments, code=code)

    @property
    def latest(self) -> Path:
        return self.path / "results" / "tiny" / "latest"

    def summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = json.loads((self.latest / "summary.json").read_text())
        return summary

    def leaderboard(self) -> pd.DataFrame:
        return pd.read_csv(self.latest / "leaderboard.csv")

    def mlflow_runs(self) -> tuple[list[Any], list[Any]]:
        """Return the parent runs and the children of all searches here."""
        client = MlflowClient(f"sqlite:///{self.path}/results/mlflow.db")
        runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
        parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
        return parents, [run for run in runs if run not in parents]

    def history(self, number: int) -> list[dict[str, Any]]:
        path = self.latest / "trials" / f"{number:04d}" / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    place = Workplace(tmp_path)
    place.write_study()
    return place


@pytest.fixture
def change(workplace: Workplace) -> Callable[..., None]:
    """Write the study anew with changes to its parts."""

    def write(**parts: Any) -> None:
        workplace.write_study(**{key: {**STUDY[key], **value} for key, value in parts.items()})

    return write
