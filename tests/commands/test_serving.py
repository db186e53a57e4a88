"""`mlflow models serve` as the README gives it: a posted image is answered with predict's mask."""

import base64
import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raysearch import predict
from raysearch.records.mlflow_tree import DATABASE
from raysearch.records.registry import publish
from raysearch.records.run_folder import RunFolder
from tests.records.ensembles import with_ensemble

MLFLOW = Path(sys.executable).with_name("mlflow")
PATIENCE = 120.0


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(f"{url} does not answer: {log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = with_ensemble(tmp_path_factory.mktemp("served"))
    assert "champion" in publish(run, f"sqlite:///{run.output / DATABASE}")
    return run


@pytest.fixture(scope="module")
def server(search: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port, log = free_port(), tmp_path_factory.mktemp("log") / "served.txt"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [
                MLFLOW, "models", "serve", "-m", "models:/tiny@champion", "--env-manager", "local",
                "--host", "127.0.0.1", "--port", str(port),
            ],
            cwd=search.output.parent,
            env={
                **os.environ,
                "MLFLOW_TRACKING_URI": f"sqlite:///results/{DATABASE}",
                "PATH": f"{MLFLOW.parent}{os.pathsep}{os.environ['PATH']}",  # It calls uvicorn.
            },
            stdout=file,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", process, log)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        process.terminate()
        process.wait(30)


def post(url: str, body: dict[str, Any]) -> list[dict[str, str]]:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        predictions: list[dict[str, str]] = json.load(answer)["predictions"]
    return predictions


def test_a_posted_image_gets_the_mask_of_predict(
    search: RunFolder, server: str, tmp_path: Path
) -> None:
    folder = search.output.parent / "voc" / "JPEGImages"
    paths = sorted(folder.iterdir())[:3]
    images = [base64.b64encode(path.read_bytes()).decode() for path in paths]
    answers = post(server, {"inputs": images, "params": {"probabilities": True}})
    named = [str(path) for path in paths]
    assert predict.main([str(search.path), *named, "--output", str(tmp_path)]) == 0
    for path, answer in zip(paths, answers, strict=True):
        sent = np.array(Image.open(io.BytesIO(base64.b64decode(answer["mask"]))))
        np.testing.assert_array_equal(sent, np.array(Image.open(tmp_path / f"{path.stem}.png")))
        shares = np.load(io.BytesIO(base64.b64decode(answer["probabilities"])))
        assert shares.shape == (3, *sent.shape)

    with pytest.raises(urllib.error.HTTPError) as refused:
        post(server, {"inputs": [str(paths[0])]})
    assert "image 1: is no image" in refused.value.read().decode()
