"""A folder of images and a folder of masks, matched by file name without ending.

The folder given holds images/ and masks/ (or other names that mean the same, see IMAGES and MASKS),
or holds train/, val/ and test/ with the two in each. Images are PNG, JPEG, TIFF, BMP or WebP of any
number of bands, of 8 or 16 bits or floating point; masks hold a number for each class, or a colour.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator

from raysearch.config import DataConfig
from raysearch.data import images, mask_values, rasters
from raysearch.data.formats import Reader
from raysearch.data.lists import read_lists
from raysearch.data.samples import SPLITS, Sample, damaged
from raysearch.errors import ConfigError, DataError, RaysearchError, closest

IMAGES = ("images", "imgs", "image", "img", "jpegimages", "pictures", "photos", "tiles")
MASKS = (
    *("masks", "labels", "mask", "label", "segmentationclass", "annotations"),
    *("segmentations", "targets", "gt"),
)
SPLIT_FOLDERS = {split: split for split in SPLITS} | {"valid": "val", "validation": "val"}
PICTURE_ROLES = {
    *("gray", "red", "green", "blue", "alpha", "palette"),
    *("cyan", "magenta", "yellow", "black", "Y", "Cb", "Cr"),
}
TIFF = (".tif", ".tiff")
# What images without a declared value usually mean no data by.
NO_DATA = (-9999, -32768, -99999)
GUESS_VALUES = 100_000_000
Files = dict[str, Path]


class Layout(NamedTuple):
    """A folder with images/ and masks/, and the split that its own name says."""

    images: Path
    masks: Path
    split: str | None
    prefix: str


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, int | float) else value


class Format(Reader):
    """Images and masks of one name. Samples are named by split folder and file."""

    class Options(Reader.Options):
        """What the folders are called, and what pixels mean.

        images, masks: the two folders' names; found by themselves where they have a usual name.
        lists: the folder of train.txt, val.txt and test.txt with names, with or without ending.
        bands: which of an image's bands to take, counted from 1; data.bands is how many those are.
        nodata: values that mean that a pixel's band is missing; images become float32.
        mask_values: the class of each number in a mask, null for pixels that do not count. By
            default numbers are class ids; two classes may also be 0 and 255, where no mask has a 1.
        colours: the colour of each class in coloured masks; null is a colour that does not count.
        group: a regular expression; names whose first groups are equal never stand in two splits.
        """

        images: str | None = None
        masks: str | None = None
        lists: str | None = None
        bands: tuple[int, ...] | None = None
        nodata: Annotated[tuple[float, ...], BeforeValidator(_as_list)] = ()
        mask_values: dict[int, str | None] | None = None
        colours: dict[str | None, tuple[int, int, int]] | None = None
        group: str | None = None

    def __init__(self, root: Path, data: DataConfig) -> None:
        super().__init__(root, data)
        self._check_bands()
        self.group = self._group_pattern()
        self.colours = self._colours()
        self.values = self._mask_values()

    def _check_bands(self) -> None:
        bands = self.options.bands
        if bands is None:
            return
        if len(bands) != self.data.bands:
            raise ConfigError(
                f"data.bands: {self.data.bands}, but data.options.bands names {len(bands)}; "
                f"set data.bands: {len(bands)}"
            )
        if min(bands) < 1:
            raise ConfigError(f"data.options.bands: {min(bands)}: bands count from 1")

    def _group_pattern(self) -> re.Pattern[str] | None:
        if self.options.group is None:
            return None
        try:
            pattern = re.compile(self.options.group)
        except re.error as error:
            raise ConfigError(f"data.options.group: {self.options.group!r}: {error}") from error
        if not pattern.groups:
            raise ConfigError(
                f"data.options.group: {self.options.group!r} has no group; put the part that "
                "names it in parentheses, such as (.*)_[0-9]+"
            )
        return pattern

    def _id(self, name: str | None, option: str) -> int:
        """Return a class's id, or the ignore index for null."""
        if name is None:
            return self.data.ignore_index
        if name not in self.data.classes:
            raise ConfigError(
                f"data.options.{option}: no class is called '{name}'. "
                + closest(name, self.data.classes)
            )
        return self.data.classes.index(name)

    def _colours(self) -> dict[int, int] | None:
        """Return the class id of each colour as one number."""
        if self.options.colours is None:
            return None
        if self.options.mask_values is not None:
            raise ConfigError("data.options: masks have mask_values or colours; leave out one")
        for name, colour in self.options.colours.items():
            if not all(0 <= channel <= 255 for channel in colour):
                raise ConfigError(f"data.options.colours.{name}: {colour} is not within 0 to 255")
        named = self.options.colours.items()
        ids = {mask_values.code(colour): self._id(name, "colours") for name, colour in named}
        if len(ids) < len(named):
            raise ConfigError("data.options.colours: two classes have one colour; change one")
        return ids

    def _mask_values(self) -> dict[float, int] | None:
        if self.options.mask_values is None:
            return None
        named = self.options.mask_values.items()
        return {value: self._id(name, "mask_values") for value, name in named}

    @cached_property
    def layouts(self) -> list[Layout]:
        """The folder itself, or its train/, val/ and test/.

        Raises:
            DataError: none of them holds the two folders.
        """
        return _layouts(self.root, self.options.images, self.options.masks)

    def samples(self) -> list[Sample]:
        found: list[Sample] = []
        faults: list[str] = []
        for layout in self.layouts:
            pictures, masks = _files(layout.images), _files(layout.masks)
            splits = self._splits(layout, pictures)
            for stem, split in splits.items():
                lacking = _lacking(layout, stem, pictures, masks)
                if lacking:
                    faults.append(lacking)
                    continue
                name = layout.prefix + stem
                group = self._group(name, pictures[stem])
                found.append(Sample(name, pictures[stem], masks[stem], group, split))
        if faults:
            raise damaged(faults, len(found) + len(faults))
        return sorted(found, key=lambda sample: sample.name)

    def _splits(self, layout: Layout, pictures: Files) -> dict[str, str | None]:
        """Return the split of each name: by lists, by its folder, or None."""
        if self.options.lists is None:
            if layout.split is None and (by_folder := _split_by_folder(pictures)):
                return by_folder
            return dict.fromkeys(pictures, layout.split)
        if layout.split is not None:
            raise ConfigError(
                f"data.options.lists: {self.root} is split by its folders already; leave lists out"
            )
        lists = read_lists(self.root, [Path()], self.options.lists)
        if lists is None:
            at = self.root / self.options.lists
            raise DataError(f"{at}: no train.txt in it; correct data.options.lists")
        return {_without_ending(name): split for name, split in lists[Path()].items()}

    def _group(self, name: str, path: Path) -> str:
        if self.group is None:
            return name
        match = self.group.search(name)
        if match is None or match[1] is None:
            raise DataError(
                f"{path}: '{name}' does not match data.options.group ({self.options.group}); "
                "correct the expression"
            )
        return match[1]

    @cached_property
    def _first(self) -> tuple[Path, rasters.Header] | None:
        """The first image whose header can be read: all others must have its type."""
        for sample in self.samples():
            try:
                return sample.image, rasters.header(sample.image)
            except DataError:  # Told when this very image is read.
                continue
        return None

    @cached_property
    def dtype(self) -> np.dtype[Any]:  # type: ignore[override]
        """The first image's type; float32 where values are missing."""
        if self._first is None:
            return np.dtype(np.uint8)
        header = self._first[1]
        missing = self.options.nodata or header.no_data is not None
        return np.dtype(np.float32) if missing else header.dtype

    def shape(self, sample: Sample) -> tuple[int, int]:
        header = rasters.header(sample.image, self.data.max_pixels)
        if _as_picture(header, self.data, self.options):
            return images.shape(sample.image, self.data.max_pixels)
        return header.shape

    def image(self, sample: Sample) -> NDArray[Any]:
        path = sample.image
        header = rasters.header(path, self.data.max_pixels)
        self._check_type(path, header)
        pixels = self.picture(path, self.data)
        if pixels.dtype.kind == "f" and self.dtype.kind != "f":
            raise DataError(
                f"{path}: {header.no_data:g} means no data in this image alone; "
                f"set data.options.nodata: [{header.no_data:g}]"
            )
        return pixels.astype(self.dtype, copy=False)

    @classmethod
    def picture(cls, path: Path, data: DataConfig) -> NDArray[Any]:
        header, options = rasters.header(path, data.max_pixels), cls._options(data.options)
        if _as_picture(header, data, options):
            return images.read(path, data.bands, data.max_pixels)
        _check_count(path, header, data, options)
        return rasters.read(path, options.bands, options.nodata, data.max_pixels)

    @classmethod
    def rows(cls, path: Path, data: DataConfig) -> rasters.Rows | None:
        header, options = rasters.header(path, data.max_pixels), cls._options(data.options)
        if _as_picture(header, data, options):
            return super().rows(path, data)
        _check_count(path, header, data, options)
        return rasters.by_rows(path, options.bands, options.nodata, data.max_pixels)

    def _check_type(self, path: Path, header: rasters.Header) -> None:
        if self._first is None or header.dtype == self._first[1].dtype:
            return
        other, first = self._first
        raise DataError(
            f"{path}: {header.dtype} pixels, but {other.name} has {first.dtype}; "
            "save all images in one type"
        )

    def target(self, sample: Sample) -> NDArray[np.uint8]:
        if not isinstance(sample.target, Path):
            raise TypeError(f"{sample.name} has no mask file")
        pixels, no_data = mask_values.read_mask(sample.target, self.data.max_pixels)
        if self.colours is not None:
            numbers, text = mask_values.codes(pixels), mask_values.colour_text
            return mask_values.look_up(numbers, self.colours, sample.target, "colours", text)
        if mask_values.is_coloured(pixels):
            raise DataError(
                f"{sample.target}: a coloured mask; name the classes' colours with "
                "data.options.colours, such as {background: [0, 0, 0]}"
            )
        plain = pixels if pixels.ndim == 2 else pixels[..., 0]
        if plain.dtype.kind == "f":
            plain = np.where(np.isnan(plain), self.data.ignore_index, plain)
        ids = self._ids | {v: i for v, i in self._uncounted(no_data).items() if v not in self._ids}
        return mask_values.look_up(plain, ids, sample.target, "mask_values")

    def _uncounted(self, no_data: float | None) -> dict[float, int]:
        """Numbers that do not count unless they are a class: the mask's own no data, and 255."""
        values = {self.data.ignore_index, 255} | ({no_data} if no_data is not None else set())
        return dict.fromkeys(values, self.data.ignore_index)

    @cached_property
    def _ids(self) -> dict[float, int]:
        """The class id of each number in a mask, which for two classes the masks themselves tell.

        Where none of them has a 1, and some have a 255, that is the second class.
        """
        if self.values is not None:
            return dict(self.values)
        if self._guessed and mask_values.holds_white(
            [sample.target for sample in self.samples() if isinstance(sample.target, Path)],
            self.data.max_pixels,
        ):
            return {0: 0, 255: 1}
        return {number: number for number in range(len(self.data.classes))}

    @property
    def _guessed(self) -> bool:
        """Whether the masks tell what their numbers mean, as nothing else does."""
        return self.values is None and self.colours is None and len(self.data.classes) == 2

    def settled(self) -> dict[str, Any]:
        if not self._guessed:
            return super().settled()
        meant = {int(value): self.data.classes[number] for value, number in self._ids.items()}
        return {**super().settled(), "mask_values": meant}

    @classmethod
    def recognise(cls, folder: Path) -> dict[str, Any] | None:
        try:
            return _recognise(folder)
        except (RaysearchError, OSError, ValueError):
            return None


