"""`python -m raysearch.evaluate`, on a search as it was left."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raysearch.config import Study
from raysearch.data import open_data
from raysearch.errors import DataError, RunError
from raysearch.evaluate import main
from raysearch.inference.evaluation import Evaluation, evaluate, other_data
from raysearch.models import Output
from raysearch.records.evaluation import evaluate_run
from raysearch.records.run_folder import RunFolder
from raysearch.study import load_study
from raysearch.training.metrics import background_miou
from raysearch.training.trained import load_trained
from tests.data.voc_miniature import write_lists, write_plain, write_root
from tests.inference.conftest import searched, tiny, trained
from tests.records.test_lock import holder

CPU = torch.device("cpu")


class Constant(nn.Module):
    """Says one class everywhere."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.said = torch.tensor(logits)

    def forward(self, images: Tensor) -> Output:
        count, _, height, width = images.shape
        return Output(self.said.view(1, -1, 1, 1).expand(count, -1, height, width), None)


def asked(run: RunFolder, network: nn.Module, split: str, **changes: Any) -> Evaluation:
    """What another network is worth in place of the best trial's."""
    study = load_study(str(run.study_file))
    assert study.data.path is not None
    assert study.resources.cache is not None
    data = open_data(study.data, study.data.path, study.resources.cache, seed=0)
    one = replace(load_trained(run.trial_folder(0), CPU), network=network, **changes)
    return evaluate(one, data, split, CPU)


def test_background_alone_has_the_score_that_is_known(run: RunFolder) -> None:
    found = asked(run, Constant([1.0, 0.0, 0.0]), "test")
    study = load_study(str(run.study_file))
    assert study.data.path is not None
    data = open_data(study.data, study.data.path, Path(str(study.resources.cache)), seed=0)
    pixels = data.cache.class_pixels[list(data.indices("test"))].sum(0)
    assert found.images == 3
    assert found.metrics["miou"] == pytest.approx(background_miou(torch.from_numpy(pixels)))
    assert found.metrics["pixel_accuracy"] == pytest.approx(pixels[0] / pixels.sum())
    assert found.confusion[:, 0].tolist() == pixels.tolist()
    low, high = found.intervals["pixel_accuracy"]
    assert low <= found.metrics["pixel_accuracy"] <= high
    assert found.wilson == {}
    assert found.seconds_per_image > 0


def test_the_best_trial_is_measured_on_the_test_split(run: RunFolder) -> None:
    told = evaluate_run(run, command="python -m raysearch.evaluate tiny", device=CPU)
    kept = json.loads(run.test_file.read_text())
    assert kept == told
    assert (kept["trial"], kept["split"], kept["images"]) == (0, "test", 3)
    assert kept["command"] == "python -m raysearch.evaluate tiny"
    assert kept["validation"] == {"miou": 0.5, "pixel_accuracy": 0.9}
    assert kept["drop"]["miou"] == pytest.approx(0.5 - kept["metrics"]["miou"])
    assert np.shape(kept["confusion"]) == (3, 3)
    assert not list(run.path.glob(".test.json*"))


def test_every_opening_of_the_test_split_is_counted(run: RunFolder) -> None:
    assert evaluate_run(run, device=CPU)["opened"] == 1
    told = evaluate_run(run, trial=1, device=CPU)
    assert told["opened"] == 2
    assert [opening["trial"] for opening in told["openings"]] == [0, 1]
    assert "opened" not in evaluate_run(run, "val", device=CPU)
    assert json.loads(run.test_file.read_text())["opened"] == 2
    assert json.loads((run.path / "evaluation-val.json").read_text())["split"] == "val"


def test_its_own_folder_is_no_other_data(run: RunFolder) -> None:
    """Naming it with --data is one more opening of its test split."""
    evaluate_run(run, device=CPU)
    own = load_study(str(run.study_file)).data.path
    told = evaluate_run(run, data=own, device=CPU)
    assert (told["file"], told["opened"]) == ("test.json", 2)


def test_openings_by_searches_on_the_same_images_count_together(run: RunFolder) -> None:
    """What is chosen among searches by their test figures is chosen by the test images."""
    twin = RunFolder(run.path.with_name("twin"))
    shutil.copytree(run.path, twin.path)
    assert evaluate_run(run, device=CPU)["opened"] == 1
    told = evaluate_run(twin, device=CPU)
    assert told["opened"] == 2
    assert len(told["openings"]) == 1
    shutil.rmtree(twin.path)


def test_other_images_with_lists_and_without(run: RunFolder, tmp_path: Path) -> None:
    told = evaluate_run(run, data=write_plain(tmp_path / "more", 16), device=CPU)
    assert told["images"] == 4
    assert "opened" not in told
    assert not run.test_file.exists()
    assert json.loads((run.path / told["file"]).read_text())["images"] == 4


