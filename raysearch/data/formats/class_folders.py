"""A folder of pictures for each class, as many sets of labelled images come.

`<class>/...` or, where the split is given, `train/<class>/...`, `val/<class>/...` and
`test/<class>/...`. Pictures have any known ending and may lie in folders below the class's.
"""

import os
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raysearch.config import DataConfig
from raysearch.data import images
from raysearch.data.formats import Reader
from raysearch.data.samples import Sample
from raysearch.errors import ConfigError, DataError, closest

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
# Folders of images beside folders of masks: what other formats consist of.
OTHER_FORMATS = ("image", "img", "mask", "label", "annotation", "jpegimages", "segmentation")
GREY = ("1", "L", "LA")
LOOKED_AT = 8


class LabelledPictures(Reader):
    """What readers of classified pictures share: decoding, and the id of each class."""

    def __init__(self, root: Path, data: DataConfig) -> None:
        super().__init__(root, data)
        if data.bands not in images.MODES:
            raise ConfigError(f"data.bands: {data.bands}: these pictures have 3 bands, or 1 (grey)")

    def shape(self, sample: Sample) -> tuple[int, int]:
        return images.shape(sample.image, self.data.max_pixels)

    def image(self, sample: Sample) -> NDArray[np.uint8]:
        return images.read(sample.image, self.data.bands, self.data.max_pixels)

    def ids(self, found: Collection[str], where: str) -> dict[str, int]:
        """Return the id of each class of the study, in the order of data.classes.

        Args:
            found: the classes that the data set has.
            where: what names them, for the error.

        Raises:
            DataError: a class of the data set that the study lacks. (Whether it has a picture of
                every class matters to training alone.)
        """
        for name in sorted(found):
            if name not in self.data.classes:
                raise DataError(
                    f"{where} has the class '{name}', which data.classes lacks. "
                    f"{closest(name, self.data.classes)} Correct data.classes, leave it out (the "
                    f"classes are then those of the folder), or take '{name}' out of the data set"
                )
        return {name: number for number, name in enumerate(self.data.classes)}


class Format(LabelledPictures):
    """Class folders, or class folders in split folders. Samples are named by their path."""

    class Options(Reader.Options):
        """groups: "folder" keeps the pictures of one folder below a class's (a scene, a day) in one
        split; "file" splits every picture by itself.
        """

        groups: Literal["file", "folder"] = "file"

    def samples(self) -> list[Sample]:
        found = {
            split: {folder.name: list(_pictures(folder)) for folder in folders}
            for split, folders in self._class_folders().items()
        }
        ids = self.ids({name for classes in found.values() for name in classes}, str(self.root))
        samples = [
            Sample(name, path, ids[class_], self._group(name, path, class_), split)
            for split, classes in found.items()
            for class_, paths in classes.items()
            for path in paths
            for name in [path.relative_to(self.root).as_posix()]
        ]
        return sorted(samples, key=lambda sample: sample.name)

    def _group(self, name: str, path: Path, class_: str) -> str:
        by_folder = self.options.groups == "folder" and path.parent.name != class_
        return path.parent.relative_to(self.root).as_posix() if by_folder else name

    def _class_folders(self) -> dict[str | None, list[Path]]:
        """Return the folders with pictures by the split that they lie in.

        Raises:
            DataError: none, pictures beside them, or class folders beside split folders.
        """
        folders = _with_pictures(self.root)
        if not folders:
            raise DataError(f"{self.root}: no folder with pictures; expected one for each class")
        splits = _splits(folders)
        for place in (self.root, *splits.values()):
            loose = next((path for path in sorted(place.iterdir()) if _is_picture(path)), None)
            if loose is not None:
                raise DataError(f"{loose}: a picture outside of every class folder; move it to one")
        if not splits:
            return {None: folders}
        others = [folder.name for folder in folders if folder not in splits.values()]
        if others:
            raise DataError(
                f"{self.root}: {', '.join(others)} beside {', '.join(p.name for p in folders)}: "
                "have either split folders or class folders here"
            )
        if "train" not in splits:
            there = ", ".join(place.name for place in splits.values())
            raise DataError(f"{self.root / 'train'}: no such folder, but {there} is there")
        return {split: _with_pictures(folder) for split, folder in splits.items()}

    @classmethod
    def recognise(cls, folder: Path) -> dict[str, Any] | None:
        try:
            if any(_is_picture(path) for path in folder.iterdir()):
                return None
            top = _with_pictures(folder)
            splits = _splits(top)
            classes = [p for place in splits.values() or () for p in _with_pictures(place)] or top
            names = sorted({path.name for path in classes})
            if len(names) < 2 or (splits and len(splits) != len(top)) or _of_other_format(classes):
                return None
            bands = bands_of([path for f in classes for path in islice(_pictures(f), 1)])
        except (OSError, DataError):
            return None
        return {"classes": names, "bands": bands, "options": {}, "task": "classification"}


def bands_of(paths: list[Path]) -> int:
    """Return 1 where the first pictures are all grey by their headers, and else 3."""
    modes = []
    for path in paths[:LOOKED_AT]:
        try:
            with Image.open(path) as picture:
                modes.append(picture.mode)
        except (OSError, ValueError, SyntaxError):
            continue
    return 1 if modes and all(mode in GREY for mode in modes) else 3


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in images.ENDINGS and not path.name.startswith(".")


def _pictures(folder: Path) -> Iterator[Path]:
    """Yield the pictures in a folder and below, in order; hidden files and folders are none."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in sorted(files) if _is_picture(Path(name)))


def _with_pictures(folder: Path) -> list[Path]:
    """Return the folders in a folder that hold a picture, in order."""
    places = [p for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith(".")]
    return [place for place in places if next(_pictures(place), None) is not None]


def _splits(folders: list[Path]) -> dict[str | None, Path]:
    """Return the folders that are named like a split and hold class folders, by the split."""
    splits: dict[str | None, Path] = {}
    for folder in folders:
        split = SPLIT_NAMES.get(folder.name.lower())
        if split is None or not _with_pictures(folder):
            continue
        if split in splits:
            raise DataError(f"{folder} and {splits[split].name} are both {split}; keep one of them")
        splits[split] = folder
    return splits


def _of_other_format(classes: list[Path]) -> bool:
    """Whether the folders look like a segmentation set's: named so, holding such, or frames."""
    names = [path.name for path in classes]
    names += [path.name for folder in classes for path in folder.iterdir() if path.is_dir()]
    frames = any(next(folder.glob("*.json"), None) for folder in classes)
    return frames or any(name.lower().startswith(OTHER_FORMATS) for name in names)
