"""Decoded images for nodes that have no data: a copy of the cache that every node reaches.

`index.json` is written last and read first, so a copy that was broken off is none.
"""

import json
import shutil
from pathlib import Path

from filelock import FileLock

from raysearch.data.cache import Cache
from raysearch.errors import DataError
from raysearch.storage import Storage

INDEX = "index.json"


def share(cache: Cache, shared: Storage) -> None:
    """Copy a cache to storage, unless it is there.

    Args:
        shared: the folder of all caches.

    Raises:
        OSError: storage cannot be written.
    """
    place = shared / cache.digest[:16]
    if place.has(INDEX):
        return
    files = sorted(path for path in cache.path.iterdir() if path.is_file())
    for path in sorted(files, key=lambda path: path.name == INDEX):
        place.upload(path, path.name)


def fetch(shared: Storage, digest: str, folder: Path) -> Cache | None:
    """Copy a cache from storage into this node's folder of caches; None where there is no copy.

    Copied aside under a lock and renamed when whole: a copy that was killed leaves nothing that
    looks like a cache, and of two processes one waits and opens the other's.

    Raises:
        DataError: what is there is another cache.
        OSError: storage or this node's disk fails; nothing is half there.
    """
    target, place = folder / digest[:16], shared / digest[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{digest[:16]}.lock"):
            if not target.is_dir():
                if not place.has(INDEX):
                    return None
                _copy(place, digest, target)
    except OSError as error:
        raise OSError(f"{place}: cannot be copied to {target} ({error}); try again") from error
    return Cache(target)


def _copy(place: Storage, digest: str, target: Path) -> None:
    aside = target.with_name(f".{target.name}.copied")
    shutil.rmtree(aside, ignore_errors=True)
    sizes = place.files()
    for name, size in sizes.items():
        place.download(name, aside / name)
        if (aside / name).stat().st_size != size:
            raise OSError(f"{name} was cut short on its way")
    found = json.loads((aside / INDEX).read_text(encoding="utf-8")).get("digest")
    if found != digest:
        shutil.rmtree(aside)
        raise DataError(
            f"{place}: holds the images of another search (digest {found}, not {digest}); delete "
            "it, and start the search again where the data are"
        )
    aside.rename(target)
