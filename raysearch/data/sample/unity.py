"""Streets in Unity Perception's SOLO layout, with the eight classes of the unity study.

A sequence is one street that a camera moves along, so its frames resemble each other: splits that
tear a sequence apart would leak. Nothing outside the pixels differs from sequence to sequence.
"""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from raysearch.data.sample._street import street

VERSION = 1
CLASSES = (
    "Background",
    "Road",
    "Building",
    "Car",
    "Vegetation",
    "Sky",
    "TrafficSign",
    "Pedestrian",
)
COLOURS = {
    "Road": (128, 64, 128),
    "Building": (255, 102, 0),
    "Car": (0, 0, 255),
    "Vegetation": (0, 255, 43),
    "Sky": (0, 170, 255),
    "TrafficSign": (255, 255, 0),
    "Pedestrian": (255, 0, 74),
}
CAMERA, LABELER = "camera", "semantic segmentation"
TYPE = "type.unity.com/unity.solo."


def write(folder: Path, seed: int, sequences: int = 24, frames: int = 6, side: int = 192) -> None:
    """Write the whole set; the same seed gives the same pixels.

    Args:
        frames: of each sequence.
        side: width of a picture in pixels; its height is two thirds of that.
    """
    folder.mkdir(parents=True)
    shape = side * 2 // 3, side
    _write_definitions(folder, sequences, frames)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # list() takes the results, and with them what a thread raised.
        list(pool.map(partial(_write_sequence, folder, seed, frames, shape), range(sequences)))


def _write_definitions(folder: Path, sequences: int, frames: int) -> None:
    spec = [_entry(name) for name in COLOURS]
    labeler = {"@type": f"{TYPE}SemanticSegmentationAnnotation", "id": LABELER, "spec": spec}
    camera = {"@type": f"{TYPE}RGBCamera", "id": CAMERA, "modality": "camera"}
    metadata = {
        "unityVersion": "2021.3.11f1",
        "perceptionVersion": "1.0.0-preview.1",
        "totalFrames": sequences * frames,
        "totalSequences": sequences,
        "sensors": [CAMERA],
        "metricCollectors": [],
        "annotators": [{"name": LABELER, "type": labeler["@type"]}],
    }
    documents: dict[str, dict[str, Any]] = {
        "annotation_definitions": {"annotationDefinitions": [labeler]},
        "sensor_definitions": {"sensorDefinitions": [camera]},
        "metric_definitions": {"metricDefinitions": []},
        "metadata": metadata,
    }
    for name, document in documents.items():
        _dump(folder / f"{name}.json", document)


def _write_sequence(
    root: Path, seed: int, frames: int, shape: tuple[int, int], number: int
) -> None:
    random = np.random.default_rng([seed, number])
    scene, lens = street(random), random.uniform((0.85, 0.85, 0.3), (1.1, 1.2, 0.7))
    folder = root / f"sequence.{number}"
    folder.mkdir()
    for step in range(frames):
        picture, mask = scene.frame(shape, step)
        _write_frame(folder, number, step, _photograph(picture, lens, random), mask)


def _write_frame(
    folder: Path, number: int, step: int, picture: NDArray[np.uint8], mask: NDArray[np.uint8]
) -> None:
    names = [f"step{step}.{CAMERA}.png", f"step{step}.{CAMERA}.{LABELER}.png"]
    palette = np.array([COLOURS.get(name, (0, 0, 0)) for name in CLASSES], dtype=np.uint8)
    for name, pixels in zip(names, (picture, palette[mask]), strict=True):
        _save(folder / name, pixels)
    present = [name for i, name in enumerate(CLASSES) if name in COLOURS and (mask == i).any()]
    common = {"imageFormat": "Png", "dimension": [float(side) for side in mask.shape[::-1]]}
    annotation = {
        "@type": f"{TYPE}SemanticSegmentationAnnotation",
        "id": LABELER,
        "sensorId": CAMERA,
        **common,
        "filename": names[1],
        "instances": [_entry(name) for name in present],
    }
    capture = {
        "@type": f"{TYPE}RGBCamera",
        "id": CAMERA,
        "description": "The main camera",
        "filename": names[0],
        **common,
        "annotations": [annotation],
    }
    frame = {"frame": step, "sequence": number, "step": step, "captures": [capture], "metrics": []}
    _dump(folder / f"step{step}.frame_data.json", frame)


def _entry(name: str) -> dict[str, Any]:
    return {"labelName": name, "pixelValue": [*COLOURS[name], 255]}


def _dump(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _save(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write RGB pixels (H, W, 3) as an opaque RGBA picture, as Perception does."""
    if not cv2.imwrite(str(path), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGRA)):
        raise OSError(f"{path}: cannot be written")


def _photograph(
    picture: NDArray[Any], lens: NDArray[Any], random: np.random.Generator
) -> NDArray[np.uint8]:
    """Apply exposure, softness and grain. lens: exposure, gamma and blur of the sequence."""
    exposed = np.clip(picture * np.float32(lens[0] / 255), 0, 1) ** np.float32(lens[1])
    soft = cv2.GaussianBlur(255 * exposed, (0, 0), float(lens[2]))
    grain = random.standard_normal(picture.shape, dtype=np.float32) * random.uniform(3, 7)
    return (soft + grain).clip(0, 255).astype(np.uint8)
