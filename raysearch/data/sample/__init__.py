"""Generated sample data: one module a set, found by its name, written in its true format."""

import shutil
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from filelock import FileLock

from raysearch.errors import DataError, closest


def generators() -> list[str]:
    """Return the sample sets that can be generated."""
    return sorted(m.name for m in iter_modules(__path__) if not m.name.startswith("_"))


def generate(name: str, folder: Path, seed: int = 0) -> Path:
    """Write a sample set below folder and return its place; one that is there stays as it is.

    Written aside and renamed when complete, so that a killed call leaves nothing false.

    Raises:
        DataError: no such sample set, or a folder that cannot be written.
    """
    if name not in generators():
        raise DataError(f"no sample data is called '{name}'. {closest(name, generators())}")
    module = import_module(f"{__name__}.{name}")
    place = folder / f"{name}-v{module.VERSION}-seed{seed}"
    try:
        if not place.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(place.with_suffix(".lock")):
                if not place.is_dir():
                    partial = place.with_suffix(".partial")
                    shutil.rmtree(partial, ignore_errors=True)
                    module.write(partial, seed)
                    partial.rename(place)
    except OSError as error:
        raise DataError(f"{folder}: sample data cannot be written ({error})") from error
    return place
