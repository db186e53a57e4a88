"""Everything else that a check sees, its page, its corrected lists, and the quick part."""

import base64
import json
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from raysearch.config import Study
from raysearch.data import open_data
from raysearch.data.formats import reader
from raysearch.data.formats.voc import Format
from raysearch.data.sample import generate, generators
from raysearch.errors import DataError
from raysearch.inspection import Finding, errors, inspect, quick_findings, refuse
from raysearch.inspection.bands import band_ranges, constant_bands
from raysearch.inspection.corrected import write_corrected
from raysearch.inspection.estimates import activation_bytes
from raysearch.inspection.look import look_at
from raysearch.inspection.page import write_page
from raysearch.study import load_study
from tests.data.voc_miniature import coloured, write_lists
from tests.inspection.conftest import SIDE, block, class_of, make_study, picture, save
from tests.inspection.test_duplicates import copy

# Of each generator, where its defaults take longer than a test should.
SMALL = {
    "unity": {"sequences": 12, "frames": 3, "side": 96},
    "marine_debris": {"train": 60, "val": 20, "test": 20},
    "food101": {"train": 20, "test": 8, "side": 64},
}


def found(study: Study, root: Path) -> dict[str, Finding]:
    return {finding.kind: finding for finding in inspect(study, root).findings}


class TestFiles:
    def test_every_damaged_file_in_its_reader_s_words(self, study: Study, voc: Path) -> None:
        images, masks = voc / "JPEGImages", voc / "SegmentationClass"
        (images / "001.png").write_bytes(b"")
        (images / "002.png").write_bytes((images / "002.png").read_bytes()[:300])
        Image.new("RGB", (10, 10)).save(images / "003.png")
        strange = coloured(block(1))
        strange[0, :5] = (9, 8, 7)
        Image.fromarray(strange).save(masks / "004.png")
        report = inspect(study, voc)
        told = {finding.files[0]: finding.words for finding in errors(report.findings)}
        assert list(told) == [f"JPEGImages/00{number}.png" for number in (1, 2, 3, 4)]
        with pytest.raises(DataError) as refused:
            open_data(study.data, voc, voc.parent / "cache", seed=0)
        for words in told.values():
            assert words in str(refused.value)
        assert not report.passed
        assert sum(report.used.values()) == 20

    def test_nothing_but_damage(self, study: Study, voc: Path) -> None:
        for path in (voc / "JPEGImages").iterdir():
            path.write_bytes(b"")
        report = inspect(study, voc)
        assert {f.kind for f in errors(report.findings)} == {"damaged"}
        assert len(report.findings) == 24
        assert "cannot be shown" in write_page(report, voc.parent / "p.html").read_text()

    def test_lists_that_name_missing_files(self, study: Study, voc: Path) -> None:
        (voc / "JPEGImages" / "003.png").unlink()
        finding = found(study, voc)["lists"]
        assert finding.level == "error"
        assert "JPEGImages/003: no such file" in finding.words

    def test_blank(self, study: Study, voc: Path) -> None:
        save(voc, 3, np.full((SIDE, SIDE, 3), 7, dtype=np.uint8), block(2))
        assert found(study, voc)["blank"].files == ("JPEGImages/003.png",)

    def test_tiny(self, study: Study, voc: Path) -> None:
        save(voc, 3, picture(3)[:1, :1], block(2)[10:11, 10:11])
        assert found(study, voc)["tiny"].words.startswith("1 image with a side below 8 pixels")

    def test_huge(self, study: Study, voc: Path) -> None:
        save(voc, 3, picture(3, 240), block(2, 240))
        assert "25 times the pixels" in found(study, voc)["huge"].words

    def test_false_ending(self, study: Study, voc: Path) -> None:
        Image.fromarray(picture(3)).save(voc / "JPEGImages" / "003.png", "JPEG")
        assert found(study, voc)["ending"].files == ("JPEGImages/003.png",)

    def test_background_alone(self, study: Study, voc: Path) -> None:
        save(voc, 3, picture(3), block(0))
        assert found(study, voc)["background"].files == ("JPEGImages/003.png",)

    def test_everything_ignored(self, study: Study, voc: Path) -> None:
        save(voc, 3, picture(3), np.full((SIDE, SIDE), 255, dtype=np.uint8))
        assert found(study, voc)["unlabelled"].files == ("JPEGImages/003.png",)


