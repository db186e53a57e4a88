"""Find a study by name or path, read its YAML, apply a profile and the command line's changes."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from raysearch.config import Recipe, Study, explain, outer
from raysearch.errors import ConfigError, closest

PROFILE_PARTS = (
    "networks",
    "space",
    "fixed",
    "budget",
    "resources",
    "sample",
    "allow_random_weights",
)


MOST_VALUES = 100_000  # Of a study; its aliases count as often as they are used.
MOST_BYTES = 8 * 2**20


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which also refuses a key that stands twice, and what would fill memory
    though the file is small: aliases of aliases."""

    def get_single_node(self) -> yaml.Node | None:
        root = super().get_single_node()
        if root is not None and _size(root, {}) > MOST_VALUES:
            raise ConfigError(f"more than {MOST_VALUES} values, aliases included; write fewer")
        return root


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Count a node and all below it, an alias as often as it stands there; one inside itself has
    no end."""
    if id(node) not in known:
        known[id(node)] = MOST_VALUES
        inner = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = (part for one in inner for part in (one if isinstance(one, tuple) else (one,)))
        known[id(node)] = 1 + sum(_size(part, known) for part in parts)
    return known[id(node)]


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen = set()
    for key, _ in node.value:
        name = loader.construct_object(key)
        if name in seen:
            line = key.start_mark.line + 1
            raise ConfigError(f"line {line}: the key '{name}' stands twice; keep one")
        seen.add(name)
    return loader.construct_mapping(node, deep=True)


# YAML 1.2 reads 1e-4 as a number, PyYAML (YAML 1.1) as a string.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
# Beside its own errors PyYAML passes on those of dates, of keys that are lists, and of depth.
UNREADABLE = (yaml.YAMLError, ValueError, TypeError, RecursionError)


def folders() -> list[Path]:
    """Where studies are looked for by name: the working directory, then what is installed."""
    package = Path(__file__).parent
    places = [Path("search_spaces"), package.parent / "search_spaces", package / "search_spaces"]
    return [place for place in places if place.is_dir()]


def find(name: str) -> Path:
    """Return the YAML of a study that is given as a path, or named.

    A name is looked for in search_spaces/, then among the YAMLs of the working directory.

    Raises:
        ConfigError: no such study, with the nearest names.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"{path}: no such file; give a study's name or the path of a YAML")
        return path
    known = {path.stem: path for folder in reversed(folders()) for path in folder.glob("*.yaml")}
    own = Path(f"{name}.yaml")
    if name not in known and own.is_file():
        return own
    if name not in known:
        raise ConfigError(f"no study is called '{name}'. {closest(name, known)}")
    return known[name]


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping from a YAML file; anything else is a ConfigError that names the place."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError("too large for a study; name a study's YAML")
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); correct the path") from error
    except UNREADABLE as error:
        raise ConfigError(f"{path}: not readable as YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected keys such as name, data, networks and budget")
    return raw


def load_study(name: str, profile: str | None = None, changes: Sequence[str] = ()) -> Study:
    """Read a study.

    Args:
        name: a file in search_spaces/ without its ending, or the path of a YAML.
        profile: one of the study's profiles; None takes the YAML as it stands.
        changes: `key=value`, as of `--set`; the value is read as YAML.

    Raises:
        ConfigError: naming the file, the key, the value and the repair.
    """
    path = find(name)
    raw = apply_profile(read_yaml(path), profile, path)
    for change in changes:
        apply_change(raw, change)
    return _validate(raw, path)


def apply_profile(raw: dict[str, Any], profile: str | None, path: Path) -> dict[str, Any]:
    """Return the study with one of its profiles laid over it, and without the others."""
    profiles = raw.pop("profiles", None) or {}
    if profile is None or (not profiles and raw.get("profile") == profile):
        return raw
    if profile not in profiles:
        raise ConfigError(f"{path}: no profile is called '{profile}'. {closest(profile, profiles)}")
    for part, values in (profiles[profile] or {}).items():
        if part not in PROFILE_PARTS:
            raise ConfigError(
                f"{path}: profiles.{profile}.{part}: a profile changes budget and sizes only. "
                + closest(part, PROFILE_PARTS)
            )
        if not isinstance(values, Mapping):
            raw[part] = values
            continue
        raw[part] = {**(raw.get(part) or {}), **values}
        if part == "fixed":
            _fix(raw, values)
    raw["space"] = {k: v for k, v in (raw.get("space") or {}).items() if v is not None}
    raw["profile"] = profile
    return raw


