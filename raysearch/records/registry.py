"""Ensembles in MLflow's model registry, whose `champion` is the best on one test split."""

import base64
import hashlib
import json
import logging
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysearch import __version__
from raysearch.config import Objective
from raysearch.data.splits import read_splits
from raysearch.errors import RaysearchError, RunError
from raysearch.inference.choose import MODEL
from raysearch.inference.models import ENSEMBLE, is_bundle, write_bundle
from raysearch.records import pyfunc
from raysearch.records.files import read_json
from raysearch.records.gallery import ENSEMBLE_FOLDER
from raysearch.records.mlflow_ensemble import record_ensemble
from raysearch.records.mlflow_tree import MlflowTree, connect, tracking_uri
from raysearch.records.probes import EXAMPLE, answer_probes
from raysearch.records.run_folder import RunFolder
from raysearch.redaction import redacted
from raysearch.study import load_study

log = logging.getLogger(__name__)

CHAMPION = "champion"
BUNDLE = "bundle"  # Where in a logged model the bundle lies, below `data`.
KEPT = ".models"  # Bundles that were downloaded, below the folder of all searches.
NAMED = re.compile(r"models:/(?P<name>[^/@]+)(@(?P<alias>[^/@]+)|/(?P<version>\d+))")


@dataclass(frozen=True)
class Standing:
    """What a version is worth, as its tags say.

    Attributes:
        value: the metric on the test split; None where there was none.
        data: digest of the test images.
    """

    metric: str
    value: float | None
    data: str

    @classmethod
    def of(cls, tags: Mapping[str, str]) -> "Standing":
        value = tags.get("test_value")
        return cls(
            tags.get("metric", ""), float(value) if value else None, tags.get("test_data", "")
        )


def publish(run: RunFolder, uri: str | None = None) -> str:
    """Record a search's ensemble in MLflow, register it, and move the alias `champion` to it where
    it beats the present one on the same test images.

    Args:
        uri: of the tracking server or database; None takes MLFLOW_TRACKING_URI, or
            `<output>/mlflow.db`.

    Returns:
        What was done, a sentence; also where the server is away. Empty where there is no ensemble.
    """
    uri = uri or tracking_uri(run.output)
    try:
        return record(run, uri)
    except Exception as error:  # Whatever a tracking server does, the ensemble stands.
        log.debug("MLflow at %s failed", uri, exc_info=error)
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return (
            f"not registered: MLflow at {redacted(uri)} is behind ({redacted(lines[0])[:200]}). "
            f"Nothing is lost: `python -m raysearch.runs fill {run.name}` registers the ensemble "
            "later"
        )


def record(run: RunFolder, uri: str) -> str:
    """Do what `publish` does.

    Raises:
        Exception: whatever the tracking server or database says.
    """
    if not (run.path / ENSEMBLE).is_file():
        return ""
    study, told = load_study(str(run.study_file)), read_json(run.path / ENSEMBLE)
    try:
        answer_probes(run, study)
    except RaysearchError as error:  # The images are elsewhere; their pictures are a help only.
        log.debug("%s: no probe images", run.name, exc_info=error)
    tree = MlflowTree(connect(uri), run, study)
    run_id = record_ensemble(tree, told)
    with tempfile.TemporaryDirectory(prefix="raysearch-") as folder:
        bundle = Path(folder) / BUNDLE
        write_bundle(run.path, bundle)
        return _register(tree, told, run_id, bundle)


def _register(tree: MlflowTree, told: Mapping[str, Any], run_id: str, bundle: Path) -> str:
    """Register a bundle, or find it again, and decide who is champion."""
    client, name = tree.client, tree.study.name
    tags = _version_tags(tree, told, _digest(bundle))
    versions, champion = _versions(client, name)
    known = next((one for one in versions if one.tags.get("bundle") == tags["bundle"]), None)
    if known is None:
        version = str(_log_model(tree, told, run_id, bundle, tags).version)
    else:
        version = str(known.version)
        for key, value in tags.items():
            client.set_model_version_tag(name, version, key, value)
    text = f"registered as {name} version {version}"
    if champion is not None and str(champion.version) == version:
        return f"{text}, the champion"
    judged = known is not None and Standing.of(known.tags) == Standing.of(tags)
    present = Standing.of(champion.tags) if champion is not None else None
    wins, why = compare(Standing.of(tags), present, tree.study.objective)
    if wins and not (judged and champion is not None):
        client.set_registered_model_alias(name, CHAMPION, version)
        other = f" of version {champion.version}" if champion is not None else ""
        return f"{text}, the champion: {why}{other}"
    assert champion is not None
    return f"{text}; version {champion.version} stays champion: {why}"


