"""Commands are run as a user runs them: a process of their own, in a folder of their own."""

import contextlib
import io
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

from raysearch import tune
from tests.data.voc_miniature import CLASSES, write_plain

TRACKING = "MLFLOW_TRACKING_URI"
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
    """A folder with a study, its data, and the command to run in it.

    `tune` runs the command in this process, on one Ray and one MLflow database for all tests,
    which spares each of them the start of both. `start` runs it as a process of its own.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results = path / "results" / "tiny"
        write_plain(path / "voc")

    def write_study(self, **changes: Any) -> None:
        text = yaml.safe_dump({**STUDY, **changes})
        (self.path / "tiny.yaml").write_text(text, encoding="utf-8")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        with (self.path / "output.txt").open("w") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "raysearch.tune", *arguments],
                cwd=self.path,
                env={k: v for k, v in os.environ.items() if k != TRACKING}
                | {"RAY_ADDRESS": "local"},
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
            )

    def run(self, *arguments: str, code: int = 0) -> str:
        process = self.start(*arguments)
        assert process.wait(timeout=200) == code, self.output
        return self.output

    @property
    def output(self) -> str:
        return (self.path / "output.txt").read_text(encoding="utf-8")

    def tune(
        self,
        *arguments: str,
        study: str = "tiny.yaml",
        code: int = 0,
        ensemble: bool = False,
    ) -> str:
        leave = [] if ensemble else ["--no-ensemble"]
        told = io.StringIO()
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            found = tune.main([study, *leave, *arguments])
        assert found == code, told.getvalue()
        return told.getvalue()

    @property
    def latest(self) -> Path:
        return self.results / "latest"

    def summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = json.loads((self.latest / "summary.json").read_text())
        return summary

    def leaderboard(self) -> pd.DataFrame:
        return pd.read_csv(self.latest / "leaderboard.csv")

    def mlflow_runs(self, uri: str | None = None) -> tuple[list[Any], list[Any]]:
        """Return the parent runs and the trials' of the latest search."""
        client = MlflowClient(uri or os.environ[TRACKING])
        search = json.loads((self.latest / "run.json").read_text())["id"]
        runs = client.search_runs(
            [e.experiment_id for e in client.search_experiments()],
            f"tags.`raysearch.search` = '{search}'",
        )
        parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
        return parents, [run for run in runs if run.data.tags["raysearch.role"] == "trial"]

    def history(self, number: int) -> list[dict[str, Any]]:
        path = self.latest / "trials" / f"{number:04d}" / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def workplace(tmp_path: Path, services: str, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(TRACKING, services)
    monkeypatch.setenv("COLUMNS", "160")
    place = Workplace(tmp_path)
    place.write_study()
    return place


@pytest.fixture
def change(workplace: Workplace) -> Callable[..., None]:
    """Write the study anew with changes to its parts."""

    def write(**parts: Any) -> None:
        workplace.write_study(**{key: {**STUDY[key], **value} for key, value in parts.items()})

    return write