class TestClasses:
    def test_missing_from_a_split(self, study: Study, voc: Path) -> None:
        names = [f"{number:03d}" for number in range(24)]
        dogs = names[1::2]
        write_lists(voc, train=names[:18], val=dogs[9:11], test=[*names[18:19], *dogs[11:]])
        words = found(study, voc)["class"].words
        assert words.startswith("'cat' is missing from val (10 images hold it)")

    def test_missing_from_everything(self, study: Study, voc: Path) -> None:
        for number in range(1, 24, 2):
            save(voc, number, picture(number), block(1))
        assert found(study, voc)["class"].words.startswith("no image holds 'dog'")

    def test_shares(self, study: Study, voc: Path) -> None:
        save(voc, 1, picture(1), np.maximum(block(2), 1))
        shares = {share.name: share for share in inspect(study, voc).shares}
        assert shares["cat"].images == {"train": 7, "val": 3, "test": 3}
        pixels = 12 * 256 + SIDE * SIDE - 256
        assert shares["cat"].pixels == pytest.approx(pixels / (24 * SIDE * SIDE))


class TestBands:
    def test_ranges(self, study: Study, voc: Path) -> None:
        for number in range(24):
            image = picture(number).clip(10, 200)
            image[..., 1] = 50
            save(voc, number, image, block(class_of(number)))
        report = inspect(study, voc)
        assert [(band.low, band.high) for band in report.bands] == [(10, 200), (50, 50), (10, 200)]
        assert [finding.words[:29] for finding in constant_bands(report.bands)] == [
            "band 2 is 50 in every image; "
        ]

    def test_missing_values_do_not_count(self, study: Study, voc: Path) -> None:
        class Gappy(Format):
            dtype = np.dtype(np.float32)

            def image(self, sample: object) -> np.ndarray:
                image = np.full((SIDE, SIDE, 3), 4.0, dtype=np.float32)
                image[:10] = np.nan
                image[20:] = 8.0
                return image

        reader = Gappy(voc, study.data)
        look = look_at(reader, reader.samples()[0])
        assert look.no_data == 0.25
        (band, *_) = band_ranges([look])
        assert (band.low, band.high) == (4.0, 8.0)
        assert band.mean == pytest.approx(8 * 2 / 3 + 4 / 3, abs=0.1)


def test_activations_against_a_hand_worked_network() -> None:
    """conv keeps its input, the ReLU its output, which is the second conv's input too."""
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(4, 2, 1, bias=False)
    ).to("meta")
    inputs, hidden = 2 * 3 * 8 * 8, 2 * 4 * 8 * 8
    assert activation_bytes(network, (2, 3, 8, 8)) == 4 * (inputs + hidden)
    assert next(network.parameters()).device == torch.device("meta")


def test_memory_grows_with_the_batch(voc: Path) -> None:
    (memory,) = inspect(make_study(), voc).memory
    assert (memory.batch_size, memory.side) == (4, 32)
    assert memory.state == 16 * memory.parameters


def test_cache_estimate_is_the_cache_s_size(study: Study, voc: Path) -> None:
    data = open_data(study.data, voc, voc.parent / "cache", seed=0)
    size = sum((data.cache.path / name).stat().st_size for name in ("images.npy", "masks.npy"))
    assert inspect(study, voc).cache_bytes == pytest.approx(size, abs=512)


class TestQuick:
    def quick(self, study: Study, root: Path) -> list[Finding]:
        data = open_data(study.data, root, root.parent / "cache", seed=0)
        return quick_findings(study, root, data)

    def test_clean(self, study: Study, voc: Path) -> None:
        assert self.quick(study, voc) == []

    def test_says_what_the_whole_check_says(self, study: Study, voc: Path) -> None:
        for number in range(1, 24, 2):
            save(voc, number, picture(number, 64), block(2, 64))
        copy(voc, 2, 14)
        assert self.quick(study, voc) == inspect(study, voc).findings != []

    def test_contradiction_is_refused_in_the_same_words(self, study: Study, voc: Path) -> None:
        copy(voc, 2, 4, block(2))
        (whole,) = errors(inspect(study, voc).findings)
        with pytest.raises(DataError, match=re.escape(whole.words)):
            refuse(self.quick(study, voc))

    def test_classes_that_contradict(self, classified: Study, folders: Path) -> None:
        (folders / "dog" / "x.jpg").write_bytes((folders / "cat" / "000.jpg").read_bytes())
        (finding,) = errors(self.quick(classified, folders))
        assert "labelled 'cat' and 'dog'" in finding.words

    def test_warnings_are_not_refused(self) -> None:
        refuse([Finding("warning", "shortcut", "words")])