def compare(new: Standing, champion: Standing | None, objective: Objective) -> tuple[bool, str]:
    """Return whether a version takes the place of the champion, and why."""
    value = "" if new.value is None else f"test {new.metric} {new.value:.4f}"
    if champion is None:
        return True, f"the first of its name{', ' * bool(value)}{value}"
    if new.value is None:
        return False, "the new one was not measured on a test split"
    if champion.value is None:
        return False, f"it was not measured on a test split ({value} of the new one)"
    if (new.metric, new.data) != (champion.metric, champion.data):
        what = "by another metric" if new.data == champion.data else "on other test images"
        return False, f"it was measured {what} ({value} of the new one)"
    better = objective.better(new.value, champion.value)
    sign = ">" if new.value > champion.value else "<" if new.value < champion.value else "="
    return better, f"{value} {sign} {champion.value:.4f}"


def _version_tags(tree: MlflowTree, told: Mapping[str, Any], bundle: str) -> dict[str, str]:
    """What a version says of itself; `Standing.of` reads it."""
    metric, test = told["metric"], told.get("test")
    tags = {
        "bundle": bundle,
        "run": tree.run.name,
        "metric": metric,
        "validation_value": repr(told["validation"][MODEL]["metrics"][metric]),
        "members": str(len(told["members"])),
        "data_digest": told["data_digest"],
        "raysearch": __version__,
    }
    if not test:
        return tags
    row, interval = test["rows"][MODEL], test["rows"][MODEL]["intervals"].get(metric)
    return tags | {
        "test_value": repr(row["metrics"][metric]),
        "test_interval": " to ".join(f"{end:.4f}" for end in interval or ()),
        "test_images": str(test["images"]),
        "test_openings": str(test["opened"]),
        "test_data": _test_data(tree.run, told["data_digest"]),
        "seconds_per_image": repr(row["seconds_per_image"]),
    }


def _test_data(run: RunFolder, data_digest: str) -> str:
    """Digest of the data and of the names of those images that the test split holds."""
    names = sorted(read_splits(run.splits_file).test)
    return hashlib.sha256(json.dumps([data_digest, names]).encode()).hexdigest()


def _digest(bundle: Path) -> str:
    """Digest of what a bundle answers by: its members' files, and how they are put together."""
    told = read_json(bundle / ENSEMBLE)
    keys = ("members", "vote", "tta", "temperature", "threshold", "postprocessing")
    whole = hashlib.sha256(json.dumps([told[key] for key in keys]).encode())
    for path in sorted((bundle / "members").rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def _versions(client: Any, name: str) -> tuple[list[Any], Any | None]:
    """All versions of a registered model, and the champion among them."""
    found = client.search_registered_models(f"name = '{name}'")
    if not found:
        return [], None
    versions = list(client.search_model_versions(f"name = '{name}'"))
    number = str(client.get_registered_model(name).aliases.get(CHAMPION))
    return versions, next((one for one in versions if str(one.version) == number), None)


def _log_model(
    tree: MlflowTree,
    told: Mapping[str, Any],
    run_id: str,
    bundle: Path,
    tags: Mapping[str, str],
) -> Any:
    """Log a bundle as a model of the ensemble's run, and register it; nothing global is set."""
    from mlflow.entities import LoggedModelOutput

    client, study = tree.client, tree.study
    logged = client.create_logged_model(tree.experiment, study.name, run_id, model_type="ensemble")
    try:
        with tempfile.TemporaryDirectory(prefix="raysearch-") as folder:
            path = Path(folder) / "model"
            _save_model(tree, run_id, logged, bundle, path)
            client.log_model_artifacts(logged.model_id, str(path))
        client.finalize_logged_model(logged.model_id, "READY")
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, 0)])
    except Exception:
        client.finalize_logged_model(logged.model_id, "FAILED")
        raise
    if not client.search_registered_models(f"name = '{study.name}'"):
        client.create_registered_model(study.name, description=f"The study {study.name}'s models.")
    return client.create_model_version(
        study.name,
        logged.artifact_location,
        run_id,
        tags=dict(tags),
        model_id=logged.model_id,
        await_creation_for=0,
    )


