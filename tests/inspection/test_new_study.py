"""The first study of a folder: recognised, looked at, written, and read back."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from raysearch.config import Study
from raysearch.data.formats import names, reader
from raysearch.errors import ConfigError, DataError
from raysearch.inspection.new_study import study_name, write_new
from raysearch.models.networks import read_options
from raysearch.study import load_study, profile_names
from tests.data import (
    food101_miniature,
    marida_miniature,
    pairs_miniature,
    unity_miniature,
    voc_miniature,
)

MINIATURES: dict[str, Callable[[Path], Path]] = {
    "class_folders": food101_miniature.write_class_folders,
    "food101": food101_miniature.write_food101,
    "marida": marida_miniature.write_plain,
    "pairs": pairs_miniature.write_odd,
    "unity": unity_miniature.write_solo,
    "voc": voc_miniature.write_plain,
}


def written(root: Path, target: Path) -> Study:
    assert write_new(root, target) == 0
    return load_study(str(target))


def test_every_format_has_a_miniature() -> None:
    assert set(names()) == set(MINIATURES)


@pytest.mark.parametrize("name", names())
def test_every_format(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = MINIATURES[name](tmp_path / "my set")
    target = tmp_path / "new.yaml"
    study = written(root, target)
    assert (study.name, study.data.format, study.data.path) == ("my_set", name, root)
    opened = reader(name)(root, study.data)
    image = opened.image(opened.samples()[0])
    assert image.shape[2] == study.data.bands
    assert set(profile_names(str(target))) == {"full", "quick"}
    for profile in ("full", "quick"):
        for spec in load_study(str(target), profile).networks.values():
            read_options(spec)
    assert load_study(str(target), "quick").allow_random_weights
    assert f"python -m raysearch.tune {target} --dry-run" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir() if path != root] == ["new.yaml"]


class TestComments:
    """What was found stands in the file."""

    def text(self, root: Path) -> str:
        target = root.parent / "new.yaml"
        write_new(root, target)
        return target.read_text(encoding="utf-8")

    def test_statistics_and_shares(self, tmp_path: Path) -> None:
        root = tmp_path / "r"
        for number in range(4):
            pixels = np.full((*pairs_miniature.SHAPE, 2), number, dtype=np.int16)
            pixels[..., 1] = 1000
            pairs_miniature.write_tif(root / "images" / f"{number}.tif", pixels)
            mask = np.zeros(pairs_miniature.SHAPE, dtype=np.uint8)
            mask[:5] = 1
            pairs_miniature.write_mask(root / "masks" / f"{number}.png", mask)
        lines = [line.split() for line in self.text(root).splitlines()]
        assert ["#", "background", "75.00", "%", "4"] in lines
        assert ["#", "foreground", "25.00", "%", "4"] in lines
        first, second = (next(x for x in lines if x[:2] == ["#", number]) for number in "12")
        assert (first[2], first[4], first[6]) == ("0", "1.5", "3")
        assert second[2:] == ["1000"] * 5 + ["0"]

    def test_counts_and_sizes(self, tmp_path: Path) -> None:
        text = self.text(pairs_miniature.write_plain(tmp_path / "r"))
        assert "# 12 images of 24x20 pixels, 3 bands of uint8." in text
        assert "No lists" in text

    def test_lists(self, tmp_path: Path) -> None:
        assert "test 2, train 6, val 2" in self.text(pairs_miniature.write_odd(tmp_path / "r"))

    def test_missing_values(self, tmp_path: Path) -> None:
        assert "% of the values are missing" in self.text(pairs_miniature.write_odd(tmp_path / "r"))

    def test_damaged_files(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        root = pairs_miniature.write_plain(tmp_path / "r")
        (root / "images/003.png").write_bytes(b"")
        assert "1 of those looked at cannot be used" in self.text(root)
        assert "003.png: the file is empty" in capsys.readouterr().out


class TestSpace:
    def pairs(self, root: Path, side: int, bands: int = 3, share: float = 0.5) -> Study:
        for number in range(10):
            name = f"{number:02d}"
            pixels = np.full((side, side, bands), number, dtype=np.uint8)
            pairs_miniature.write_tif(root / "images" / f"{name}.tif", pixels)
            mask = np.zeros((side, side), dtype=np.uint8)
            mask[: round(share * side)] = 1
            pairs_miniature.write_mask(root / "masks" / f"{name}.png", mask)
        return written(root, root.parent / "new.yaml")

    @pytest.mark.parametrize(
        ("side", "crop", "quick"), [(20, 32, 32), (100, 96, 96), (130, 128, 128), (600, 512, 128)]
    )
    def test_crop_follows_the_images(
        self, tmp_path: Path, side: int, crop: int, quick: int
    ) -> None:
        study = self.pairs(tmp_path / "r", side)
        assert study.fixed["crop_size"] == crop
        small = load_study(str(tmp_path / "new.yaml"), "quick")
        assert small.fixed["crop_size"] == quick

    def test_pretrained_encoder_for_colour_only(self, tmp_path: Path) -> None:
        colour = self.pairs(tmp_path / "a" / "r", 32)
        many = self.pairs(tmp_path / "b" / "r", 32, bands=5)
        assert "imagenet" in str(colour.networks)
        assert "imagenet" not in str(many.networks)
        assert {spec["type"] for spec in many.networks.values()} == {"unet", "se_unet"}

    def test_rare_classes_are_weighed(self, tmp_path: Path) -> None:
        rare = self.pairs(tmp_path / "a" / "r", 64, share=0.03)
        even = self.pairs(tmp_path / "b" / "r", 64)
        assert rare.fixed["class_weights"] == "frequency"
        assert "class_weights" not in even.fixed
        assert rare.objective.metric == "positive_iou"

    def test_batches_fit_the_training_set(self, tmp_path: Path) -> None:
        study = written(pairs_miniature.write_plain(tmp_path / "r", 3), tmp_path / "new.yaml")
        assert study.space["batch_size"].ends() == [1]

    def test_classified_images(self, tmp_path: Path) -> None:
        root = tmp_path / "r"
        for name in ("cat", "dog"):
            (root / name).mkdir(parents=True)
            for number in range(3):
                Image.new("RGB", (500, 400), (number, 0, 0)).save(root / name / f"{number}.png")
        study = written(root, tmp_path / "new.yaml")
        assert (study.task, study.objective.metric) == ("classification", "top1")
        assert (study.fixed["image_size"], study.data.cache_side) == (224, 256)
        assert {spec["type"] for spec in study.networks.values()} == {"timm"}


class TestRefusals:
    def test_an_existing_study_is_kept(self, tmp_path: Path) -> None:
        root = pairs_miniature.write_plain(tmp_path / "r", 2)
        (tmp_path / "new.yaml").write_text("mine", encoding="utf-8")
        with pytest.raises(ConfigError, match=r"new\.yaml: exists already"):
            write_new(root, tmp_path / "new.yaml")
        assert (tmp_path / "new.yaml").read_text(encoding="utf-8") == "mine"

    def test_no_format(self, tmp_path: Path) -> None:
        (tmp_path / "r").mkdir()
        with pytest.raises(DataError, match=r"none of the formats fits \(class_folders, food101,"):
            write_new(tmp_path / "r", tmp_path / "new.yaml")

    def test_several_formats(self, tmp_path: Path) -> None:
        root = unity_miniature.write_solo(tmp_path / "r")
        pairs_miniature.write_plain(root, 2)
        with pytest.raises(DataError, match="pairs and unity both fit"):
            write_new(root, tmp_path / "new.yaml")

    def test_no_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no such folder"):
            write_new(tmp_path / "r", tmp_path / "new.yaml")

    def test_no_image_that_can_be_used(self, tmp_path: Path) -> None:
        root = pairs_miniature.write_plain(tmp_path / "r", 2)
        for path in (root / "images").iterdir():
            path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(DataError, match="2 of 2 images cannot be used"):
            write_new(root, tmp_path / "new.yaml")
        assert not list(tmp_path.glob("*.yaml"))

    @pytest.mark.parametrize("target", ["new.txt", "nowhere/new.yaml"])
    def test_targets(self, tmp_path: Path, target: str) -> None:
        root = pairs_miniature.write_plain(tmp_path / "r", 2)
        with pytest.raises(ConfigError, match="with --output"):
            write_new(root, tmp_path / target)


def test_default_target_is_the_folder_s_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pairs_miniature.write_plain(tmp_path / "ponds", 2)
    write_new(Path("ponds"))
    raw = yaml.safe_load((tmp_path / "ponds.yaml").read_text(encoding="utf-8"))
    assert (raw["name"], raw["data"]["path"]) == ("ponds", "ponds")
    assert load_study("ponds.yaml").data.path == tmp_path / "ponds"


@pytest.mark.parametrize(
    ("folder", "name"), [("my set (2)", "my_set_2_"), (".data", "data"), ("...", "study")]
)
def test_study_name(folder: str, name: str) -> None:
    assert study_name(Path("/x") / folder) == name
