"""The reader of Unity Perception: both layouts, their oddities, and bad input that it refuses."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raysearch.data import open_data
from raysearch.data.formats.unity import Format
from raysearch.data.samples import Sample
from raysearch.errors import ConfigError, DataError
from tests.data import unity_miniature as mini
from tests.data.unity_miniature import (
    COLOURS,
    GUIDS,
    LABELER,
    SHAPE,
    coloured,
    config,
    mask_of,
    random_image,
    save,
    semantic,
    write_definitions,
    write_frame,
    write_odd,
    write_perception,
    write_solo,
)


def read(root: Path, **values: Any) -> tuple[Format, dict[str, Sample]]:
    reader = Format(root, config(**values))
    return reader, {sample.name: sample for sample in reader.samples()}


def change(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads(path.read_text(encoding="utf-8-sig"))
    edit(document)
    mini.dump(path, document)


class TestSolo:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return write_odd(tmp_path / "solo")

    def test_each_camera_s_capture_is_a_sample(self, root: Path) -> None:
        _, samples = read(root)
        found = {name: (sample.group, sample.facts["camera"]) for name, sample in samples.items()}
        assert found == {
            "sequence.1/step0.left": ("sequence.1", "left"),
            "sequence.1/step0.right": ("sequence.1", "right"),
            "sequence.1/step10.left": ("sequence.1", "left"),
            "sequence.10/a picture": ("sequence.10", "left"),
        }
        assert {sample.split for sample in samples.values()} == {None}

    def test_alpha_is_dropped(self, root: Path) -> None:
        reader, samples = read(root)
        image = reader.image(samples["sequence.1/step0.right"])
        np.testing.assert_array_equal(image, random_image(1))

    @pytest.mark.parametrize(
        ("name", "labels"),
        [
            ("sequence.1/step0.left", ["car"]),
            ("sequence.1/step0.right", ["tree", "car"]),
            ("sequence.1/step10.left", []),
            ("sequence.10/a picture", ["tree"]),
        ],
    )
    def test_masks(self, name: str, labels: list[str], root: Path) -> None:
        reader, samples = read(root)
        np.testing.assert_array_equal(reader.target(samples[name]), mask_of(labels))

    def test_mask_as_a_palette(self, root: Path) -> None:
        path = root / f"sequence.1/step0.left.{LABELER}.png"
        Image.fromarray(coloured(["car"])).quantize(4).save(path)
        reader, samples = read(root)
        mask = reader.target(samples["sequence.1/step0.left"])
        np.testing.assert_array_equal(mask, mask_of(["car"]))

    def test_a_label_named_as_the_background_is_class_0(self, root: Path) -> None:
        reader, samples = read(root, classes=("car", "tree"))
        mask = reader.target(samples["sequence.1/step0.right"])
        np.testing.assert_array_equal(mask, mask_of(["tree", "car"]) == 2)

    def test_a_colour_that_only_the_definitions_name(self, root: Path) -> None:
        spec = [{"labelName": "tree", "pixelValue": [*COLOURS["tree"], 255]}]
        write_definitions(root, spec)
        path = root / "sequence.1/step0.frame_data.json"

        def drop(document: dict[str, Any]) -> None:
            for capture in document["captures"]:
                del capture["annotations"][1]["instances"]

        write_frame(root / "sequence.1", 0, {"left": ["tree"]})
        change(path, drop)
        reader, samples = read(root, classes=("background", "tree"))
        mask = reader.target(samples["sequence.1/step0.left"])
        np.testing.assert_array_equal(mask, mask_of(["tree"]) > 0)

    def test_several_sets_in_one_folder_keep_their_sequences_apart(self, tmp_path: Path) -> None:
        for name in ("solo", "solo_1"):
            write_solo(tmp_path / name, sequences=1)
        _, samples = read(tmp_path)
        groups = {sample.group for sample in samples.values()}
        assert groups == {"solo/sequence.0", "solo_1/sequence.0"}

    def test_one_of_several_segmentations(self, root: Path) -> None:
        path = root / "sequence.10/step0.frame_data.json"
        save(root / "sequence.10/other.png", coloured(["car"]))
        add = semantic("other.png", ["car"], "materials")
        change(path, lambda document: document["captures"][0]["annotations"].append(add))
        with pytest.raises(DataError, match=r"semantic segmentation and materials; choose one"):
            read(root)
        reader, samples = read(root, classes=("-", "car"), options={"annotation": "materials"})
        np.testing.assert_array_equal(reader.target(*samples.values()), mask_of(["car"]))

    def test_splits_never_tear_a_sequence_apart(self, tmp_path: Path) -> None:
        root = write_solo(tmp_path / "solo", sequences=8, frames=3)
        splits = open_data(config(), root, tmp_path / "cache", seed=0).splits
        parts = [
            {name.split("/")[0] for name in part}
            for part in (splits.train, splits.val, splits.test)
        ]
        assert sum(map(len, parts)) == 8
        assert splits.dropped == ()

    def test_the_cache_knows_the_colours_of_the_json(self, tmp_path: Path) -> None:
        """Masks keep their bytes while their labels change places."""
        root = write_solo(tmp_path / "solo")
        before = open_data(config(), root, tmp_path / "cache", seed=0)

        def swap(document: dict[str, Any]) -> None:
            first, second = document["captures"][0]["annotations"][1]["instances"]
            first["labelName"], second["labelName"] = second["labelName"], first["labelName"]

        for path in root.glob("sequence.*/*.json"):
            change(path, swap)
        after = open_data(config(), root, tmp_path / "cache", seed=0)
        assert before.digest != after.digest
        ids = before.cache.mask(0)
        np.testing.assert_array_equal(after.cache.mask(0), np.array([0, 2, 1])[ids])


class TestPerception:
    @pytest.mark.parametrize("whole", [False, True], ids=["of 0 to 1", "of 0 to 255"])
    def test_captures_of_all_files(self, whole: bool, tmp_path: Path) -> None:
        reader, samples = read(write_perception(tmp_path / "set", whole))
        folder = f"Dataset{GUIDS['Dataset']}"
        assert {name: sample.group for name, sample in samples.items()} == {
            f"RGB{GUIDS['RGB']}/rgb_0": f"{folder}/e96b97cd",
            f"RGB{GUIDS['RGB']}/rgb_1": f"{folder}/e96b97cd",
            f"RGB{GUIDS['RGB']}/rgb_2": f"{folder}/3f0c1c3a",
            f"RGB{GUIDS['RGB']}/rgb_3": f"{folder}/3f0c1c3a",
        }
        for number, sample in enumerate(samples.values()):
            assert sample.facts == {"camera": "camera-guid"}
            np.testing.assert_array_equal(reader.image(sample), random_image(number))
            np.testing.assert_array_equal(reader.target(sample), mask_of(["car", "tree"]))

    def test_every_fault_of_a_file_of_captures_is_listed(self, tmp_path: Path) -> None:
        root = write_perception(tmp_path / "set")
        (root / f"RGB{GUIDS['RGB']}/rgb_0.png").unlink()
        path = root / f"Dataset{GUIDS['Dataset']}/captures_000.json"
        change(path, lambda document: document["captures"][1].pop("sequence_id"))
        with pytest.raises(DataError, match="2 of 6 captures cannot be used") as caught:
            read(root)
        assert "rgb_0.png, but there is no such file" in str(caught.value)
        assert "capture 1 is not as Perception writes it ('sequence_id' is missing)" in str(
            caught.value
        )

    def test_without_definitions_nothing_is_segmented(self, tmp_path: Path) -> None:
        root = write_perception(tmp_path / "set")
        (root / f"Dataset{GUIDS['Dataset']}/annotation_definitions.json").unlink()
        with pytest.raises(DataError, match="none of the 6 captures has a semantic segmentation"):
            read(root)

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            (7, "pixel value 7 is no colour"),
            ({"r": 0, "g": 300, "b": 0, "a": 255}, "outside 0 to 255"),
            ({"r": 0.5}, "'g' is missing"),
        ],
    )
    def test_damaged_definitions(self, value: Any, words: str, tmp_path: Path) -> None:
        root = write_perception(tmp_path / "set")
        path = root / f"Dataset{GUIDS['Dataset']}/annotation_definitions.json"

        def spoil(document: dict[str, Any]) -> None:
            document["annotation_definitions"][1]["spec"][0]["pixel_value"] = value

        change(path, spoil)
        with pytest.raises(DataError, match=rf"definitions\.json: not as .*{words}"):
            read(root)


class TestOtherLabels:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        root = write_odd(tmp_path / "solo")
        write_frame(root / "sequence.2", 0, {"left": ["car", "rider"]})
        return root

    def test_are_an_error_with_the_nearest_name(self, root: Path) -> None:
        with pytest.raises(DataError, match=r"called 'tree'\. Did you mean 'trees'\? .*ignore"):
            read(write_solo(root.parent / "b"), classes=("background", "car", "trees"))
        with pytest.raises(DataError, match=r"no class of the study is called 'rider'"):
            read(root)

    @pytest.mark.parametrize(("choice", "id_"), [("background", 0), ("ignore", 255)])
    def test_can_be_left_out(self, choice: str, id_: int, root: Path) -> None:
        reader, samples = read(root, options={"other_labels": choice})
        mask, wanted = reader.target(samples["sequence.2/step0.left"]), mask_of(["car", "rider"])
        np.testing.assert_array_equal(mask, np.where(wanted == 99, id_, wanted))

    def test_a_class_without_a_label(self, root: Path) -> None:
        """A study's classes keep their ids where a later folder lacks one of them."""
        classes = ("background", "bus", "car", "tree", "rider")
        reader, samples = read(root, classes=classes)
        mask, wanted = reader.target(samples["sequence.2/step0.left"]), mask_of(["car", "rider"])
        np.testing.assert_array_equal(mask, np.select([wanted == 1, wanted == 99], [2, 4]))

    def test_no_class_with_a_label(self, root: Path) -> None:
        match = r"no label is called 'ride', nor .*Did you mean 'rider'\?"
        classes = ("background", "ride", "bus")
        with pytest.raises(DataError, match=match):
            read(root, classes=classes, options={"other_labels": "background"})

    def test_unknown_choice(self, root: Path) -> None:
        with pytest.raises(ConfigError, match=r"data\.options\.other_labels: 'drop'"):
            read(root, options={"other_labels": "drop"})