def profile_names(name: str) -> list[str]:
    """Return the profiles that a study offers."""
    return list(read_yaml(find(name)).get("profiles") or {})


def _fix(raw: dict[str, Any], keys: Mapping[str, Any]) -> None:
    """What is fixed is searched no longer."""
    space = raw.get("space") or {}
    raw["space"] = {k: v for k, v in space.items() if k not in keys and outer(k) not in keys}


def apply_change(raw: dict[str, Any], change: str) -> None:
    """Apply one `key=value` of `--set` to a study that is not yet checked."""
    key, equals, text = change.partition("=")
    if not equals:
        raise ConfigError(f"--set {change}: write key=value, such as --set budget.epochs=20")
    parts = _parts(key.strip())
    value = parse_value(text)
    node = raw
    for part in parts[:-1]:
        child = node.get(part)
        node[part] = dict(child) if isinstance(child, Mapping) else {}
        node = node[part]
    node[parts[-1]] = value
    if parts[0] == "fixed":
        _fix(raw, {".".join(parts[1:]): value})


def _parts(key: str) -> list[str]:
    """Split at dots, but keep a searched entry such as space.loss.dice together."""
    parts = key.split(".")
    mapping = len(parts) > 2 and parts[1] in ("loss", "network")
    if mapping and parts[0] in ("space", "fixed") and parts[2] not in ("low", "high", "choices"):
        return [parts[0], f"{parts[1]}.{parts[2]}", *parts[3:]]
    return parts


def parse_value(text: str) -> Any:
    """Read a value of the command line as YAML would."""
    try:
        return yaml.load(text, Loader=_Loader)
    except UNREADABLE as error:
        raise ConfigError(f"'{text}' is not readable as a value: {error}") from error


def _validate(raw: dict[str, Any], path: Path) -> Study:
    """Check a study; its paths are seen from the YAML."""
    base = path.parent
    data, init, teachers = raw.get("data"), raw.get("init_from"), raw.get("teachers")
    if isinstance(data, dict) and data.get("path"):
        raw["data"] = {**data, "path": (base / str(data["path"])).resolve()}
    if isinstance(init, dict):
        raw["init_from"] = {name: (base / str(folder)).resolve() for name, folder in init.items()}
    if isinstance(teachers, list):
        raw["teachers"] = [(base / str(folder)).resolve() for folder in teachers]
    try:
        return Study.model_validate(raw)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{path}: {line}" for line in explain(error, Study))) from error


def checked(study: Study, **changes: Any) -> Study:
    """Return a changed study that has passed every check again.

    Raises:
        ConfigError: naming the key, the value and the repair.
    """
    try:
        return Study.model_validate({**dict(study), **changes})
    except ValidationError as error:
        raise ConfigError("\n".join(explain(error, Study))) from error


def to_yaml(study: Study) -> str:
    """Return the resolved study as YAML that reads back to the same study."""
    return yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False)


def single(study: Study, recipe: Recipe) -> Study:
    """Return the study with one recipe fixed and nothing searched, ready to train again."""
    fixed = {k: v for k, v in recipe.model_dump().items() if k not in ("epochs", "seed")}
    budget = study.budget.model_copy(update={"trials": 1, "minutes": None, "epochs": recipe.epochs})
    return study.model_copy(update={"space": {}, "fixed": fixed, "start": [], "budget": budget})


def given(study: Study, recipes: Sequence[Recipe]) -> Study:
    """Return the study of a run that trains given recipes: nothing is searched, and none is cut.

    It names the first of them; the others may have another network, seed or number of epochs.
    """
    alone = single(study, recipes[0])
    epochs = max(recipe.last_epoch for recipe in recipes)
    limits = {"trials": len(recipes), "epochs": epochs, "first_rung": 1.0, "stop_at_goal": False}
    return alone.model_copy(update={"budget": alone.budget.model_copy(update=limits)})
