"""Images that stand twice."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raysearch.config import Study
from raysearch.data import Sample
from raysearch.inspection import Finding, inspect
from raysearch.inspection.duplicates import near_pairs
from raysearch.inspection.look import Look, perceptual_hash
from tests.inspection.conftest import block, make_study, picture, save


def kinds(study: Study, root: Path) -> list[tuple[str, str]]:
    return [(finding.level, finding.kind) for finding in inspect(study, root).findings]


def found(study: Study, root: Path, kind: str) -> Finding:
    (finding,) = (f for f in inspect(study, root).findings if f.kind == kind)
    return finding


def copy(root: Path, one: int, two: int, mask: np.ndarray | None = None) -> None:
    images, masks = root / "JPEGImages", root / "SegmentationClass"
    shutil.copy(images / f"{one:03d}.png", images / f"{two:03d}.png")
    shutil.copy(masks / f"{one:03d}.png", masks / f"{two:03d}.png")
    if mask is not None:
        save(root, two, picture(one), mask)


def test_two_splits(study: Study, voc: Path) -> None:
    copy(voc, 2, 14)
    finding = found(study, voc, "duplicate")
    assert finding.files == ("JPEGImages/002.png", "JPEGImages/014.png")
    assert "002.png (train) and JPEGImages/014.png (val): the same bytes" in finding.words
    assert "honest splits leave it in val alone" in finding.words


def test_official_splits_keep_both(voc: Path) -> None:
    copy(voc, 2, 14)
    words = found(make_study(splits="official"), voc, "duplicate").words
    assert "official splits keep both" in words


def test_one_split(study: Study, voc: Path) -> None:
    copy(voc, 2, 4)
    assert "1 image with byte-identical copies" in found(study, voc, "duplicate").words


def test_masks_that_differ_a_little(study: Study, voc: Path) -> None:
    mask = block(1)
    mask[8, 8:12] = 0
    copy(voc, 2, 14, mask)
    assert "their masks differ on 1.6% of the foreground" in found(study, voc, "duplicate").words


def test_masks_that_contradict(study: Study, voc: Path) -> None:
    copy(voc, 2, 4, block(2))
    finding = found(study, voc, "contradiction")
    assert finding.level == "error"
    assert "their masks differ on 100% of the foreground; correct the labels" in finding.words


def test_classes_that_contradict(classified: Study, folders: Path) -> None:
    shutil.copy(folders / "cat" / "000.jpg", folders / "dog" / "copy.jpg")
    finding = found(classified, folders, "contradiction")
    assert finding.level == "error"
    assert "labelled 'cat' and 'dog'" in finding.words


def test_another_encoding_in_another_split(study: Study, voc: Path) -> None:
    brighter = np.clip(picture(3).astype(int) + 12, 0, 255).astype(np.uint8)
    save(voc, 19, brighter, block(2))
    finding = found(study, voc, "near-duplicate")
    assert finding.files == ("JPEGImages/003.png", "JPEGImages/019.png")
    save(voc, 19, picture(19), block(2))
    save(voc, 5, brighter, block(2))
    assert kinds(study, voc) == []


def look(number: int, pixels: np.ndarray, group: str = "") -> Look:
    small = np.asarray(Image.fromarray(pixels).resize((16, 16), Image.Resampling.BOX))
    sample = Sample(str(number), Path(f"{number}.png"), 0, group or str(number))
    return Look(sample, digest=str(number), hash=perceptual_hash(pixels), thumb=small)


class TestNearPairs:
    def test_frames_of_one_group(self) -> None:
        pixels = picture(0)
        looks = [look(0, pixels, "video"), look(1, pixels, "video"), look(2, pixels)]
        pairs = near_pairs(looks, {"0": "train", "1": "val", "2": "val"})
        assert [(one.sample.name, two.sample.name) for one, two in pairs] == [("0", "2")]

    def test_plain_pictures_are_not_compared(self) -> None:
        plain = np.full((40, 40, 3), 120, dtype=np.uint8)
        looks = [look(0, plain), look(1, plain + 60)]
        assert list(near_pairs(looks, {"0": "train", "1": "val"})) == []

    def test_a_mirrored_picture_is_another(self) -> None:
        looks = [look(0, picture(0)), look(1, picture(0)[:, ::-1].copy())]
        assert list(near_pairs(looks, {"0": "train", "1": "val"})) == []

    @pytest.mark.parametrize("count", [2500])
    def test_many(self, count: int) -> None:
        """More than two blocks: the one pair is found, whichever blocks it lies in."""
        random = np.random.default_rng(0)
        thumbs = random.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)
        hashes = random.integers(0, 2**63, count)
        thumbs[2400], hashes[2400] = thumbs[7], hashes[7] ^ 5
        looks = [
            Look(Sample(str(n), Path(f"{n}.png"), 0, str(n)), hash=int(hashes[n]), thumb=thumbs[n])
            for n in range(count)
        ]
        assigned = {str(n): "train" if n < count // 2 else "test" for n in range(count)}
        pairs = list(near_pairs(looks, assigned))
        assert [(one.sample.name, two.sample.name) for one, two in pairs] == [("7", "2400")]
