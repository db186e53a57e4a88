"""Unity Perception data sets (https://github.com/Unity-Technologies/com.unity.perception).

SOLO, since Perception 0.10: `sequence.N/stepM.frame_data.json` names a frame's pictures and masks,
and lists the labels that are seen in each mask with their colours. Before it: `captures_*.json` in
a folder `Dataset<GUID>` names pictures and masks beside that folder, and their colours stand in its
`annotation_definitions.json`. The folder given holds one such set, or several in folders of their
own. Everything is taken from the JSON, nothing from the names of files. What has no label is
rendered black, and is class 0.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from raysearch.config import DataConfig
from raysearch.data import images
from raysearch.data.formats import Reader
from raysearch.data.samples import Sample, damaged
from raysearch.errors import ConfigError, DataError, closest

Colour = tuple[int, int, int]
Labels = dict[Colour, str]

BLACK: Colour = (0, 0, 0)
SEMANTIC = "SemanticSegmentationAnnotation"
GLANCE = 1000
MALFORMED = (KeyError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True)
class Capture:
    """One camera's picture of one frame, with the label of each colour in its mask."""

    image: Path
    mask: Path
    sequence: str
    camera: str
    labels: Labels


@dataclass
class Contents:
    """What the JSON of a folder tells: labelled captures, how many others there are, and faults."""

    captures: list[Capture] = field(default_factory=list)
    unlabelled: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return len(self.captures) + self.unlabelled + len(self.faults)

    @property
    def labels(self) -> list[str]:
        """Every label, in the order in which the JSON names them."""
        named = (label for capture in self.captures for label in capture.labels.values())
        return list(dict.fromkeys(named))


class Format(Reader):
    """Captures are named by folder and file; those of one sequence are one group."""

    class Options(Reader.Options):
        """Which mask to take, and what to do with labels that are no class of the study.

        annotation: id of the semantic segmentation, where captures have several.
        other_labels: "error", "background" (class 0) or "ignore" (the ignore index).
        """

        annotation: str | None = None
        other_labels: Literal["error", "background", "ignore"] = "error"

    def __init__(self, root: Path, data: DataConfig) -> None:
        super().__init__(root, data)
        if data.bands not in images.MODES:
            raise ConfigError(f"data.bands: {data.bands}: a unity image has 3 bands, or 1 (grey)")

    @cached_property
    def _contents(self) -> Contents:
        return _read(self.root, self.options.annotation)

    def samples(self) -> list[Sample]:
        contents = self._contents
        if contents.faults:
            raise damaged(contents.faults, contents.total, "captures")
        if not contents.captures:
            raise DataError(
                f"{self.root}: none of the {contents.total} captures has a semantic segmentation"
                f"{self._asked}; add a SemanticSegmentationLabeler to the camera and capture again"
            )
        self._check_labels(contents.labels)
        found = [
            Sample(
                name=capture.image.relative_to(self.root).with_suffix("").as_posix(),
                image=capture.image,
                target=capture.mask,
                group=capture.sequence,
                facts={"camera": capture.camera},
            )
            for capture in contents.captures
        ]
        return sorted(found, key=lambda sample: sample.name)

    @property
    def _asked(self) -> str:
        return f" called '{self.options.annotation}'" if self.options.annotation else ""

    def _check_labels(self, labels: Sequence[str]) -> None:
        """Every label must be a class, and some class beside the background a label."""
        classes = self.data.classes
        strange = [label for label in labels if label not in classes]
        if strange and self.options.other_labels == "error":
            raise DataError(
                f"{self.root}: no class of the study is called '{strange[0]}'"
                + (f" (nor {', '.join(strange[1:])})" if strange[1:] else "")
                + f". {closest(strange[0], classes)} data.options.other_labels: background, or "
                "ignore, takes such labels as they come"
            )
        if classes[1:] and not any(name in labels for name in classes[1:]):
            raise DataError(
                f"{self.root}: no label is called '{classes[1]}', nor as any other class. "
                f"{closest(classes[1], labels)} Correct data.classes"
            )

    def shape(self, sample: Sample) -> tuple[int, int]:
        return images.shape(sample.image, self.data.max_pixels)

    def image(self, sample: Sample) -> NDArray[np.uint8]:
        return images.read(sample.image, self.data.bands, self.data.max_pixels)

    def target(self, sample: Sample) -> NDArray[np.uint8]:
        capture = self._by_image[sample.image]
        ids = {BLACK: 0} | {c: self._id(label) for c, label in capture.labels.items()}
        pixels = images.read(capture.mask, 3, self.data.max_pixels).astype(np.int32)
        codes = pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]
        known = np.array(sorted(red << 16 | green << 8 | blue for red, green, blue in ids))
        numbers = np.array([ids[_colour(code)] for code in known.tolist()], dtype=np.uint8)
        places = np.searchsorted(known, codes).clip(max=len(known) - 1)
        strange = codes[known[places] != codes]
        if strange.size:
            raise _unlisted(capture.mask, strange)
        return numbers[places]

    @cached_property
    def _by_image(self) -> dict[Path, Capture]:
        return {capture.image: capture for capture in self._contents.captures}

    def _id(self, label: str) -> int:
        if label in self.data.classes:
            return self.data.classes.index(label)
        return self.data.ignore_index if self.options.other_labels == "ignore" else 0

    def meaning(self) -> dict[str, Any]:
        """The colours stand in the JSON, which is none of the samples' files."""
        text = [
            [capture.image.relative_to(self.root).as_posix(), sorted(capture.labels.items())]
            for capture in self._contents.captures
        ]
        digest = blake2b(json.dumps(text).encode(), digest_size=16).hexdigest()
        return {**super().meaning(), "labels": digest}

    @classmethod
    def recognise(cls, folder: Path) -> dict[str, Any] | None:
        try:
            if next(chain(_solo_documents(folder), _perception_documents(folder)), None) is None:
                return None
            labels = _read(folder, None, GLANCE).labels
        except (OSError, DataError):
            return None
        named = next((label for label in labels if label.lower() == "background"), "background")
        classes = [named, *(label for label in labels if label != named)] if labels else []
        return {"classes": classes, "bands": 3, "options": {}}


