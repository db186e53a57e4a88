"""Tiny random Unity Perception sets in both layouts, with the oddities that real ones have.

The keys are those of Unity's own sample of SOLO and of the schema of the layout before it:
https://github.com/Unity-Technologies/com.unity.perception (Documentation~/Schema).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from raysearch.config import DataConfig

CLASSES = ("background", "car", "tree")
COLOURS = {"car": (0, 255, 43), "tree": (255, 102, 0), "rider": (12, 34, 56)}
SHAPE = (24, 32)
TYPE = "type.unity.com/unity.solo."
LABELER = "semantic segmentation"
GUIDS = {
    "Dataset": "36db0d5c-0b4d-4c5c-b6d9-b8e6bbe9b8c1",
    "RGB": "44ca2f69-0f5b-4be1-a70d-0d6a0b2d0a33",
    "SemanticSegmentation": "9a0f7f0e-7bb5-4a87-bf1f-26f2f2b3c9d4",
}


def config(**values: Any) -> DataConfig:
    return DataConfig(**{"format": "unity", "classes": CLASSES, **values})


def random_image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)


def mask_of(labels: Sequence[str]) -> np.ndarray:
    """Background with one block a label, from left to right: ids of CLASSES, 99 for others."""
    mask = np.zeros(SHAPE, dtype=np.uint8)
    for number, label in enumerate(labels):
        place = slice(2 + 9 * number, 8 + 9 * number)
        mask[6:18, place] = CLASSES.index(label) if label in CLASSES else 99
    return mask


def coloured(labels: Sequence[str]) -> np.ndarray:
    """The mask as Perception renders it, (H, W, 3): what has no label is black."""
    pixels = np.zeros((*SHAPE, 3), dtype=np.uint8)
    for number, label in enumerate(labels):
        pixels[6:18, 2 + 9 * number : 8 + 9 * number] = COLOURS[label]
    return pixels


def save(path: Path, pixels: np.ndarray, alpha: int = 255) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    opaque = np.full(pixels.shape[:2], alpha, dtype=np.uint8)
    Image.fromarray(np.dstack([pixels, opaque])).save(path)


def dump(path: Path, document: Any, encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2), encoding=encoding)


def semantic(filename: str, labels: Sequence[str], labeler: str = LABELER) -> dict[str, Any]:
    """An annotation of SOLO: it lists the labels that are seen in this mask alone."""
    return {
        "@type": f"{TYPE}SemanticSegmentationAnnotation",
        "id": labeler,
        "sensorId": "camera",
        "description": "Generates a semantic segmentation image for each captured frame.",
        "imageFormat": "Png",
        "dimension": [float(side) for side in SHAPE[::-1]],
        "filename": filename,
        "instances": [
            {"labelName": label, "pixelValue": [*COLOURS[label], 255]} for label in labels
        ],
    }


def boxes() -> dict[str, Any]:
    return {
        "@type": f"{TYPE}BoundingBox2DAnnotation",
        "id": "bounding box",
        "values": [{"instanceId": 3, "labelId": 1, "labelName": "car", "origin": [2.0, 6.0]}],
    }


def write_frame(
    folder: Path,
    step: int,
    cameras: Mapping[str, Sequence[str] | None],
    seed: int = 0,
    encoding: str = "utf-8",
) -> Path:
    """Write a frame of SOLO. cameras: the labels that each sees; None is not annotated."""
    captures = []
    for number, (camera, labels) in enumerate(cameras.items()):
        picture = f"step{step}.{camera}.png"
        save(folder / picture, random_image(seed + number))
        annotations = [boxes()]
        if labels is not None:
            mask = f"step{step}.{camera}.{LABELER}.png"
            save(folder / mask, coloured(labels))
            annotations.append(semantic(mask, labels))
        captures.append(
            {
                "@type": f"{TYPE}RGBCamera",
                "id": camera,
                "description": "The main camera",
                "filename": picture,
                "imageFormat": "Png",
                "dimension": [float(side) for side in SHAPE[::-1]],
                "annotations": annotations,
            }
        )
    path = folder / f"step{step}.frame_data.json"
    frame = {"frame": step + 2, "sequence": 0, "step": step, "captures": captures, "metrics": []}
    dump(path, frame, encoding)
    return path


def write_definitions(root: Path, spec: Any = None) -> None:
    """Perception 0.10 writes no spec beside the labeler, later ones the colours of all labels."""
    labeler = {"@type": f"{TYPE}SemanticSegmentationAnnotation", "id": LABELER}
    box = {
        "@type": f"{TYPE}BoundingBox2DAnnotation",
        "id": "bounding box",
        "spec": [{"label_id": 1, "label_name": "car"}, {"label_id": 2, "label_name": "Terrain"}],
    }
    definitions = [box, {**labeler, "spec": spec} if spec else labeler]
    dump(root / "annotation_definitions.json", {"annotationDefinitions": definitions})


def write_solo(root: Path, sequences: int = 6, frames: int = 2) -> Path:
    """One camera, both labels in every frame."""
    write_definitions(root)
    for number in range(sequences):
        for step in range(frames):
            seed = 100 * number + 10 * step
            write_frame(root / f"sequence.{number}", step, {"camera": ["car", "tree"]}, seed)
    return root


def write_odd(root: Path) -> Path:
    """SOLO with two cameras, a mask that only one has, a frame of nothing and names of any kind.

    Every frame says that its sequence is 0, as in Unity's own sample.
    """
    write_definitions(root)
    one, ten = root / "sequence.1", root / "sequence.10"
    write_frame(one, 0, {"left": ["car"], "right": ["tree", "car"]}, seed=0)
    write_frame(one, 10, {"left": [], "right": None}, seed=10, encoding="utf-8-sig")
    write_frame(ten, 0, {"left": ["tree"]}, seed=20)
    path = ten / "step0.frame_data.json"
    capture = (document := json.loads(path.read_text()))["captures"][0]
    for entry, name in ((capture, "a picture.png"), (capture["annotations"][1], "its mask.png")):
        (ten / entry["filename"]).rename(ten / name)
        entry["filename"] = name
    dump(path, document)
    return root


def write_perception(root: Path, whole: bool = False) -> Path:
    """The older layout: two files of captures, two sequences, colours of 0 to 1, and a lidar.

    whole: colours are of 0 to 255 instead.
    """
    dataset = root / f"Dataset{GUIDS['Dataset']}"
    unit = 1 if whole else 255
    spec = [
        {
            "label_name": label,
            "pixel_value": {
                **dict(zip("rgb", np.divide(COLOURS[label], unit), strict=True)),
                "a": 255 / unit,
            },
        }
        for label in ("car", "tree")
    ]
    definitions = [
        {"id": "f9f22e05", "name": "bounding box", "spec": [{"label_id": 1, "label_name": "car"}]},
        {"id": "12f94d8d", "name": LABELER, "format": "PNG", "spec": spec},
    ]
    header = {"version": "0.0.1"}
    dump(dataset / "annotation_definitions.json", {**header, "annotation_definitions": definitions})
    for number, sequence in enumerate(("e96b97cd", "3f0c1c3a")):
        captures = [old_capture(root, sequence, 2 * number + step) for step in (0, 1)]
        captures.append(lidar(sequence))
        dump(dataset / f"captures_{number:03d}.json", {**header, "captures": captures})
    return root


def old_capture(root: Path, sequence: str, number: int) -> dict[str, Any]:
    picture = f"RGB{GUIDS['RGB']}/rgb_{number}.png"
    mask = f"SemanticSegmentation{GUIDS['SemanticSegmentation']}/segmentation_{number}.png"
    save(root / picture, random_image(number))
    save(root / mask, coloured(["car", "tree"]))
    return {
        "id": f"capture-{number}",
        "sequence_id": sequence,
        "step": number % 2,
        "timestamp": 0.0,
        "sensor": {"sensor_id": "camera-guid", "ego_id": "ego", "modality": "camera"},
        "ego": {"ego_id": "ego"},
        "filename": picture,
        "format": "PNG",
        "annotations": [
            {"id": "b", "annotation_definition": "f9f22e05", "filename": None, "values": []},
            {"id": "s", "annotation_definition": "12f94d8d", "filename": mask, "values": None},
        ],
    }


def lidar(sequence: str) -> dict[str, Any]:
    return {
        "id": "lidar",
        "sequence_id": sequence,
        "step": 0,
        "sensor": {"sensor_id": "lidar-guid", "ego_id": "ego", "modality": "lidar"},
        "filename": "captures/lidar_000.pcd",
        "format": "PCD",
        "annotations": [],
    }