def _layouts(root: Path, images_name: str | None, masks_name: str | None) -> list[Layout]:
    """Return the folders of images and masks.

    Raises:
        DataError: there are none, or several that could be meant.
    """
    below = {f.name.lower(): f for f in sorted(root.iterdir()) if f.is_dir()}
    found: list[Layout] = []
    for folder in (root, *(below[name] for name in SPLIT_FOLDERS if name in below)):
        pictures = _named(folder, images_name, IMAGES, "images")
        masks = _named(folder, masks_name, MASKS, "masks")
        if pictures is None or masks is None:
            continue
        if folder == root:
            return [Layout(pictures, masks, None, "")]
        split = SPLIT_FOLDERS[folder.name.lower()]
        found.append(Layout(pictures, masks, split, f"{folder.name}/"))
    if not found:
        raise DataError(
            f"{root}: no folder of images beside a folder of masks, here or in train/, val/ and "
            f"test/; name them with data.options.images ({images_name or 'images'}) and "
            f"data.options.masks ({masks_name or 'masks'})"
        )
    if "train" not in {layout.split for layout in found}:
        raise DataError(f"{root}: no train/ with images and masks, but {found[0].prefix} has them")
    return found


def _named(folder: Path, name: str | None, usual: Sequence[str], option: str) -> Path | None:
    """Return the folder of that name, or the one that has a usual name."""
    if name is not None:
        return folder / name if (folder / name).is_dir() else None
    found = [f for f in sorted(folder.iterdir()) if f.is_dir() and f.name.lower() in usual]
    if len(found) > 1:
        raise DataError(
            f"{folder}: {' and '.join(f.name for f in found)} may both be meant; "
            f"choose with data.options.{option}"
        )
    return found[0] if found else None


