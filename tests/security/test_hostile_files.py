"""Files from elsewhere are read as data: no payload runs, whatever file it hides in."""

import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from raysearch.data.cache import Cache
from raysearch.errors import ConfigError, DataError, RaysearchError, RunError, WeightsError
from raysearch.inference.models import load_model, write_bundle
from raysearch.models.weights import load_encoder
from raysearch.records.files import read_json
from raysearch.records.gallery import read_panels
from raysearch.records.journal import load_journal
from raysearch.records.leaderboard import write_summary
from raysearch.records.run_folder import RunFolder
from raysearch.study import load_study, parse_value, read_yaml
from raysearch.training import checkpoint
from tests.records import fakes
from tests.records.ensembles import with_ensemble
from tests.security.conftest import Payload

ROOT = Path(__file__).parents[2]
WEIGHTS = {"layer": torch.ones(2)}


def forge(folder: Path, content: Any) -> None:
    """Put a pickle into a checkpoint, and its true checksum beside it, as an attacker would."""
    path = checkpoint.save(folder, 1, WEIGHTS)
    torch.save(content, path / "state.pt")
    meta = json.loads((path / "meta.json").read_text())
    meta["sha256"]["state.pt"] = checkpoint._checksum(path / "state.pt")
    (path / "meta.json").write_text(json.dumps(meta))


def test_the_payload_would_run(payload: Payload) -> None:
    pickle.loads(pickle.dumps(payload))
    assert payload.ran


def test_a_pickle_in_a_checkpoint(tmp_path: Path, payload: Payload) -> None:
    forge(tmp_path / "best", {"optimizer": payload})
    assert checkpoint.load(tmp_path / "best") is None
    assert not payload.ran


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_pickle_as_encoder_weights(tmp_path: Path, payload: Payload, ending: str) -> None:
    torch.save({"state_dict": payload}, tmp_path / f"weights{ending}")
    network = torch.nn.Module()
    network.encoder = torch.nn.Linear(2, 2)
    with pytest.raises(WeightsError):
        load_encoder(network, tmp_path / f"weights{ending}")
    assert not payload.ran


def test_a_pickle_as_the_journal(tmp_path: Path, payload: Payload) -> None:
    path = tmp_path / "optuna.journal"
    path.write_bytes(pickle.dumps(payload) + b"\n")  # A line that is not whole is passed over.
    with pytest.raises((RaysearchError, ValueError)):
        load_journal(path)
    assert not payload.ran


def test_a_pickle_in_the_data_cache(tmp_path: Path, payload: Payload) -> None:
    hostile = np.array([payload], dtype=object)
    for name in ("images", "masks", "weights", "moments", "class_pixels"):
        np.save(tmp_path / f"{name}.npy", hostile, allow_pickle=True)
    index = {"names": ["a"], "shapes": [[1, 1]], "bands": 1, "arrays": ["images", "masks"]}
    (tmp_path / "index.json").write_text(json.dumps(index))
    cache = Cache(tmp_path)
    reads: list[Callable[[], Any]] = [
        lambda: cache.image(0), lambda: cache.mask(0), lambda: cache.weight(0),
        lambda: cache.moments, lambda: cache.class_pixels,
    ]  # fmt: skip
    for read in reads:
        with pytest.raises(ValueError, match=r"[Oo]bject"):
            read()
    assert not payload.ran


def test_a_pickle_among_kept_pictures(tmp_path: Path, payload: Payload) -> None:
    np.savez(tmp_path / "predictions.npz", image0=np.array([payload], dtype=object))
    assert read_panels(tmp_path / "predictions.npz") == []
    assert not payload.ran


def test_yaml_that_would_run_a_program(tmp_path: Path, payload: Payload) -> None:
    for text in (
        f"name: !!python/object/apply:os.system ['touch {payload.trace}']",
        f"name: !!python/object/new:os.system ['touch {payload.trace}']",
        "name: !!python/name:os.system",
    ):
        (tmp_path / "study.yaml").write_text(text)
        with pytest.raises(ConfigError, match="not readable as YAML"):
            load_study(str(tmp_path / "study.yaml"))
        with pytest.raises(ConfigError):
            parse_value(text.partition(": ")[2])
    assert not payload.ran


def laughs(line: str, levels: int = 12) -> str:
    first = "a0: &a0 {x: lol}\n"
    return first + "".join(
        f"a{n}: &a{n} {line.format(', '.join([f'*a{n - 1}'] * 9))}\n" for n in range(1, levels)
    )


