"""MARIDA, the Marine Debris Archive (https://doi.org/10.1371/journal.pone.0262247).

    patches/S2_<date>_<tile>/S2_<date>_<tile>_<n>.tif         11 bands of Sentinel-2, float32
                             S2_<date>_<tile>_<n>_cl.tif      class ids, 0 where nothing is said
                             S2_<date>_<tile>_<n>_conf.tif    1 high, 2 moderate, 3 low confidence
    splits/train_X.txt, val_X.txt, test_X.txt                 names without S2_, one a line

Without lists every patch is taken. Patches of a scene (one date and tile) are one group. Pixels
that are NaN, the file's own no-data value or 0 in every band are no data.
"""

from collections.abc import Iterable
from functools import cached_property, partial
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysearch.config import DataConfig
from raysearch.data import rasters
from raysearch.data.formats import Reader
from raysearch.data.lists import read_lists
from raysearch.data.samples import Sample, damaged
from raysearch.errors import ConfigError, DataError, closest

CLASSES = {
    1: "Marine Debris",
    2: "Dense Sargassum",
    3: "Sparse Sargassum",
    4: "Natural Organic Material",
    5: "Ship",
    6: "Clouds",
    7: "Marine Water",
    8: "Sediment-Laden Water",
    9: "Foam",
    10: "Turbid Water",
    11: "Shallow Water",
    12: "Waves",
    13: "Cloud Shadows",
    14: "Wakes",
    15: "Mixed Water",
}
WAVELENGTHS = (440, 490, 560, 665, 705, 740, 783, 842, 865, 1600, 2200)
BANDS = len(WAVELENGTHS)
LEVELS = 3
UNKNOWN = -1

Id = Annotated[int, Field(ge=1, le=len(CLASSES))]
Share = Annotated[float, Field(ge=0, le=1)]