def test_other_images_whose_lists_name_no_test_split(run: RunFolder, tmp_path: Path) -> None:
    root = tmp_path / "listed"
    names = write_root(root, [1, 2, 1])
    write_lists(root, train=names[:1], val=names[1:])
    (root / "labelmap.txt").write_text(
        (Path(str(load_study(str(run.study_file)).data.path)) / "labelmap.txt").read_text()
    )
    with pytest.raises(DataError, match="no list names images for 'test'; there are train, val"):
        evaluate_run(run, data=root, device=CPU)
    assert evaluate_run(run, "val", data=root, device=CPU)["images"] == 2


def test_an_official_search_has_no_test_figure(run: RunFolder) -> None:
    run.describe(splits="official")
    with pytest.raises(RunError, match="--split val"):
        evaluate_run(run, device=CPU)
    assert evaluate_run(run, "val", device=CPU)["images"] == 3


def test_what_cannot_be_measured_is_said(run: RunFolder) -> None:
    with pytest.raises(RunError, match="has no trial 9; there is 0 to 2"):
        evaluate_run(run, trial=9, device=CPU)
    with pytest.raises(RunError, match="choose another trial"):
        evaluate_run(run, trial=2, device=CPU)
    assert not run.test_file.exists()


def test_data_that_have_changed_are_refused(tmp_path: Path) -> None:
    study = tiny(write_plain(tmp_path / "voc"), tmp_path / "cache")
    run = searched(tmp_path / "results", study)
    trained(run, 0, study, miou=0.5)
    with pytest.raises(RunError, match="no trial of it has a value"):
        evaluate_run(searched(tmp_path / "empty", study), device=CPU)
    lists = tmp_path / "voc" / "ImageSets" / "Segmentation"
    (lists / "test.txt").write_text((lists / "test.txt").read_text().split()[0] + "\n")
    with pytest.raises(DataError, match="not those that the search was run on"):
        evaluate_run(run, device=CPU)


@pytest.fixture
def one_class(tmp_path: Path) -> tuple[RunFolder, Study]:
    """A search for one class, whose labels are cats on a background."""
    root = tmp_path / "cats"
    names = write_root(root, [1] * 8)
    write_lists(root, train=names[:4], val=names[4:6], test=names[6:])
    (root / "labelmap.txt").write_text("background:0,0,0::\ncat:224,64,64::\n")
    data = {"format": "voc", "path": root, "classes": ["background", "cat"]}
    study = tiny(root, tmp_path / "cache", data=data, objective={"metric": "f1"})
    run = searched(tmp_path / "results", study)
    trained(run, 0, study, f1=0.5, threshold=0.25, max_probability=0.75)
    return run, study


def test_the_threshold_is_that_of_validation(one_class: tuple[RunFolder, Study]) -> None:
    """Every pixel has the probability 0.3: the class is found at 0.25, and not at 0.5."""
    run, _ = one_class
    network = Constant([0.0, float(np.log(0.3 / 0.7))])
    found = asked(run, network, "test").metrics
    assert found["threshold"] == 0.25
    assert found["recall"] == 1.0
    assert found["max_probability"] == pytest.approx(0.3)
    assert asked(run, network, "test", threshold=0.5).metrics["recall"] == 0.0
    with pytest.raises(RunError, match="keeps no threshold"):
        asked(run, network, "test", threshold=None)


def test_the_positive_class_has_intervals(one_class: tuple[RunFolder, Study]) -> None:
    told = evaluate_run(one_class[0], device=CPU)
    assert {"f1", "precision", "recall", "positive_iou"} <= told["intervals"].keys()
    assert told["threshold"] == told["metrics"]["threshold"] == 0.25
    assert told["drop"].keys() == {"f1"}


def test_without_any_list_every_image_is_taken(tmp_path: Path) -> None:
    """Class folders have no lists."""
    from PIL import Image

    for name in ("apple", "bread"):
        (tmp_path / "dishes" / name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (40, 32), (90 * number, 7, 7)).save(
                tmp_path / "dishes" / name / f"{number}.png"
            )
    study = tiny(
        tmp_path / "dishes",
        tmp_path / "cache",
        task="classification",
        data={"format": "class_folders", "classes": ["apple", "bread"]},
        fixed={"architecture": "narrow", "image_size": 32, "batch_size": 4},
    )
    data = other_data(study.data, tmp_path / "dishes", tmp_path / "cache", "test")
    assert len(data.indices("test")) == 6
    assert data.indices("train") == ()


def call(run: RunFolder, *arguments: str) -> int:
    return main([run.name, *arguments, "--output", str(run.output)])


def test_the_command_says_what_it_found(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(run) == 0
    said = capsys.readouterr().out
    assert "opened for the first time" in said
    assert "drop" in said
    assert "test.json" in said
    assert call(run) == 0
    assert "opened 2 times" in capsys.readouterr().out
    assert call(run, "--split", "val", "--trial", "1") == 0
    assert "evaluation-val-trial" in capsys.readouterr().out
    (command,) = {o["command"] for o in json.loads(run.test_file.read_text())["openings"]}
    assert command.startswith("python -m raysearch.evaluate tiny/")


def test_the_command_refuses_what_cannot_be(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(run, "--trial", "9") == 2
    assert "has no trial 9" in capsys.readouterr().err
    with holder(run):
        assert call(run) == 2
    assert "measure when the search has ended" in capsys.readouterr().err