def _read(root: Path, annotation: str | None, limit: int | None = None) -> Contents:
    """Read the JSON of both layouts, of the first `limit` documents of each where that is given.

    Raises:
        DataError: the folder is of neither layout, or an annotation_definitions.json is damaged.
    """
    documents: list[tuple[Path, _Parse]] = [
        *((path, _solo) for path in islice(_solo_documents(root), limit)),
        *((path, _perception) for path in islice(_perception_documents(root), limit)),
    ]
    if not documents:
        raise DataError(
            f"{root}: not a Unity Perception data set; expected sequence.N/step*.frame_data.json "
            "(SOLO) or Dataset*/captures_*.json, in it or in its folders"
        )
    contents, named = Contents(), set[Path]()
    definitions: dict[Path, dict[str, Labels]] = {}
    for path, parse in documents:
        place = path.parent if parse is _perception else path.parent.parent
        if place not in definitions:
            definitions[place] = _definitions(place / "annotation_definitions.json")
        document = _Document(root, path, definitions[place], annotation)
        for found in _captures(document, parse):
            if found is None:
                contents.unlabelled += 1
            elif isinstance(found, str):
                contents.faults.append(found)
            elif fault := _fault(found, named, root):
                contents.faults.append(f"{path}: {fault}")
            else:
                named.add(found.image)
                contents.captures.append(found)
    return contents


def _solo_documents(root: Path) -> Iterator[Path]:
    """Yield every frame's JSON; a sequence without one is named by its folder, to be refused."""
    for pattern in ("sequence.*", "*/sequence.*"):
        for folder in sorted(path for path in root.glob(pattern) if path.is_dir()):
            yield from sorted(folder.glob("step*.frame*.json")) or [folder]


def _perception_documents(root: Path) -> Iterator[Path]:
    for pattern in ("Dataset*/captures_*.json", "*/Dataset*/captures_*.json"):
        yield from sorted(root.glob(pattern))


@dataclass(frozen=True)
class _Document:
    """One JSON file of captures, the colours defined for it, and the annotation asked for."""

    root: Path
    path: Path
    definitions: dict[str, Labels]
    annotation: str | None

    def single(self, entries: Sequence[Any], key: str) -> Any:
        """Return the entry that is asked for by the id under a key; None where there is none.

        Raises:
            ValueError: several, and none is asked for.
        """
        wanted = [e for e in entries if self.annotation in (None, str(e[key]))]
        if len(wanted) > 1:
            raise ValueError(
                f"a capture has the semantic segmentations "
                f"{' and '.join(str(entry[key]) for entry in wanted)}; choose one with "
                "data.options.annotation"
            )
        return wanted[0] if wanted else None


_Parse = Callable[[_Document, Any], Capture | None]


def _captures(document: _Document, parse: _Parse) -> Iterator[Capture | str | None]:
    """Yield captures, None for one without a semantic segmentation, and a text for a fault."""
    try:
        if document.path.is_dir():
            raise DataError(f"{document.path}: no step*.frame_data.json in it")
        captures = list(_load(document.path)["captures"])
    except DataError as error:
        yield str(error)
        return
    except MALFORMED as error:
        yield f"{document.path}: {_malformed(error)}"
        return
    for number, capture in enumerate(captures):
        try:
            yield parse(document, capture)
        except MALFORMED as error:
            yield f"{document.path}: capture {number} is {_malformed(error)}"


def _malformed(error: Exception) -> str:
    lacking = f"{error} is missing" if isinstance(error, KeyError) else str(error)
    return f"not as Perception writes it ({lacking})"


