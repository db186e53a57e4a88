"""Cluster files: cluster.yaml as `ray up` takes it, or a manifest for KubeRay.

Ray and Kubernetes pass over keys that they do not know in many places, and a search then runs
without what was asked for. Here every key has to be known.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import ray.autoscaler
import yaml
from jsonschema import ValidationError, validate
from ray.autoscaler._private.util import prepare_config, validate_config

from raysearch.cluster.manifests import MANIFESTS, faults_in_manifest
from raysearch.errors import ConfigError, closest

# Keys of the provider that Ray reads beside those of its schema.
PROVIDER = {
    "external_head_ip", "use_external_head_ip", "coordinator_address", "aws_credentials",
    "key_pair", "disable_launch_config_check", "foreground_node_launch", "worker_liveness_check",
    "worker_rpc_drain",
}  # fmt: skip
RESOURCES = {"CPU", "GPU", "memory", "object_store_memory"}
# What EC2 starts a machine by; without the image, Ray would take one of its own, years old.
MACHINE = ("ImageId", "InstanceType")


def check_cluster_file(path: Path) -> None:
    """Check a cluster file before anything is started by it.

    Raises:
        ConfigError: it cannot be read, a key in it is unknown or missing, or a value is refused.
    """
    for document in read_documents(path):
        manifest = "apiVersion" in document or "kind" in document
        kind = str(document.get("kind"))
        if manifest and kind not in MANIFESTS:
            hint = closest(kind, MANIFESTS)
            raise ConfigError(f"{path}: kind: {kind} is not known here. {hint}")
        found = list(faults_in_manifest(document) if manifest else faults(document))
        if found:
            raise ConfigError(f"{path}: {'; '.join(found)}")
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


def faults(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each key that `ray up` does not know, and for what EC2 would refuse."""
    yield from _unknown(config, schema(), "")
    types, provider = config.get("available_node_types"), config.get("provider")
    provider = provider if isinstance(provider, dict) else {}
    aws = provider.get("type") == "aws"
    if aws and not provider.get("region"):
        yield "provider: 'region' is missing; name one such as us-west-2"
    if aws and not types:
        yield "'available_node_types' is missing; cluster.yaml shows what to write"
    for name, kind in types.items() if isinstance(types, dict) else ():
        where = f"available_node_types.{name}"
        if not isinstance(kind, dict):
            continue
        yield from _misspelt_resources(kind.get("resources"), f"{where}.resources")
        node_config = kind.get("node_config", {})
        if aws and isinstance(node_config, dict):
            yield from _refused_by_ec2(node_config, f"{where}.node_config")


def _unknown(value: Any, known: Mapping[str, Any], where: str) -> Iterator[str]:
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
            yield _unknown_key(where, key, valid)


def _unknown_key(where: str, key: Any, valid: Iterable[str]) -> str:
    place = f"{where}: " if where else ""
    return f"{place}unknown key '{key}'. {closest(str(key), valid)}"


def _misspelt_resources(resources: Any, where: str) -> Iterator[str]:
    """Name resources of one's own that differ from Ray's by case or a plural alone."""
    for key in resources if isinstance(resources, dict) else ():
        if key not in RESOURCES and key.upper().rstrip("S") in {r.upper() for r in RESOURCES}:
            yield _unknown_key(where, key, RESOURCES)


def _refused_by_ec2(node_config: Mapping[str, Any], where: str) -> Iterator[str]:
    """Name what EC2's RunInstances would refuse, by Amazon's own description of it."""
    shape = _run_instances()
    from botocore.validate import ParamValidator

    if "LaunchTemplate" not in node_config:
        for key in MACHINE:
            if not node_config.get(key):
                yield f"{where}: '{key}' is missing; cluster.yaml shows what to write"
    # Ray chooses one of several subnets, and says how many machines.
    asked = {k: v for k, v in node_config.items() if k != "SubnetIds"}
    report = ParamValidator().validate({**asked, "MinCount": 1, "MaxCount": 1}, shape)
    for kind, place, told in report._errors:
        if kind == "unknown field":
            yield _unknown_key(f"{where}{place}", told["unknown_param"], told["valid_names"])
        elif kind == "missing required field":
            yield f"{where}{place}: '{told['required_name']}' is missing"
        else:
            wanted = " or ".join(re.findall(r"'(\w+)'", str(told.get("valid_types"))))
            yield f"{where}{place}: {told['param']!r} must be {wanted or 'of another form'}"
    # Amazon has new types of machines by the month, so those that it lists are not all.
    texts = {k: v for k, v in asked.items() if k not in MACHINE}
    yield from _refused_texts(texts, shape, where)


def _refused_texts(value: Any, shape: Any, where: str) -> Iterator[str]:
    """Name texts that are empty, or none of those that Amazon lists."""
    if isinstance(value, dict) and shape.type_name == "structure":
        for key, inner in value.items():
            if key in shape.members:
                yield from _refused_texts(inner, shape.members[key], f"{where}.{key}")
    elif isinstance(value, list) and shape.type_name == "list":
        for number, inner in enumerate(value):
            yield from _refused_texts(inner, shape.member, f"{where}[{number}]")
    elif value == "":
        yield f"{where}: is empty; fill it in, or leave the key out"
    elif isinstance(value, str) and value not in (getattr(shape, "enum", None) or [value]):
        yield f"{where}: unknown value '{value}'. {closest(value, shape.enum)}"


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
