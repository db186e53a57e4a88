"""Read the lists of image names that assign samples to train, val and test."""

from collections.abc import Sequence
from pathlib import Path

from raysearch.data.samples import SPLITS
from raysearch.errors import DataError


def read_lists(
    root: Path, folders: Sequence[Path], place: str, ending: str = ".txt"
) -> dict[Path, dict[str, str]] | None:
    """Return the split of each name by folder, or None where no folder has lists.

    Args:
        root: the data set's folder.
        folders: those with lists of their own, relative to root.
        place: where the lists are below each folder, such as "ImageSets/Segmentation"; an absolute
            path is a folder elsewhere that holds the same folders.

    Raises:
        DataError: lists that only some folders have, or a name in two lists of a folder.
    """
    outside = Path(place).is_absolute()
    lists = {f: Path(place) / f if outside else root / f / place for f in folders}
    splits = [s for s in SPLITS if any((at / (s + ending)).is_file() for at in lists.values())]
    if not splits:
        return None
    if "train" not in splits:
        at = next(iter(lists.values()))
        raise DataError(f"{at / ('train' + ending)}: no such list, but {splits[0]}{ending} exists")
    return {folder: _merge(at, splits, ending) for folder, at in lists.items()}


def _merge(folder: Path, splits: Sequence[str], ending: str) -> dict[str, str]:
    merged: dict[str, str] = {}
    for split in splits:
        path = folder / (split + ending)
        for name in _names(path):
            if merged.setdefault(name, split) != split:
                raise DataError(
                    f"{path}: '{name}' stands in {merged[name]}{ending} as well; keep it in one"
                )
    return merged


def _names(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such list, but other folders have it") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file in UTF-8 ({error})") from error
    return [line.strip() for line in lines if line.strip()]