@pytest.mark.parametrize(
    "text",
    [laughs("[{}]"), laughs("{{<<: [{}]}}"), "a: &a [*a]", "a: &a {b: *a}", "a: " + "[" * 5000],
    ids=["aliases", "merges", "list in itself", "mapping in itself", "depth"],
)
def test_yaml_that_would_fill_memory(tmp_path: Path, text: str) -> None:
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"study\.yaml"):
        read_yaml(tmp_path / "study.yaml")


def test_yaml_as_large_as_no_study(tmp_path: Path) -> None:
    with (tmp_path / "study.yaml").open("wb") as file:
        file.truncate(2**33)
    with pytest.raises(ConfigError, match="too large"):
        read_yaml(tmp_path / "study.yaml")


@pytest.mark.parametrize("value", ["2026-99-99", "{[a]: b}", "9" * 5000])
def test_yaml_that_its_reader_stumbles_over(value: str) -> None:
    with pytest.raises(ConfigError, match="not readable"):
        parse_value(value)


def test_an_alias_is_still_an_alias() -> None:
    assert parse_value("{a: &x [1, 2], b: *x}") == {"a": [1, 2], "b": [1, 2]}


def test_json_as_deep_as_no_record(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("[" * 200_000)
    with pytest.raises(RunError, match=r"run\.json"):
        read_json(tmp_path / "run.json")


def test_json_of_unity_as_deep_as_no_frame(tmp_path: Path) -> None:
    from raysearch.data.formats.unity import _load

    (tmp_path / "frame.json").write_text('{"a":' * 200_000)
    with pytest.raises(DataError, match=r"frame\.json"):
        _load(tmp_path / "frame.json")


def test_a_checkpoint_that_links_elsewhere_is_neither_followed_nor_emptied(tmp_path: Path) -> None:
    valuable = tmp_path / "valuable"
    valuable.mkdir()
    (valuable / "file").write_text("mine")
    folder = tmp_path / "last"
    checkpoint.save(folder, 1, WEIGHTS)
    (folder / "epoch-0099").symlink_to(valuable, target_is_directory=True)
    (folder / ".epoch-0001.7").symlink_to(valuable, target_is_directory=True)
    found = checkpoint.load(folder)
    assert found is not None
    assert found.epoch == 1
    for epoch in (2, 3, 99):
        checkpoint.save(folder, epoch, WEIGHTS) if epoch != 99 else None
    assert (valuable / "file").read_text() == "mine"


def test_a_removed_search_takes_nothing_with_it_that_it_links_to(tmp_path: Path) -> None:
    from raysearch import runs

    valuable = tmp_path / "valuable"
    valuable.mkdir()
    (valuable / "file").write_text("mine")
    run = fakes.new_run(tmp_path / "results")
    (run.path / "probabilities").symlink_to(valuable, target_is_directory=True)
    (run.path / "trials" / "0000").symlink_to(valuable, target_is_directory=True)
    assert runs.main(["clean", run.name, "--yes", "--output", str(run.output)]) == 0
    assert not run.path.exists()
    assert (valuable / "file").read_text() == "mine"


def test_a_bundle_names_nothing_outside(tmp_path: Path) -> None:
    write_bundle(with_ensemble(tmp_path / "results").path, tmp_path / "bundle")
    told = json.loads((tmp_path / "bundle" / "ensemble.json").read_text())
    inside = told["members"][0]["place"]
    assert load_model(tmp_path / "bundle").members
    shutil.copytree(tmp_path / "bundle" / inside, tmp_path / "outside" / "best")
    (tmp_path / "bundle" / "link").symlink_to(tmp_path / "outside", target_is_directory=True)
    for place in ("../outside/best", str(tmp_path / "outside" / "best"), "link/best"):
        told["members"][0]["place"] = place
        (tmp_path / "bundle" / "ensemble.json").write_text(json.dumps(told))
        with pytest.raises(RunError, match="lies outside"):
            load_model(tmp_path / "bundle")


def test_a_registered_model_from_elsewhere_runs_none_of_its_code(
    tmp_path: Path, payload: Payload
) -> None:
    """`predict models:/...` reads the bundle; MLflow's own loader would import what it names."""
    from raysearch.records.pyfunc import _load_pyfunc
    from raysearch.records.registry import _checked

    model = tmp_path / "model"
    write_bundle(with_ensemble(tmp_path / "results").path, model / "data" / "bundle")
    (model / "code").mkdir()
    text = f"import pathlib\npathlib.Path({str(payload.trace)!r}).write_text('it ran')\n"
    (model / "code" / "hostile_loader.py").write_text(text)
    flavour = {"loader_module": "hostile_loader", "code": "code", "data": "data/bundle"}
    (model / "MLmodel").write_text(yaml.safe_dump({"flavors": {"python_function": flavour}}))
    (model / "python_model.pkl").write_bytes(pickle.dumps(payload))
    assert load_model(_checked(model)).members
    assert not payload.ran
    (model / "data" / "bundle" / "run.json").write_text("{}")  # A search may name others' trials.
    for load in (_checked, lambda at: _load_pyfunc(str(at / "data" / "bundle"))):
        with pytest.raises(RunError, match="no model that raysearch has registered"):
            load(model)


def sources() -> dict[str, str]:
    files = sorted((ROOT / "raysearch").rglob("*.py"))
    return {str(p.relative_to(ROOT)): p.read_text(encoding="utf-8") for p in files}


@pytest.mark.parametrize(
    ("forbidden", "excepted"),
    [
        # What is never unpacked has no member with ../, no link and no bomb.
        (r"tarfile|unpack_archive|extractall|zipfile\.ZipFile|py7zr|rarfile", ()),
        (r"allow_pickle=True|\bimport (?:pickle|cloudpickle|joblib|dill|shelve|marshal)\b", ()),
        (r"yaml\.(?:unsafe_load|full_load|UnsafeLoader|FullLoader|Loader\b)", ()),
        # A process of our own hands a network to its child in a temporary folder of its own.
        (r"weights_only=False", ("raysearch/inference/speed.py",)),
        (r"shell=True|os\.system|os\.popen", ()),
        (r"(?<![.\w])(?:eval|exec)\(", ()),
        (r"0\.0\.0\.0", ()),
        (r"verify=False|_create_unverified_context", ()),
    ],
)
def test_what_the_source_never_does(forbidden: str, excepted: tuple[str, ...]) -> None:
    found = {name for name, text in sources().items() if re.search(forbidden, text)}
    assert found - set(excepted) == set()


def test_every_load_of_tensors_says_how() -> None:
    for name, text in sources().items():
        for call in re.findall(r"torch\.load\([^\n]*", text):
            assert "weights_only" in call, f"{name}: {call}"


def test_the_study_of_a_run_is_checked_like_any_other(tmp_path: Path) -> None:
    run = fakes.new_run(tmp_path / "results")
    told = yaml.safe_load(run.study_file.read_text())
    for name in ("../elsewhere", "a/b", "/etc", "..", ".hidden", "a\nb", "a\x1b[2J"):
        run.write("study.yaml", yaml.safe_dump(told | {"name": name}))
        with pytest.raises(ConfigError, match="name"):
            load_study(str(run.study_file))


def test_a_bomb_of_a_journal_line_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "optuna.journal"
    path.write_text("[" * 100_000 + "\n")
    with pytest.raises((RaysearchError, ValueError, RecursionError)):
        load_journal(path)


def test_run_folders_are_not_followed_through_links(tmp_path: Path) -> None:
    run = fakes.new_run(tmp_path / "results")
    elsewhere = tmp_path / "other.yaml"
    run.study_file.rename(elsewhere)
    run.study_file.symlink_to(elsewhere)
    with pytest.raises(RunError, match="belongs to another user"):
        RunFolder.open(run.path)
    assert os.readlink(run.study_file) == str(elsewhere)


def test_a_link_in_a_run_folder_is_not_copied_into_mlflow(recorded_run: RunFolder) -> None:
    from raysearch.records.tracking import fill

    run = recorded_run
    fakes.add_trial(run, 0, 0.5)
    write_summary(run, fakes.study(), seconds=1.0, busy_share=None)
    secret = run.output.parent / "private.txt"
    secret.write_text("nobody's business")
    (run.path / "picture.png").symlink_to(secret)
    (run.trial_folder(0) / "error.txt").symlink_to(secret)
    fill(run)
    copies = [path for path in (run.output / "mlartifacts").rglob("*") if path.is_file()]
    assert copies
    assert all("nobody's" not in path.read_text(errors="ignore") for path in copies)