class Format(Reader):
    """Patches named as in the lists, such as 1-12-19_48MYU_0; debris against everything else."""

    dtype = np.dtype(np.float32)

    class Options(Reader.Options):
        """Which bands, and what counts as which class. Ids of classes are MARIDA's, 1 to 15.

        bands: those that come out, counted from 1 (440 nm); by default all 11.
        debris: ids that are the study's second class; not_debris: those that are its first, by
            default all others. What is in neither is ignored.
        classes: for studies of other classes, the study's class of each id instead of both.
        confidence_weights: of pixels of high, moderate and low confidence.
        """

        bands: list[Annotated[int, Field(ge=1, le=BANDS)]] = Field(
            default=[*range(1, BANDS + 1)], min_length=1
        )
        debris: list[Id] = Field(default=[1], min_length=1)
        not_debris: list[Id] | None = None
        classes: dict[Id, str] | None = None
        confidence_weights: list[Share] = Field(
            default=[1.0, 0.67, 0.33], min_length=LEVELS, max_length=LEVELS
        )

    def __init__(self, root: Path, data: DataConfig) -> None:
        super().__init__(root, data)
        if data.bands != len(self.options.bands):
            raise ConfigError(
                f"data.bands: {data.bands}, but {len(self.options.bands)} come out; "
                f"set data.bands: {len(self.options.bands)}, or pick with data.options.bands"
            )
        self.table = self._table()
        self.weighted = any(root.glob("patches/*/*_conf.tif"))

    def samples(self) -> list[Sample]:
        patches = self.root / "patches"
        if not patches.is_dir():
            raise DataError(f"{patches}: no such folder; MARIDA's scenes lie in it")
        found: list[Sample] = []
        missing: list[str] = []
        for name, split in self._named().items():
            scene = name.rpartition("_")[0]
            image = patches / f"S2_{scene}" / f"S2_{name}.tif"
            if lacking := self._lacking(image):
                missing.append(f"{lacking}: no such file")
                continue
            facts = {"tile": scene.rpartition("_")[2]}
            found.append(Sample(name, image, beside(image, "cl"), scene, split, facts))
        if missing:
            raise damaged(missing, len(found) + len(missing), "patches")
        return sorted(found, key=lambda sample: sample.name)

    def _named(self) -> dict[str, str] | dict[str, None]:
        """Return the split of each patch by name: as the lists say, or of all that lie there."""
        lists = read_lists(self.root, [Path()], "splits", "_X.txt")
        if lists:
            return lists[Path()]
        images = (p.stem for p in self.root.glob("patches/S2_*/S2_*.tif"))
        names = [n.removeprefix("S2_") for n in images if not n.endswith(("_cl", "_conf"))]
        return dict.fromkeys(names)

    def _lacking(self, image: Path) -> Path | None:
        needed = [image, beside(image, "cl"), *([beside(image, "conf")] if self.weighted else [])]
        return next((path for path in needed if not path.is_file()), None)

    def shape(self, sample: Sample) -> tuple[int, int]:
        return rasters.shape(sample.image, self.data.max_pixels)

    def image(self, sample: Sample) -> NDArray[np.float32]:
        return self.picture(sample.image, self.data)

    @classmethod
    def picture(
        cls, path: Path, data: DataConfig, rows: slice | None = None
    ) -> NDArray[np.float32]:
        count = rasters.count(path)
        if count != BANDS:
            raise DataError(f"{path}: {count} bands, but a MARIDA patch has {BANDS}")
        whole = rasters.read(path, max_pixels=data.max_pixels, rows=rows)
        whole = whole.astype(np.float32, copy=False)
        whole[(whole == 0).all(axis=2)] = np.nan
        chosen = [band - 1 for band in cls._options(data.options).bands]
        return np.ascontiguousarray(whole[..., chosen])

    @classmethod
    def rows(cls, path: Path, data: DataConfig) -> rasters.Rows | None:
        if not rasters.is_tiff(path):
            return None
        shape = (*rasters.shape(path, data.max_pixels), data.bands)
        return rasters.Rows(shape, cls.dtype, partial(cls.picture, path, data))

    def target(self, sample: Sample) -> NDArray[np.uint8]:
        ids = self._labels(sample, "cl")
        return self._look_up(ids, self.table, beside(sample.image, "cl"), "class")

    def weight(self, sample: Sample) -> NDArray[np.uint8]:
        """Return 255 for a weight of 1; what no one has labelled has none."""
        weights = np.full(256, UNKNOWN)
        weights[0] = 0
        weights[1 : LEVELS + 1] = np.rint(255 * np.array(self.options.confidence_weights))
        levels = self._labels(sample, "conf")
        return self._look_up(levels, weights, beside(sample.image, "conf"), "confidence")

    def meaning(self) -> dict[str, Any]:
        return {**super().meaning(), "confidence": self._confidence}

    @cached_property
    def _confidence(self) -> str:
        """Digest of the confidence rasters, which decide the weights beside images and targets."""
        digest = blake2b(digest_size=16)
        for sample in self.samples() if self.weighted else ():
            digest.update(beside(sample.image, "conf").read_bytes())
        return digest.hexdigest()

    def _labels(self, sample: Sample, kind: str) -> NDArray[Any]:
        """Return a raster of labels, (H, W), of any number type; no data is 0."""
        path = beside(sample.image, kind)
        labels = rasters.read(path, max_pixels=self.data.max_pixels)
        if labels.shape[2] != 1:
            raise DataError(f"{path}: {labels.shape[2]} bands; labels have one")
        shape = self.shape(sample)
        if labels.shape[:2] != shape:
            sizes = [f"{width}x{height}" for height, width in (labels.shape[:2], shape)]
            raise DataError(f"{path}: {sizes[0]} pixels, but its image has {sizes[1]}")
        return np.nan_to_num(labels[..., 0])

    def _look_up(
        self, labels: NDArray[Any], table: NDArray[np.integer], path: Path, what: str
    ) -> NDArray[np.uint8]:
        """Return table[labels]; a label that the table does not have is an error."""
        whole = np.clip(labels, 0, len(table) - 1).astype(np.uint8)
        strange = labels[(whole != labels) | (table[whole] == UNKNOWN)]
        if strange.size:
            pixels, known = np.count_nonzero(strange == strange[0]), int((table != UNKNOWN).sum())
            raise DataError(
                f"{path}: {what} {strange[0]:g} on {pixels} pixels; MARIDA has 0 to {known - 1}"
            )
        return table.astype(np.uint8)[whole]

    def _table(self) -> NDArray[np.integer]:
        """Return the study's class of each id, the ignore index for ids that do not count."""
        table = np.full(256, UNKNOWN)
        table[: len(CLASSES) + 1] = self.data.ignore_index
        for number, class_id in self._chosen():
            table[number] = class_id
        return table

    def _chosen(self) -> Iterable[tuple[int, int]]:
        options, names = self.options, self.data.classes
        if options.classes is not None:
            for name in options.classes.values():
                if name not in names:
                    raise ConfigError(
                        f"data.options.classes: no class is called '{name}'. {closest(name, names)}"
                    )
            return [(number, names.index(name)) for number, name in options.classes.items()]
        if len(names) != 2:
            raise ConfigError(
                f"data.classes: {len(names)} classes; two (other, debris), or say which id is "
                "which in data.options.classes, such as {1: debris, 7: water}"
            )
        debris = set(options.debris)
        others = set(CLASSES) - debris if options.not_debris is None else set(options.not_debris)
        if both := sorted(debris & others):
            raise ConfigError(f"data.options: {both} are in debris and in not_debris; keep one")
        return [*((number, 1) for number in debris), *((number, 0) for number in others)]

    @classmethod
    def recognise(cls, folder: Path) -> dict[str, Any] | None:
        try:
            found = next(folder.glob("patches/S2_*/S2_*_cl.tif"), None)
        except OSError:
            return None
        return {"classes": ["other", "debris"], "bands": BANDS, "options": {}} if found else None


def beside(image: Path, kind: str) -> Path:
    """Return the raster that belongs to a patch: cl holds its classes, conf how sure they are."""
    return image.with_name(f"{image.stem}_{kind}.tif")