def _fault(capture: Capture, named: set[Path], root: Path) -> str | None:
    outside = [path for path in (capture.image, capture.mask) if not path.is_relative_to(root)]
    if outside:
        return f"names {outside[0]}, which is no file of the data set"
    missing = [path.name for path in (capture.image, capture.mask) if not path.is_file()]
    if missing:
        return f"names {' and '.join(missing)}, but there is no such file"
    if capture.image in named:
        return f"names {capture.image.name}, as another capture does"
    return None


def _solo(document: _Document, capture: Any) -> Capture | None:
    """Read a capture of SOLO. The folder tells its sequence: joined sets repeat JSON's numbers."""
    semantic = [e for e in capture.get("annotations") or [] if e["@type"].endswith(SEMANTIC)]
    entry = document.single(semantic, "id")
    if entry is None:
        return None
    defined = document.definitions.get(str(entry["id"]), {})
    if not defined and "instances" not in entry:
        raise KeyError("instances")
    folder = document.path.parent
    return Capture(
        image=folder / _file(capture),
        mask=folder / _file(entry),
        sequence=folder.relative_to(document.root).as_posix(),
        camera=str(capture["id"]),
        labels=defined | _labels(entry.get("instances") or []),
    )


def _perception(document: _Document, capture: Any) -> Capture | None:
    """Read a capture of the older layout. Its files stand beside the folder of the JSON."""
    key = "annotation_definition"
    entries = capture.get("annotations") or []
    entry = document.single([e for e in entries if str(e[key]) in document.definitions], key)
    if entry is None:
        return None
    folder = document.path.parent
    return Capture(
        image=folder.parent / _file(capture),
        mask=folder.parent / _file(entry),
        sequence=(folder.relative_to(document.root) / str(capture["sequence_id"])).as_posix(),
        camera=str(capture["sensor"]["sensor_id"]),
        labels=document.definitions[str(entry[key])],
    )


def _file(entry: Mapping[str, Any]) -> str:
    if not isinstance(entry.get("filename"), str):
        raise KeyError("filename")
    return str(entry["filename"])


def _definitions(path: Path) -> dict[str, Labels]:
    """Return the colours of each semantic segmentation by its id; none where there is no file.

    Raises:
        DataError: a file that is damaged.
    """
    if not path.is_file():
        return {}
    document = _load(path)
    try:
        entries = document.get("annotationDefinitions", document.get("annotation_definitions"))
        return {
            str(entry["id"]): _labels(entry["spec"])
            for entry in entries or []
            if any(_COLOURED & set(label) for label in entry.get("spec") or [])
        }
    except MALFORMED as error:
        raise DataError(f"{path}: {_malformed(error)}") from error


_COLOURED = {"pixelValue", "pixel_value"}


def _labels(entries: Iterable[Mapping[str, Any]]) -> Labels:
    """Return the label of each colour.

    Colours are [r, g, b, a] or {"r": .., "g": .., "b": .., "a": ..}, of 0 to 255, or of 0 to 1 (as
    Unity's own `Color`): opaque ones tell which, by their alpha.

    Raises:
        ValueError: no colour, or one colour for two labels.
    """
    named: list[tuple[str, list[float]]] = []
    for entry in entries:
        label = entry["labelName"] if "labelName" in entry else entry["label_name"]
        named.append((str(label), _channels(entry.get("pixelValue", entry.get("pixel_value")))))
    scale = 255 if max((value for _, values in named for value in values), default=255) <= 1 else 1
    labels: Labels = {}
    for label, values in named:
        red, green, blue = (round(value * scale) for value in values[:3])
        if labels.setdefault((red, green, blue), label) != label:
            other = labels[red, green, blue]
            raise ValueError(f"{other} and {label} both have the colour {(red, green, blue)}")
    return labels


def _channels(value: Any) -> list[float]:
    channels = [value[key] for key in "rgba"] if isinstance(value, Mapping) else value
    if not isinstance(channels, list) or len(channels) != 4:
        raise ValueError(f"the pixel value {value!r} is no colour of red, green, blue and alpha")
    if not all(0 <= channel <= 255 for channel in channels):
        raise ValueError(f"the pixel value {value!r} is outside 0 to 255")
    return [float(channel) for channel in channels]


def _load(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(document, dict):
        raise DataError(f"{path}: not as Perception writes it (no object in braces)")
    return document


def _colour(code: int) -> Colour:
    return code >> 16, (code >> 8) & 255, code & 255


def _unlisted(path: Path, codes: NDArray[np.int32]) -> DataError:
    values, counts = np.unique(codes, return_counts=True)
    found = sorted(zip(counts.tolist(), values.tolist(), strict=True), reverse=True)
    text = ", ".join(f"{_colour(code)} on {count} pixels" for count, code in found[:3])
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return DataError(f"{path}: the JSON lists no label with the colour {text}{more}")
