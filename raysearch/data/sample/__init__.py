"""Generated sample data: one module a set, found by its name, written in its true format."""

import inspect
import shutil
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType

from filelock import FileLock

from raysearch.errors import DataError, closest


def generators() -> list[str]:
    """Return the sample sets that can be generated."""
    return sorted(m.name for m in iter_modules(__path__) if not m.name.startswith("_"))


def generate(
    name: str, folder: Path, seed: int = 0, sizes: Mapping[str, int] | None = None
) -> Path:
    """Write a sample set below folder and return its place; one that is there stays as it is.

    Written aside and renamed when complete, so that a killed call leaves nothing false.

    Args:
        sizes: the generator's own, such as {"train": 200, "side": 64}; by default its defaults.

    Raises:
        DataError: no such sample set or size, or a folder that cannot be written.
    """
    if name not in generators():
        raise DataError(f"no sample data is called '{name}'. {closest(name, generators())}")
    module = import_module(f"{__name__}.{name}")
    sizes = _checked(name, module, sizes or {})
    told = "".join(f"-{key}{value}" for key, value in sorted(sizes.items()))
    place = folder / f"{name}-v{module.VERSION}-seed{seed}{told}"
    try:
        if not place.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f"{place.name}.lock"):
                if not place.is_dir():
                    partial = folder / f"{place.name}.partial"
                    shutil.rmtree(partial, ignore_errors=True)
                    module.write(partial, seed, **sizes)
                    partial.rename(place)
    except OSError as error:
        raise DataError(f"{folder}: sample data cannot be written ({error})") from error
    return place


def _checked(name: str, module: ModuleType, sizes: Mapping[str, int]) -> Mapping[str, int]:
    known = [key for key in inspect.signature(module.write).parameters if key != "folder"]
    known.remove("seed")
    for key, value in sizes.items():
        if key not in known:
            raise DataError(f"sample: the data of '{name}' have no size '{key}'. Valid: {known}")
        if value < 1:
            raise DataError(f"sample.{key}: {value}: write a number from 1")
    return sizes
