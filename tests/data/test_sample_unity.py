"""The generated streets: SOLO's layout, the same pixels from a seed, sequences that are scenes."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raysearch.data import Data, open_data
from raysearch.data.formats.unity import Format
from raysearch.data.sample import unity
from raysearch.study import load_study

STUDY = load_study("unity")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample") / "unity"
    unity.write(folder, seed=0, sequences=6, frames=2, side=96)
    return folder


@pytest.fixture(scope="module")
def data(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Data:
    return open_data(STUDY.data, root, tmp_path_factory.mktemp("cache"), seed=0)


def test_is_a_data_set_of_the_study(data: Data) -> None:
    assert len(data.cache) == 12
    assert data.splits.dropped == ()
    assert {data.cache.shape(index) for index in range(12)} == {(64, 96)}


def test_rare_classes_are_rare_and_none_is_absent(data: Data) -> None:
    shares = data.cache.class_pixels.sum(axis=0) / data.cache.class_pixels.sum()
    share = dict(zip(unity.CLASSES, shares.tolist(), strict=True))
    assert shares.min() > 0.0005
    assert max(share["TrafficSign"], share["Pedestrian"]) < 0.03
    assert min(share["Road"], share["Building"]) > 0.1


def test_pictures_are_opaque_rgba_and_masks_have_pure_colours(root: Path) -> None:
    """Edges of the picture are smooth, those of the mask are not."""
    for path in root.glob("sequence.*/*.png"):
        picture = Image.open(path)
        assert picture.mode == "RGBA"
        assert picture.getchannel("A").getextrema() == (255, 255)
    mask = np.array(Image.open(root / "sequence.0/step0.camera.semantic segmentation.png"))
    known = {(0, 0, 0), *unity.COLOURS.values()}
    assert {tuple(colour) for colour in mask[..., :3].reshape(-1, 3).tolist()} <= known


def test_json_lists_the_labels_that_are_seen(root: Path) -> None:
    for path in sorted(root.glob("sequence.*/*.frame_data.json")):
        annotation = json.loads(path.read_text())["captures"][0]["annotations"][0]
        mask = np.array(Image.open(path.parent / annotation["filename"]))
        seen = {tuple(colour) for colour in mask.reshape(-1, 4).tolist()} - {(0, 0, 0, 255)}
        assert seen == {tuple(entry["pixelValue"]) for entry in annotation["instances"]}


def test_it_is_recognised(root: Path) -> None:
    found = Format.recognise(root) or {}
    assert found["classes"][0] == "background"
    assert set(found["classes"][1:]) == set(unity.CLASSES[1:])


def test_frames_of_a_sequence_resemble_each_other(data: Data) -> None:
    """Which is why a sequence must stay on one side of a split."""
    masks = {name: data.cache.mask(data.cache.index(name)) for name in data.cache.names}

    def alike(one: str, two: str) -> float:
        return float((masks[one] == masks[two]).mean())

    first, second = ([f"sequence.{n}/step{k}.camera" for n in range(6)] for k in (0, 1))
    within = np.mean([alike(a, b) for a, b in zip(first, second, strict=True)])
    across = np.mean([alike(a, b) for a, b in zip(first, second[1:] + second[:1], strict=True)])
    assert within > across + 0.03


def test_seed_decides(root: Path, tmp_path: Path) -> None:
    def pixels(folder: Path) -> bytes:
        return (folder / "sequence.0/step0.camera.png").read_bytes()

    for seed in (0, 1):
        unity.write(tmp_path / str(seed), seed, sequences=1, frames=1, side=96)
    assert pixels(tmp_path / "0") == pixels(root)
    assert pixels(tmp_path / "1") != pixels(root)


def test_names_are_the_study_s() -> None:
    assert STUDY.data.classes == unity.CLASSES
    assert set(STUDY.sample) == {"sequences", "frames", "side"}
