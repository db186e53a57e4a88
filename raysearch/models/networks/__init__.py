"""One module a network type, found by its name.

A module holds `Options` (the keys of a specification beside "type") and
`build(options, task, channels) -> nn.Module`, which maps images (N, bands, h, w) to logits
(N, channels, h, w), or to (N, channels) where the module says KIND = "classification". The part of
the network that can be pretrained is its submodule `encoder`. A new network is a new file here.
"""

import pkgutil
from importlib import import_module
from typing import Any, Protocol

from pydantic import ValidationError
from torch import nn

from raysearch.config import Task, Values
from raysearch.errors import ConfigError, closest


class NetworkType(Protocol):
    """What a module of this package offers."""

    Options: type[Values]

    def build(self, options: Any, task: Task, channels: int) -> nn.Module: ...


def network_types(kind: str | None = None) -> list[str]:
    """Return the names that a specification's "type" may have, of one kind of task or of all."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return [name for name in names if kind is None or kind_of(find(name)) == kind]


def kind_of(network_type: NetworkType) -> str:
    """Return the kind of task that a network type is made for."""
    return str(getattr(network_type, "KIND", "segmentation"))


def find(name: str) -> NetworkType:
    """Return the network type of that name.

    Raises:
        ConfigError: there is none; the message lists the valid names.
    """
    if name not in network_types():
        raise ConfigError(f"network type '{name}' is unknown. {closest(name, network_types())}")
    module: Any = import_module(f"{__name__}.{name}")
    return module


def read_options(spec: dict[str, Any]) -> tuple[NetworkType, Values]:
    """Find the type of a specification and check its other keys.

    Raises:
        ConfigError: unknown type or key, or a value out of its range.
    """
    network_type = find(str(spec["type"]))
    values = {key: value for key, value in spec.items() if key != "type"}
    try:
        return network_type, network_type.Options.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            repair = closest(key, network_type.Options.model_fields)
            message = f"network {spec['type']}: unknown key '{key}'. {repair}"
        else:
            message = f"network {spec['type']}: {key} = {first['input']!r}: {first['msg']}"
        raise ConfigError(message) from error