class TestPage:
    def test_pictures_are_in_it(self, study: Study, voc: Path) -> None:
        copy(voc, 2, 14)
        (voc / "JPEGImages" / "005.png").write_bytes(b"")
        report = inspect(study, voc)
        text = write_page(report, voc.parent / "check.html").read_text(encoding="utf-8")
        pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
        assert len(pictures) == 2 + 2 * 6  # The duplicates, and six of each class.
        sizes = {Image.open(BytesIO(base64.b64decode(data))).size for data in pictures}
        assert sizes == {(168, 168)}
        assert text.count("cannot be shown") == 1
        assert "http" not in text

    def test_masks_lie_over_the_images(self, study: Study, voc: Path) -> None:
        for number in range(24):
            save(voc, number, np.full_like(picture(0), 100 + number), block(class_of(number)))
        text = write_page(inspect(study, voc), voc.parent / "p.html").read_text(encoding="utf-8")
        data = re.findall(r"<h3>.*?</h3>\s*<div.*?base64,([^\"]+)\"", text, re.S)
        tile = np.asarray(Image.open(BytesIO(base64.b64decode(data[0])))).astype(int)
        inside, outside = tile[60, 60], tile[150, 150]
        assert inside[0] - inside[2] > 60  # The first class is orange.
        assert abs(outside[0] - outside[2]) < 10

    def test_names_are_escaped(self, voc: Path) -> None:
        report = inspect(make_study(), voc)
        report.findings.append(Finding("warning", "x", "<script>"))
        assert "<script>" not in write_page(report, voc.parent / "p.html").read_text()

    def test_report_is_json(self, study: Study, voc: Path) -> None:
        report = inspect(study, voc)
        assert json.loads(json.dumps(report.to_json()))["passed"] is True


class TestCorrected:
    def test_lists_without_what_was_found(self, study: Study, voc: Path) -> None:
        before = {path: path.read_bytes() for path in sorted(voc.rglob("*.*"))}
        copy(voc, 2, 14)  # In train and val.
        copy(voc, 4, 6, block(2))  # Contradictory.
        (voc / "JPEGImages" / "020.png").write_bytes(b"")
        before |= {path: path.read_bytes() for path in sorted(voc.rglob("*.*"))}
        place, use = write_corrected(inspect(study, voc))
        assert place == voc.parent / "set-splits"
        assert {path: path.read_bytes() for path in sorted(voc.rglob("*.*"))} == before
        corrected = make_study(options={"lists": str(place)})
        report = inspect(corrected, voc)
        assert report.findings == []
        assert report.listed == {"train": 9, "val": 6, "test": 5}
        assert use == f"--set data.options.lists={place}"
        open_data(corrected.data, voc, voc.parent / "cache", seed=0)

    def test_roots_of_classes(self, odd_root: Path, tmp_path: Path) -> None:
        place, _ = write_corrected(inspect(make_study(), odd_root), tmp_path / "lists")
        assert sorted(path.relative_to(place).as_posix() for path in place.rglob("*.txt")) == [
            "cat/train.txt", "cat/val.txt", "dog/train.txt", "dog/val.txt",
        ]  # fmt: skip
        assert "001" not in (place / "dog" / "train.txt").read_text().split()
        assert "007" in (place / "dog" / "val.txt").read_text().split()

    def test_existing_folder_is_refused(self, study: Study, voc: Path) -> None:
        (voc.parent / "set-splits").mkdir()
        with pytest.raises(DataError, match="exists already"):
            write_corrected(inspect(study, voc))

    def test_data_set_is_never_written_to(self, study: Study, voc: Path) -> None:
        with pytest.raises(DataError, match="lies in the data set"):
            write_corrected(inspect(study, voc), voc / "lists")

    def test_format_without_lists(self, classified: Study, folders: Path) -> None:
        with pytest.raises(DataError, match="class_folders has no lists"):
            write_corrected(inspect(classified, folders))


@pytest.mark.parametrize("name", generators())
def test_generated_samples_are_clean(name: str, tmp_path: Path) -> None:
    root = generate(name, tmp_path, sizes=SMALL.get(name))
    study = load_study(name, changes=[f"data.path={root}"])
    data = study.data
    if not data.classes:
        known = reader(data.format).recognise(root)
        assert known is not None
        data = data.model_copy(update={"classes": tuple(known["classes"])})
    # The networks of these studies are large, and no part of the question.
    bare = study.model_copy(update={"data": data, "networks": {}})
    assert inspect(bare, root).findings == []