def _files(place: Path) -> Files:
    return images.by_stem(place, hidden=False)


def _without_ending(name: str) -> str:
    path = Path(name)
    known = path.suffix.lower() in images.ENDINGS
    return path.with_suffix("").as_posix() if known else name


def _split_by_folder(pictures: Files) -> dict[str, str | None] | None:
    """Return each name's split where images/ itself is divided into train/, val/ and test/."""
    splits = {stem: SPLIT_FOLDERS.get(stem.partition("/")[0].lower()) for stem in pictures}
    return splits if "train" in splits.values() and None not in splits.values() else None


def _lacking(layout: Layout, stem: str, pictures: Files, masks: Files) -> str | None:
    """Return what is missing of a name, with an example of what there is."""
    for folder, files in ((layout.images, pictures), (layout.masks, masks)):
        if stem not in files:
            others = f"; the files there are called such as {next(iter(files))}" if files else ""
            return f"{folder / stem}: no such file, with any known ending{others}"
    return None


def _as_picture(header: rasters.Header, data: DataConfig, options: Any) -> bool:
    """Whether an image is read as a usual picture: it may be grey, of a palette, or have alpha."""
    plain = options.bands is None and not options.nodata
    return plain and data.bands in images.MODES and _is_picture(header)


def _check_count(path: Path, header: rasters.Header, data: DataConfig, options: Any) -> None:
    if options.bands is not None or header.count == data.bands:
        return
    wanted = data.bands
    raise DataError(
        f"{path}: {header.count} bands, but data.bands is {wanted}; set data.bands: "
        f"{header.count}, or pick {wanted} of them with data.options.bands, such as "
        f"{[min(band, header.count) for band in range(1, wanted + 1)]}"
    )


