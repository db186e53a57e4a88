"""A cluster file by Ray's own schema."""

from pathlib import Path

import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config

from raysearch.errors import ConfigError


def check_cluster_file(path: Path) -> None:
    """Check a cluster file as `ray up` does first.

    Raises:
        ConfigError: it is not valid.
    """
    try:
        validate_config(prepare_config(yaml.safe_load(path.read_text(encoding="utf-8"))))
    except ValidationError as error:
        where = ".".join(map(str, error.absolute_path))
        raise ConfigError(f"{path}: {where + ': ' if where else ''}{error.message}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: {error}") from error