def _save_model(tree: MlflowTree, run_id: str, logged: Any, bundle: Path, path: Path) -> None:
    import mlflow.pyfunc
    from mlflow.models import Model

    study, example = tree.study, tree.run.path / ENSEMBLE_FOLDER / EXAMPLE
    image = base64.b64encode(example.read_bytes()).decode() if example.is_file() else None
    mlflow.pyfunc.save_model(
        str(path),
        loader_module=pyfunc.__name__,
        data_path=str(bundle),
        mlflow_model=Model(
            artifact_path=logged.artifact_location,
            run_id=run_id,
            model_uuid=logged.model_id,
            model_id=logged.model_id,
        ),
        signature=_signature(study.what.segments),
        input_example=({pyfunc.COLUMN: [image]}, pyfunc.PARAMS) if image else None,
        pip_requirements=[f"raysearch=={__version__}"],
        metadata={
            "task": study.task,
            "classes": list(study.data.classes),
            "ignore_index": study.data.ignore_index,
        },
    )


def _signature(segments: bool) -> Any:
    """What `raysearch.records.pyfunc` takes and gives over HTTP.

    MLflow has no type for "an array, a path or bytes", so it is told, as by a model with type
    hints, to pass on what it is given; `ImageModel` checks it.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array

    if segments:
        text = DataType.string
        given = [ColSpec(text, "mask"), ColSpec(text, "probabilities", required=False)]
    else:
        names, shares = Array(DataType.string), Array(DataType.double)
        given = [ColSpec(names, "classes"), ColSpec(shares, "probabilities")]
    types = {bool: DataType.boolean, int: DataType.long}
    params = [ParamSpec(key, types[type(value)], value) for key, value in pyfunc.PARAMS.items()]
    signature = ModelSignature(
        Schema([ColSpec(DataType.binary, pyfunc.COLUMN)]), Schema(given), ParamSchema(params)
    )
    signature._is_signature_from_type_hint = True
    return signature


def bundle_of(uri: str, results: Path) -> Path:
    """Return the folder of a registered model's bundle, downloaded where it is not on this machine.

    Args:
        uri: models:/animals@champion or models:/animals/3.
        results: the folder that holds all searches, and their MLflow records where no
            MLFLOW_TRACKING_URI names others.

    Raises:
        RunError: no such model, or its server is away.
    """
    match = NAMED.fullmatch(uri)
    if match is None:
        raise RunError(f"{uri}: must read models:/NAME@champion or models:/NAME/VERSION")
    tracking = tracking_uri(results)
    if tracking.startswith("sqlite:") and not Path(tracking.removeprefix("sqlite:///")).is_file():
        raise RunError(
            f"{uri}: there are no records yet in {redacted(tracking)}; run a search first"
        )
    try:
        return _fetched(connect(tracking), match.groupdict(), results, tracking)
    except RunError:
        raise
    except Exception as error:  # MLflow passes on whatever its server or database raises.
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise RunError(
            f"{uri}: cannot be had from MLflow at {redacted(tracking)} "
            f"({redacted(lines[0])[:200]}); "
            "name another with MLFLOW_TRACKING_URI, or a search instead"
        ) from error


def _fetched(client: Any, named: Mapping[str, str | None], results: Path, tracking: str) -> Path:
    from mlflow.artifacts import download_artifacts

    name, alias = named["name"], named["alias"]
    version = named["version"] or client.get_model_version_by_alias(name, alias).version
    source = client.get_model_version_download_uri(name, str(version))
    if source.startswith("file:"):
        return _checked(Path(download_artifacts(source, tracking_uri=tracking)))
    kept = results.absolute() / KEPT / hashlib.sha256(source.encode()).hexdigest()[:16]
    if not kept.is_dir():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            place = download_artifacts(source, dst_path=folder, tracking_uri=tracking)
            Path(place).rename(kept)
    return _checked(kept)


def _checked(model: Path) -> Path:
    bundle = model / "data" / BUNDLE
    if not is_bundle(bundle):
        raise RunError(f"{model}: is no model that raysearch has registered")
    return bundle
