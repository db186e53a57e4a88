"""Cluster files: cluster.yaml as `ray up` takes it, or a manifest for KubeRay.

Ray and Kubernetes pass over keys that they do not know in many places, and a search then runs
without what was asked for. Here every key has to be known.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import ray.autoscaler
import yaml
from jsonschema import ValidationError, validate
from ray.autoscaler._private.util import prepare_config, validate_config

from raysearch.cluster.manifests import MANIFESTS, unknown_in_manifest
from raysearch.errors import ConfigError, closest

# Keys of the provider that Ray reads beside those of its schema.
PROVIDER = {
    "external_head_ip", "use_external_head_ip", "coordinator_address", "aws_credentials",
    "key_pair", "disable_launch_config_check", "foreground_node_launch", "worker_liveness_check",
    "worker_rpc_drain",
}  # fmt: skip
RESOURCES = {"CPU", "GPU", "memory", "object_store_memory"}
Unknown = tuple[str, str, set[str]]  # where it stands, the key, and the valid ones


def check_cluster_file(path: Path) -> None:
    """Check a cluster file before anything is started by it.

    Raises:
        ConfigError: it cannot be read, a key in it is unknown, or Ray would refuse it.
    """
    for document in read_documents(path):
        manifest = "apiVersion" in document
        if manifest and document.get("kind") not in MANIFESTS:
            hint = closest(str(document.get("kind")), MANIFESTS)
            raise ConfigError(f"{path}: kind: {document.get('kind')} is not known here. {hint}")
        found = list(unknown_in_manifest(document) if manifest else unknown_keys(document))
        if found:
            raise ConfigError(f"{path}: {'; '.join(map(_sentence, found))}")
        if not manifest:
            _check_as_ray_does(path, document)


def read_documents(path: Path) -> list[dict[str, Any]]:
    """Return the YAML documents of a cluster file.

    Raises:
        ConfigError: there is no such file, or it holds anything but YAML mappings.
    """
    try:
        found = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as a cluster file ({error})") from error
    if not found or not all(isinstance(document, dict) for document in found):
        raise ConfigError(f"{path}: is no cluster file; name one such as cluster.yaml")
    return found


@cache
def schema() -> dict[str, Any]:
    """Return Ray's own schema of cluster.yaml."""
    path = Path(ray.autoscaler.__file__).with_name("ray-schema.json")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def unknown_keys(config: Mapping[str, Any]) -> Iterator[Unknown]:
    """Yield the keys that `ray up` does not know, in the whole of a cluster file."""
    yield from _unknown(config, schema(), "")
    types = config.get("available_node_types")
    for name, kind in types.items() if isinstance(types, dict) else ():
        where = f"available_node_types.{name}"
        if not isinstance(kind, dict):
            continue
        yield from _misspelt_resources(kind.get("resources"), f"{where}.resources")
        provider = config.get("provider")
        if isinstance(provider, dict) and provider.get("type") == "aws":
            yield from _unknown_to_ec2(kind.get("node_config"), f"{where}.node_config")


def _unknown(value: Any, known: Mapping[str, Any], where: str) -> Iterator[Unknown]:
    """Follow a value down Ray's schema."""
    named = known.get("properties", {})
    if not isinstance(value, dict) or not (named or "patternProperties" in known):
        return
    valid = {*named, *(PROVIDER if where == "provider" else ())}
    for key, inner in value.items():
        below = named.get(key) or next(iter(known.get("patternProperties", {}).values()), None)
        if below is not None:
            yield from _unknown(inner, below, f"{where}.{key}".lstrip("."))
        elif key not in valid:
            yield where, key, valid


def _misspelt_resources(resources: Any, where: str) -> Iterator[Unknown]:
    """Yield resources of one's own that differ from Ray's by case or a plural alone."""
    for key in resources if isinstance(resources, dict) else ():
        if key not in RESOURCES and key.upper().rstrip("S") in {r.upper() for r in RESOURCES}:
            yield where, key, RESOURCES


def _unknown_to_ec2(node_config: Any, where: str) -> Iterator[Unknown]:
    """Yield the keys that EC2's RunInstances does not have, by Amazon's own description."""
    if not isinstance(node_config, dict):
        return
    shape = _run_instances()
    from botocore.validate import ParamValidator

    # Ray chooses one of several subnets, and says how many machines.
    asked = {k: v for k, v in node_config.items() if k != "SubnetIds"}
    report = ParamValidator().validate({**asked, "MinCount": 1, "MaxCount": 1}, shape)
    for kind, place, told in report._errors:
        if kind == "unknown field":
            yield f"{where}{place}", told["unknown_param"], set(told["valid_names"])


@cache
def _run_instances() -> Any:
    """Return what Amazon's client, which `ray up` needs too, knows of EC2's RunInstances.

    Raises:
        ConfigError: that client is missing.
    """
    try:
        from botocore.loaders import Loader
        from botocore.model import ServiceModel
    except ModuleNotFoundError as error:
        raise ConfigError(
            "provider.type: aws needs Amazon's client; `uv pip install boto3` brings it"
        ) from error
    described = ServiceModel(Loader().load_service_model("ec2", "service-2"))
    return described.operation_model("RunInstances").input_shape


def _check_as_ray_does(path: Path, config: dict[str, Any]) -> None:
    """Check values and what is required, as `ray up` does first, without what that prints."""
    try:
        validate(config, schema())
        with redirect_stdout(StringIO()):
            validate_config(prepare_config(config))
    except ValidationError as error:
        where = ".".join(map(str, error.absolute_path))
        raise ConfigError(f"{path}: {where + ': ' if where else ''}{error.message}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: {error!r}; compare with cluster.yaml") from error


def _sentence(unknown: Unknown) -> str:
    where, key, valid = unknown
    place = f"{where}: " if where else ""
    return f"{place}unknown key '{key}'. {closest(key, valid)}"