def _is_picture(header: rasters.Header) -> bool:
    usual = header.dtype == np.uint8 and set(header.colours) <= PICTURE_ROLES
    return usual and header.no_data is None


def _recognise(folder: Path) -> dict[str, Any] | None:
    layouts = _layouts(folder, None, None)
    if any(layout.masks.name.lower() == "segmentationclass" for layout in layouts):
        return None
    pairs = [(_files(layout.images), _files(layout.masks)) for layout in layouts]
    if not any(pictures.keys() & masks.keys() for pictures, masks in pairs):
        return None
    bands, options = _bands([path for pictures, _ in pairs for path in pictures.values()])
    classes, meaning = mask_values.guess([path for _, masks in pairs for path in masks.values()])
    lists = None if layouts[0].split else next(_list_folders(folder), None)
    places = {"lists": lists} if lists else {}
    return {"classes": classes, "bands": bands, "options": {**places, **options, **meaning}}


def _list_folders(folder: Path) -> Iterator[str]:
    places = [folder, *sorted(f for f in folder.iterdir() if f.is_dir())]
    for place in places:
        if (place / f"{SPLITS[0]}.txt").is_file():
            yield place.relative_to(folder).as_posix()


def _bands(paths: Sequence[Path]) -> tuple[int, dict[str, Any]]:
    """Return how many bands the images have, and the numbers that seem to mean no data in them."""
    header = rasters.header(paths[0])
    if _is_picture(header) and (header.count < 4 or paths[0].suffix.lower() not in TIFF):
        looked_at = mask_values.spread(paths)
        grey = all(rasters.header(path).colours == ("gray",) for path in looked_at)
        return (1 if grey else 3), {}
    size = header.count * header.shape[0] * header.shape[1]
    looked_at = mask_values.spread(paths, most=max(1, min(64, GUESS_VALUES // size)))
    lowest = {float(value) for path in looked_at for value in _lowest(path)}
    missing = [value for value in NO_DATA if value in lowest]
    return header.count, {"nodata": missing} if missing else {}


def _lowest(path: Path) -> NDArray[Any]:
    """Return the lowest value of each band."""
    lowest: NDArray[Any] = rasters.read(path, declared=False).min(axis=(0, 1))
    return lowest