class TestBadInput:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return write_solo(tmp_path / "solo")

    def test_neither_layout(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="not a Unity Perception data set; expected sequence"):
            read(tmp_path)

    def test_all_damaged_frames_are_listed(self, root: Path) -> None:
        frames = [root / f"sequence.{number}/step0.frame_data.json" for number in range(6)]
        frames[0].write_text(frames[0].read_text()[:200])
        (root / "sequence.1/step0.camera.png").unlink()
        (root / f"sequence.1/step0.camera.{LABELER}.png").unlink()
        change(frames[2], lambda document: document["captures"][0].pop("filename"))
        change(frames[3], lambda document: document.pop("captures"))
        change(frames[4], lambda document: document["captures"][0].update(filename="../../x.png"))
        (root / "sequence.6").mkdir()
        with pytest.raises(DataError, match="6 of 13 captures cannot be used") as caught:
            read(root)
        for part in (
            "sequence.0/step0.frame_data.json: not readable as JSON",
            "names step0.camera.png and step0.camera.semantic segmentation.png, but there is no",
            "sequence.2/step0.frame_data.json: capture 0 is not as Perception writes it "
            "('filename' is missing)",
            "sequence.3/step0.frame_data.json: not as Perception writes it ('captures' is missing)",
            "sequence.4/step0.frame_data.json: names x.png, but there is no such file",
            "sequence.6: no step*.frame_data.json in it",
        ):
            assert part in str(caught.value)

    def test_no_capture_is_annotated(self, tmp_path: Path) -> None:
        write_frame(tmp_path / "solo/sequence.0", 0, {"left": None, "right": None})
        with pytest.raises(DataError, match="none of the 2 captures has a semantic segmentation"):
            read(tmp_path / "solo")

    def test_colours_that_no_label_has(self, root: Path, tmp_path: Path) -> None:
        for number, count in ((1, 5), (2, 1)):
            pixels = coloured(["car", "tree"])
            pixels[0, :count] = (9, 8, 7)
            save(root / f"sequence.{number}/step1.camera.{LABELER}.png", pixels)
        with pytest.raises(DataError, match="2 of 12 images cannot be used") as caught:
            open_data(config(), root, tmp_path / "cache", seed=0)
        message = "step1.camera.semantic segmentation.png: the JSON lists no label with the colour"
        assert f"sequence.1/{message} (9, 8, 7) on 5 pixels" in str(caught.value)
        assert f"sequence.2/{message} (9, 8, 7) on 1 pixels" in str(caught.value)

    def test_mask_of_another_size(self, root: Path, tmp_path: Path) -> None:
        small = np.zeros((10, 10, 3), np.uint8)
        save(root / f"sequence.1/step1.camera.{LABELER}.png", small)
        with pytest.raises(DataError, match="32x24 pixels, but its mask has 10x10"):
            open_data(config(), root, tmp_path / "cache", seed=0)

    def test_one_colour_for_two_labels(self, root: Path) -> None:
        def alike(document: dict[str, Any]) -> None:
            instances = document["captures"][0]["annotations"][1]["instances"]
            instances[1]["pixelValue"] = instances[0]["pixelValue"]

        change(root / "sequence.0/step0.frame_data.json", alike)
        with pytest.raises(DataError, match=r"car and tree both have the colour \(0, 255, 43\)"):
            read(root)

    def test_a_picture_that_two_captures_name(self, root: Path) -> None:
        path = root / "sequence.0/step1.frame_data.json"
        change(path, lambda document: document["captures"][0].update(filename="step0.camera.png"))
        with pytest.raises(DataError, match=r"names step0\.camera\.png, as another capture does"):
            read(root)

    def test_bands_that_pictures_do_not_have(self, root: Path) -> None:
        with pytest.raises(ConfigError, match=r"data\.bands: 12"):
            Format(root, config(bands=12))


