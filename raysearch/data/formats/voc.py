"""PASCAL VOC segmentation folders (http://host.robots.ox.ac.uk/pascal/VOC/voc2012/).

A root holds JPEGImages/, SegmentationClass/ and ImageSets/Segmentation/{train,val,test}.txt. The
folder given is one root, or holds one root per class. Colours of masks are named in labelmap.txt
(`name:r,g,b::`, as CVAT writes it); without one, classes have VOC's standard palette in the order
of `data.classes`.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from raysearch.config import DataConfig
from raysearch.data import images
from raysearch.data.formats import Reader
from raysearch.data.lists import read_lists
from raysearch.data.samples import Sample, damaged
from raysearch.errors import ConfigError, DataError, closest

Colour = tuple[int, int, int]

VOID_ID = 255
VOID_COLOUR: Colour = (224, 224, 192)
UNKNOWN = -1
LOOKED_AT = 40
QUICK_PIXELS = 50_000_000


def standard_palette(count: int) -> list[Colour]:
    """Return VOC's colours of the ids 0 to count - 1 (VOCdevkit, VOClabelcolormap.m).

    >>> standard_palette(3)
    [(0, 0, 0), (128, 0, 0), (0, 128, 0)]
    """
    return [_standard_colour(number) for number in range(count)]


def _standard_colour(number: int) -> Colour:
    channels = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            channels[channel] |= ((number >> (3 * bit + channel)) & 1) << (7 - bit)
    return channels[0], channels[1], channels[2]


class Format(Reader):
    """One VOC root, or one per class folder. Samples are named by folder and file."""

    class Options(Reader.Options):
        """Other names of the folders, and how masks are written.

        lists: below each root; an absolute path is a folder elsewhere, with the lists of each root
            in a folder of its name (as `python -m raysearch.check --fix` writes them).
        mask_values: "index" reads a palette mask's numbers as class ids, "colour" its colours;
            "auto" reads colours where there is a labelmap, numbers elsewhere.
        """

        images: str = "JPEGImages"
        masks: str = "SegmentationClass"
        lists: str = "ImageSets/Segmentation"
        labelmap: str = "labelmap.txt"
        mask_values: Literal["auto", "colour", "index"] = "auto"

    def __init__(self, root: Path, data: DataConfig) -> None:
        super().__init__(root, data)
        if data.bands not in images.MODES:
            raise ConfigError(f"data.bands: {data.bands}: a voc image has 3 bands, or 1 (grey)")
        self.labelmaps = {folder: self._labelmap(folder) for folder in self.roots}

    @cached_property
    def roots(self) -> list[Path]:
        """The VOC roots, relative to the folder: itself, or one per class."""
        if self._is_root(self.root):
            return [Path()]
        roots = [f for f in sorted(self.root.iterdir()) if f.is_dir() and self._is_root(f)]
        if not roots:
            raise DataError(
                f"{self.root}: neither a VOC root nor a folder of VOC roots; expected "
                f"{self.options.images}/, {self.options.masks}/ and {self.options.lists}/ in it, "
                "or in a folder for each class"
            )
        return [folder.relative_to(self.root) for folder in roots]

    def _is_root(self, folder: Path) -> bool:
        parts = (self.options.images, self.options.masks, self.options.lists)
        return any((folder / part).is_dir() for part in parts if not Path(part).is_absolute())

    def samples(self) -> list[Sample]:
        found: list[Sample] = []
        missing: list[str] = []
        lists = read_lists(self.root, self.roots, self.options.lists)
        for folder in self.roots:
            pictures = self._files(folder / self.options.images)
            masks = self._files(folder / self.options.masks)
            listed = lists[folder] if lists else dict.fromkeys(pictures, None)
            for stem, split in listed.items():
                lacking = self._lacking(folder, stem, pictures, masks)
                if lacking:
                    missing.append(lacking)
                    continue
                name = (folder / stem).as_posix()
                found.append(Sample(name, pictures[stem], masks[stem], name, split))
        if missing:
            raise damaged(missing, len(found) + len(missing), "listed images")
        return sorted(found, key=lambda sample: sample.name)

    def _lacking(
        self, folder: Path, stem: str, pictures: dict[str, Path], masks: dict[str, Path]
    ) -> str | None:
        for part, files in ((self.options.images, pictures), (self.options.masks, masks)):
            if stem not in files:
                return f"{self.root / folder / part / stem}: no such file, with any known ending"
        return None

    def _files(self, folder: Path) -> dict[str, Path]:
        place = self.root / folder
        if not place.is_dir():
            raise DataError(f"{place}: no such folder; a VOC root needs it")
        return images.by_stem(place)

    def shape(self, sample: Sample) -> tuple[int, int]:
        return images.shape(sample.image, self.data.max_pixels)

    def image(self, sample: Sample) -> NDArray[np.uint8]:
        return images.read(sample.image, self.data.bands, self.data.max_pixels)

    def target(self, sample: Sample) -> NDArray[np.uint8]:
        if not isinstance(sample.target, Path):
            raise TypeError(f"{sample.name} has no mask file")
        pixels, palette = images.read_mask(sample.target, self.data.max_pixels)
        labelmap = self._labelmap_of(sample)
        as_colour = self.options.mask_values == "colour" or (
            self.options.mask_values == "auto" and labelmap is not None
        )
        colours = labelmap or self._standard
        if pixels.ndim == 3:
            return self._from_colours(pixels, colours, sample.target)
        if palette is not None and as_colour:
            return self._from_palette(pixels, palette, colours, sample.target)
        return self._from_ids(pixels, sample.target)

    @classmethod
    def recognise(cls, folder: Path) -> dict[str, Any] | None:
        """Know a folder by JPEGImages/ and SegmentationClass/; see Reader.recognise."""
        names = cls.Options()
        try:
            found = [at for at in (folder, *_folders(folder)) if _has_parts(at, names)]
            roots = found[:1] if found[:1] == [folder] else found
            if not roots:
                return None
            maps = [at / names.labelmap for at in (folder, *roots)]
            masks = _some_files([root / names.masks for root in roots])
            pictures = _some_files([root / names.images for root in roots])
            classes = _named_classes(maps) or _numbered_classes(masks)
            return {"classes": classes, "bands": _bands(pictures), "options": {}}
        except OSError:
            return None

    def meaning(self) -> dict[str, Any]:
        maps = {
            folder.as_posix(): sorted(colours.items()) if colours else None
            for folder, colours in self.labelmaps.items()
        }
        return {**super().meaning(), "labelmaps": maps}

    @cached_property
    def _standard(self) -> dict[Colour, int]:
        palette = standard_palette(len(self.data.classes))
        return {VOID_COLOUR: self.data.ignore_index} | {c: i for i, c in enumerate(palette)}

    def _labelmap_of(self, sample: Sample) -> dict[Colour, int] | None:
        folder = sample.image.relative_to(self.root).parts[0]
        return self.labelmaps[Path(folder) if Path(folder) in self.labelmaps else Path()]

    def _labelmap(self, folder: Path) -> dict[Colour, int] | None:
        """Return the class id of each colour, by the root's labelmap.txt or the one above it.

        A colour whose name is no class of the study keeps UNKNOWN, so that its use is an error.
        """
        places = (self.root / folder / self.options.labelmap, self.root / self.options.labelmap)
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            return None
        named = dict(_labelmap_lines(path))
        for name in self.data.classes:
            if name not in named:
                raise DataError(f"{path}: no class is called '{name}'. {closest(name, named)}")
        ids = {name: number for number, name in enumerate(self.data.classes)}
        colours = {colour: ids.get(name, UNKNOWN) for name, colour in named.items()}
        return {VOID_COLOUR: self.data.ignore_index, **colours}

    def _from_colours(
        self, pixels: NDArray[np.integer], colours: dict[Colour, int], path: Path
    ) -> NDArray[np.uint8]:
        red, green, blue = (pixels[..., channel].astype(np.int32) for channel in range(3))
        codes = red << 16 | green << 8 | blue
        numbers = _table(frozenset(colours.items()))[codes]
        strange = codes[numbers == 0]
        if strange.size:
            values, counts = np.unique(strange, return_counts=True)
            raise _unknown(path, "colour", [_colour_text(code) for code in values], counts)
        return (numbers - 1).astype(np.uint8)

    def _from_palette(
        self,
        pixels: NDArray[np.integer],
        palette: NDArray[np.uint8],
        colours: dict[Colour, int],
        path: Path,
    ) -> NDArray[np.uint8]:
        table = [colours.get((int(r), int(g), int(b)), UNKNOWN) for r, g, b in palette]
        texts = [str(tuple(colour)) for colour in palette.tolist()]
        return _look_up(pixels, np.array(table), texts, "colour", path)

    def _from_ids(self, pixels: NDArray[np.integer], path: Path) -> NDArray[np.uint8]:
        outside = pixels[(pixels > VOID_ID) | (pixels < 0)]
        if outside.size:
            values, counts = np.unique(outside, return_counts=True)
            raise _unknown(path, "id", map(str, values), counts)
        table = np.full(256, UNKNOWN)
        table[: len(self.data.classes)] = np.arange(len(self.data.classes))
        table[[VOID_ID, self.data.ignore_index]] = self.data.ignore_index
        return _look_up(pixels, table, list(map(str, range(256))), "id", path)


def _folders(folder: Path) -> list[Path]:
    return sorted(at for at in folder.iterdir() if at.is_dir()) if folder.is_dir() else []


def _has_parts(folder: Path, names: Format.Options) -> bool:
    return all((folder / part).is_dir() for part in (names.images, names.masks))


def _some_files(folders: Sequence[Path]) -> list[Path]:
    """Return a few pictures of each folder, so that a look at them is quick."""
    each = max(1, LOOKED_AT // max(1, len(folders)))
    found = ((p for p in at.rglob("*") if p.suffix.lower() in images.ENDINGS) for at in folders)
    return [path for paths in found for path in islice(paths, each)]


def _named_classes(places: Iterable[Path]) -> list[str]:
    """Return the names of the first labelmap.txt there is, the background first."""
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return []
    try:
        named = [name for name, _ in _labelmap_lines(path)]
    except (DataError, UnicodeDecodeError):
        return []
    return sorted(dict.fromkeys(named), key=lambda name: name.casefold() != "background")


def _numbered_classes(masks: Sequence[Path]) -> list[str]:
    """Return names for the ids that masks hold: background, class_1 and so on."""
    most = 1
    for path in masks:
        try:
            pixels, _ = images.read_mask(path, QUICK_PIXELS)
        except DataError:
            continue
        if pixels.ndim == 3:
            pixels = _standard_ids(pixels)
        known = pixels[(pixels >= 0) & (pixels < VOID_ID)]
        most = max(most, int(known.max(initial=0)))
    return ["background", *(f"class_{number}" for number in range(1, most + 1))]


def _standard_ids(pixels: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return the ids of VOC's own colours, (H, W, 3) to (H, W); 0 for any other."""
    palette = frozenset((colour, at) for at, colour in enumerate(standard_palette(VOID_ID)))
    red, green, blue = (pixels[..., channel].astype(np.int32) for channel in range(3))
    found = _table(palette)[red << 16 | green << 8 | blue].astype(np.int64)
    return np.asarray(np.maximum(found - 1, 0))


