"""A search's data on the node of a trial: decoded there once, or copied from storage."""

from pathlib import Path

from raysearch.config import DataConfig
from raysearch.data import Cache, Data, open_data
from raysearch.data.shared_cache import fetch as fetch_cache
from raysearch.data.splits import read_splits
from raysearch.errors import DataError
from raysearch.search.context import Context
from raysearch.storage import Storage


def open_here(context: Context) -> Data:
    """A process that trains one trial after another opens the data once."""
    if context.run not in _opened:
        _opened.clear()
        _opened[context.run] = _data(context)
    return _opened[context.run]


_opened: dict[Path, Data] = {}


def _data(context: Context) -> Data:
    """Open the data as the driver split it."""
    config = context.study.data
    found = cache_here(config, context.root, context.cache, context.digest, context.shared)
    return Data(found, read_splits(context.run / "splits.json"), len(config.classes))


def cache_here(
    config: DataConfig, root: Path, folder: Path, digest: str, shared: Storage | None = None
) -> Cache:
    """Open a search's decoded images; a node that lacks them decodes them first, or copies them
    from storage where it has no data.

    Raises:
        DataError: the files on this node are not those of the search.
        OSError: storage or this node's disk fails.
    """
    path = folder / digest[:16]
    copied = fetch_cache(shared, digest, folder) if shared and not root.is_dir() else None
    found = copied or (Cache(path) if path.is_dir() else open_data(config, root, folder, 0).cache)
    if found.digest != digest:
        raise DataError(
            f"{root}: the files here are not those that the search was started with "
            f"(digest {found.digest}, not {digest}); bring the same data to every node"
        )
    return found
