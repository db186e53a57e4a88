"""Food-101's layout (Bossard et al., https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/).

A root holds images/<class>/<id>.jpg, and in meta/ the lists train.txt and test.txt whose lines are
`class/id`, and classes.txt with the names of the classes. (labels.txt, their names in prose, and
the lists in JSON say nothing more.) Training labels are known to contain some noise.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from raysearch.data import images
from raysearch.data.formats import Reader
from raysearch.data.formats.class_folders import LOOKED_AT, LabelledPictures, bands_of
from raysearch.data.lists import read_lists
from raysearch.data.samples import Sample, damaged
from raysearch.errors import DataError


class Format(LabelledPictures):
    """Pictures by class, and lists that name them. Samples are named as the lists do."""

    class Options(Reader.Options):
        """Other names of the folders."""

        images: str = "images"
        lists: str = "meta"

    def samples(self) -> list[Sample]:
        splits = self._lists()
        names = [name.rpartition("/")[0] for name in splits]
        ids = self.ids(set(names), str(self.root / self.options.lists))
        pictures = self._files(ids)
        missing = [
            f"{self.root / self.options.images / name}.jpg: no such file"
            for name in splits
            if name not in pictures
        ]
        if missing:
            raise damaged(missing, len(splits), "listed images")
        return [
            Sample(name, pictures[name], ids[class_], name, splits[name])
            for name, class_ in sorted(zip(splits, names, strict=True))
        ]

    def _lists(self) -> dict[str, str]:
        """Return the split of each `class/id` that a list names.

        Raises:
            DataError: no lists, empty ones, or a line that is no class/id.
        """
        place = self.root / self.options.lists
        lists = read_lists(self.root, [Path()], self.options.lists)
        if lists is None:
            raise DataError(
                f"{place}: neither train.txt nor test.txt in it; Food-101's lists belong there. "
                "A set without lists has the format class_folders"
            )
        splits = lists[Path()]
        if not splits:
            raise DataError(f"{place}: the lists name no image")
        for name, split in splits.items():
            class_, _, stem = name.partition("/")
            if not class_ or not stem or "/" in stem:
                raise DataError(f"{place / split}.txt: '{name}' is not class/id")
        return splits

    def _files(self, classes: Iterable[str]) -> dict[str, Path]:
        """Return the pictures of all classes by `class/id`; Food-101's own ending comes first."""
        place = self.root / self.options.images
        if not place.is_dir():
            raise DataError(f"{place}: no such folder; Food-101 has its pictures there")
        files: dict[str, Path] = {}
        for class_ in classes:
            if not (place / class_).is_dir():
                continue
            for path in sorted((place / class_).iterdir()):
                name = f"{class_}/{path.stem}"
                ending = path.suffix.lower()
                if ending in images.ENDINGS and (name not in files or ending == ".jpg"):
                    files[name] = path
        return files

    @classmethod
    def recognise(cls, folder: Path) -> dict[str, Any] | None:
        place = cls.Options()
        try:
            if not (folder / place.images).is_dir():
                return None
            lists = (read_lists(folder, [Path()], place.lists) or {}).get(Path(), {})
            classes = _classes(folder / place.lists, lists)
        except (OSError, UnicodeDecodeError, DataError):
            return None
        if len(classes) < 2 or any(name.count("/") != 1 for name in lists):
            return None
        first = [folder / place.images / f"{name}.jpg" for name in list(lists)[:: _step(lists)]]
        return {
            "classes": classes,
            "bands": bands_of(first),
            "options": {},
            "task": "classification",
        }


def _classes(place: Path, lists: Mapping[str, str]) -> list[str]:
    """Return the classes that the lists name, in the order of classes.txt where it has them."""
    named = {name.partition("/")[0] for name in lists}
    path = place / "classes.txt"
    lines = path.read_text(encoding="utf-8-sig").splitlines() if path.is_file() else []
    ordered = [line.strip() for line in lines if line.strip() in named]
    return [*dict.fromkeys(ordered), *sorted(named - set(ordered))]


def _step(lists: Mapping[str, str]) -> int:
    return max(1, len(lists) // LOOKED_AT)
