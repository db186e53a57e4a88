"""Trials of other searches: whether they fit, and what they have seen of what is held out."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raysearch.config import Study
from raysearch.data import Data, open_data
from raysearch.errors import RunError
from raysearch.records.run_folder import RunFolder
from raysearch.search.sources import check_sources, check_unseen
from tests.data.voc_miniature import write_plain, write_root
from tests.inference.conftest import NETWORK, searched, tiny, trained


class Place:
    """Images without a test list, a search over them, and its trial."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.study = tiny(write_plain(path / "voc"), path / "cache")
        (path / "voc" / "ImageSets" / "Segmentation" / "val.txt").write_text("")
        self.run = searched(path / "results", self.study)
        trained(self.run, 0, self.study, miou=0.5)

    @property
    def trial(self) -> Path:
        return self.run.trial_folder(0)

    def second(self, **changes: Any) -> Study:
        return tiny(self.path / "voc", self.path / "cache", teachers=[self.trial], **changes)

    def others(self) -> Study:
        """A study of other images, with the trial as its teacher."""
        other = self.path / "other"
        write_root(other, [1, 2] * 6, seed=99)
        shutil.copytree(self.path / "voc" / "ImageSets", other / "ImageSets")
        shutil.copy(self.path / "voc" / "labelmap.txt", other)
        return tiny(other, self.path / "cache", teachers=[self.trial])

    def data(self, study: Study, seed: int = 0) -> Data:
        assert study.data.path is not None
        return open_data(study.data, study.data.path, self.path / "cache", seed)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


class TestFit:
    def test_how_much_is_taken_is_said(self, place: Place) -> None:
        (note,) = check_sources(place.second(init_from={"narrow": place.trial}))
        assert note.startswith("narrow begins with ")
        taken, total = map(int, note.split()[3].split("/"))
        assert taken == total > 10

    def test_another_width_is_refused_before_any_trial(self, place: Place) -> None:
        study = place.second(
            networks={"narrow": {**NETWORK, "width": 6}}, init_from={"narrow": place.trial}
        )
        with pytest.raises(RunError, match=r"init_from: no weights of .* fit"):
            check_sources(study)

    def test_half_an_encoder_is_refused(self, place: Place) -> None:
        study = place.second(
            networks={"narrow": {**NETWORK, "depth": 4}}, init_from={"narrow": place.trial}
        )
        with pytest.raises(RunError, match=r"init_from: only \d+ of \d+ weights of .* fit"):
            check_sources(study)

    def test_each_variant_is_tried(self, place: Place) -> None:
        fixed = {"image_size": 32, "crop_size": 32, "batch_size": 4}
        space = {"architecture": ["narrow"], "network.width": [4, 6]}
        study = place.second(fixed=fixed, space=space, init_from={"narrow": place.trial})
        with pytest.raises(RunError, match="no weights"):
            check_sources(study)


class TestUnseen:
    def test_the_same_splits_leak_nothing(self, place: Place) -> None:
        study = place.second()
        assert check_unseen(study, place.data(study)) == ()

    def test_images_that_it_was_trained_on_are_not_held_out(self, place: Place) -> None:
        study = place.second()
        data = place.data(study)
        trained_on, ours = _with(data, val=data.splits.train[:2]), _with(data, test=("000", "001"))
        with pytest.raises(RunError, match="was trained on 2 of the 2 val images") as error:
            check_unseen(study, trained_on)
        assert "--seed 0 --splits honest" in str(error.value)
        with pytest.raises(RunError, match="2 test images"):
            check_unseen(study, ours)

    def test_images_that_it_was_chosen_by_are_no_test(self, place: Place) -> None:
        study = place.second()
        data = place.data(study)
        check_unseen(study, _with(data, val=data.splits.val, test=()))
        with pytest.raises(RunError, match="trained or chosen on 1 of the 1 test images"):
            check_unseen(study, _with(data, test=data.splits.val[:1]))

    def test_the_same_bytes_under_another_name(self, place: Place) -> None:
        """Another folder, other names, so another digest: the source's cache knows the bytes."""
        study = place.others()
        first = place.run
        name = json.loads(first.splits_file.read_text())["train"][0]
        same = f"{9 + int(name) % 3:03d}"  # Of the same size, as its mask is.
        images = place.path / "other" / "JPEGImages"
        shutil.copy(place.path / "voc" / "JPEGImages" / f"{name}.png", images / f"{same}.png")
        data = place.data(study)
        assert data.digest != first.info["data_digest"]
        with pytest.raises(RunError, match="test images"):
            check_unseen(study, _with(data, test=(same,)))

    def test_a_source_of_the_source_counts(self, place: Place) -> None:
        between = tiny(
            place.path / "voc", place.path / "cache", name="between", teachers=[place.trial]
        )
        run = searched(place.path / "results", between)
        trained(run, 0, between)
        run.write(
            run.splits_file.name, json.dumps({"train": [], "val": [], "test": [], "mode": "x"})
        )
        study = place.second().model_copy(update={"teachers": [run.trial_folder(0)]})
        data = place.data(study)
        with pytest.raises(RunError, match=str(place.trial)):
            check_unseen(study, _with(data, val=data.splits.train))

    def test_what_cannot_be_known_is_said(self, place: Place) -> None:
        study = place.second()
        data = place.data(study)
        RunFolder(place.run.path).splits_file.unlink()
        (note,) = check_unseen(study, data)
        assert "not the whole folder of a search" in note

    def test_a_lost_cache_of_other_images_is_said(self, place: Place) -> None:
        study = place.others()
        data = place.data(study)
        assert check_unseen(study, data) == ()
        shutil.rmtree(place.path / "cache" / place.run.info["data_digest"][:16])
        (note,) = check_unseen(study, data)
        assert "its cache is gone" in note


def _with(data: Data, **parts: tuple[str, ...]) -> Data:
    """The same images, held out otherwise."""
    empty: dict[str, tuple[str, ...]] = {"train": (), "val": (), "test": ()}
    return replace(data, splits=replace(data.splits, **{**empty, **parts}))
