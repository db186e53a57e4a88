"""What MLflow's loaded models answer: the masks of `raysearch.predict`, in every form."""

import base64
import io
import shutil
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from raysearch import predict
from raysearch.errors import DataError
from raysearch.inference.models import write_bundle
from raysearch.records.mlflow_tree import DATABASE, tracking_uri
from raysearch.records.pyfunc import SERVING, ImageModel
from raysearch.records.registry import publish
from raysearch.records.run_folder import RunFolder
from tests.records.ensembles import with_ensemble


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return with_ensemble(tmp_path_factory.mktemp("left"))


@pytest.fixture(scope="module")
def path(search: RunFolder) -> Path:
    return sorted((search.output.parent / "voc" / "JPEGImages").iterdir())[0]


@pytest.fixture(scope="module")
def mask(search: RunFolder, path: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the command writes."""
    folder = tmp_path_factory.mktemp("predicted")
    assert predict.main([str(search.path), str(path), "--output", str(folder)]) == 0
    return np.array(Image.open(folder / f"{path.stem}.png"))


@pytest.fixture(scope="module")
def model(search: RunFolder, tmp_path_factory: pytest.TempPathFactory) -> ImageModel:
    bundle = tmp_path_factory.mktemp("bundle")
    write_bundle(search.path, bundle)
    return ImageModel(bundle, torch.device("cpu"))


def forms(path: Path) -> dict[str, Any]:
    array = np.array(Image.open(path).convert("RGB"))
    text = base64.b64encode(path.read_bytes()).decode()
    return {
        "path": path, "name": str(path), "bytes": path.read_bytes(), "array": array,
        "list": [array], "batch": array[None], "named": {"image": [path]},
        "table": pd.DataFrame({"image": [path.read_bytes()]}), "base64": text,
        "lines": base64.encodebytes(path.read_bytes()).decode(), "records": [{"image": text}],
    }  # fmt: skip


FORMS = (
    "path", "name", "bytes", "array", "list", "batch", "named", "table", "base64", "lines",
    "records",
)  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_each_form_is_answered_as_by_predict(
    model: ImageModel, path: Path, mask: Any, form: str
) -> None:
    (answer,) = model.predict(forms(path)[form])
    found = answer["mask"]
    if form in ("base64", "lines", "records"):
        found = np.array(Image.open(io.BytesIO(base64.b64decode(found))))
    np.testing.assert_array_equal(found, mask)


def test_probabilities_on_request(model: ImageModel, path: Path, mask: Any) -> None:
    params = {"probabilities": True}
    (answer,) = model.predict(path, params)
    assert answer["probabilities"].dtype == np.float32
    np.testing.assert_allclose(answer["probabilities"].sum(0), 1, atol=1e-5)
    (told,) = model.predict(base64.b64encode(path.read_bytes()).decode(), params)
    sent = np.load(io.BytesIO(base64.b64decode(told["probabilities"])), allow_pickle=False)
    np.testing.assert_array_equal(sent, answer["probabilities"])


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (b"", "image 2: is no image"),
        ("nothing.png", "no such file"),
        (b"no picture", "not a picture"),
        (3, "image 2: is no image"),
        (np.zeros(5), r"an array \(5,\)"),
        (np.zeros((4, 4, 3), np.float32), "image 2"),
    ],
)
def test_what_is_no_image_is_named(model: ImageModel, path: Path, given: Any, why: str) -> None:
    with pytest.raises(DataError, match=why):
        model.predict([path, given])


def test_a_server_opens_no_file_of_its_own(
    model: ImageModel, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SERVING, "true")
    with pytest.raises(DataError, match="is no image"):
        model.predict(str(path))


def test_mlflow_loads_the_champion(
    search: RunFolder, path: Path, mask: Any, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copy(empty_database, search.output / DATABASE)
    publish(search)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(tracking_uri(search.output))
    try:
        loaded = mlflow.pyfunc.load_model("models:/tiny@champion")
    finally:
        mlflow.set_tracking_uri(before)
    array = np.array(Image.open(path).convert("RGB"))
    for given in (array, [array, array], str(path), path.read_bytes()):
        np.testing.assert_array_equal(loaded.predict(given)[0]["mask"], mask)
    assert loaded.predict(array, params={"probabilities": True})[0]["probabilities"].shape[0] == 3
    assert loaded.metadata.metadata["classes"] == ["background", "cat", "dog"]
    assert loaded.metadata.signature.inputs.input_names() == ["image"]
    assert loaded.metadata.saved_input_example_info is not None