class TestRecognise:
    @pytest.mark.parametrize("write", [write_solo, write_odd, write_perception])
    def test_names_the_classes_with_the_background_first(
        self, write: Callable[[Path], Path], tmp_path: Path
    ) -> None:
        found = Format.recognise(write(tmp_path / "set"))
        assert found == {"classes": ["background", "car", "tree"], "bands": 3, "options": {}}
        reader, samples = read(tmp_path / "set", **found)
        assert {reader.target(sample).shape for sample in samples.values()} == {SHAPE}

    def test_a_label_may_be_called_background(self, tmp_path: Path) -> None:
        spec = [
            {"label_name": name, "pixel_value": {"r": 0, "g": shade, "b": 0, "a": 1}}
            for name, shade in (("car", 1.0), ("Background", 0.5))
        ]
        write_definitions(tmp_path, spec)
        write_frame(tmp_path / "sequence.0", 0, {"camera": ["car"]})
        assert (Format.recognise(tmp_path) or {})["classes"][0] == "Background"

    def test_other_folders(self, tmp_path: Path) -> None:
        (tmp_path / "sequence.0").write_text("no folder")
        (tmp_path / "image.png").write_bytes(b"")
        assert Format.recognise(tmp_path) is None
        assert Format.recognise(tmp_path / "nowhere") is None
        assert Format.recognise(tmp_path / "image.png") is None