def _bands(pictures: Sequence[Path]) -> int:
    """Return 1 where all of a few pictures are grey, else 3."""
    modes = set()
    for path in pictures:
        try:
            with images.opened(path, QUICK_PIXELS) as picture:
                modes.add(picture.mode)
        except DataError:
            continue
    return 1 if modes and modes <= {"1", "L", "LA", "I", "I;16"} else 3


def _look_up(
    pixels: NDArray[np.integer],
    table: NDArray[np.integer],
    texts: Sequence[str],
    what: str,
    path: Path,
) -> NDArray[np.uint8]:
    """Return table[pixels]; an UNKNOWN that occurs is an error which names it by its text."""
    counts = np.bincount(pixels.ravel(), minlength=256)
    strange = np.flatnonzero((counts > 0) & (table == UNKNOWN))
    if strange.size:
        raise _unknown(path, what, [texts[number] for number in strange.tolist()], counts[strange])
    return table.astype(np.uint8)[pixels]


@lru_cache(maxsize=8)
def _table(colours: frozenset[tuple[Colour, int]]) -> NDArray[np.uint16]:
    """Return class id + 1 by 24-bit colour, 0 for a colour of no class (32 MB, hardly touched)."""
    table = np.zeros(1 << 24, dtype=np.uint16)
    for (red, green, blue), number in colours:
        table[red << 16 | green << 8 | blue] = number + 1
    return table


def _unknown(
    path: Path, what: str, values: Iterable[str], counts: NDArray[np.integer]
) -> DataError:
    found = sorted(zip(counts.tolist(), values, strict=True), reverse=True)
    text = ", ".join(f"{value} on {count} pixels" for count, value in found[:3])
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return DataError(f"{path}: no class has the {what} {text}{more}")


def _colour_text(code: int) -> str:
    return str((int(code) >> 16, (int(code) >> 8) & 255, int(code) & 255))


def _labelmap_lines(path: Path) -> Iterable[tuple[str, Colour]]:
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            name, channels = line.split(":")[:2]
            red, green, blue = (int(channel) for channel in channels.split(","))
        except ValueError as error:
            raise DataError(f"{path}:{number}: '{line}' is not name:red,green,blue") from error
        yield name.strip(), (red, green, blue)
