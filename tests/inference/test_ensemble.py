"""`python -m raysearch.ensemble`, on a search as it was left."""

import json

import numpy as np
import pytest
import torch

from raysearch.config import Task
from raysearch.ensemble import main
from raysearch.errors import RunError
from raysearch.inference.models import load_model
from raysearch.inference.selection import Limits
from raysearch.inference.tallies import Tallies
from raysearch.records.ensemble import ensemble_run
from raysearch.records.evaluation import evaluate_run
from raysearch.records.run_folder import RunFolder
from raysearch.study import load_study
from tests.inference.conftest import trained
from tests.records.test_lock import holder

CPU = torch.device("cpu")


@pytest.fixture
def several(run: RunFolder) -> RunFolder:
    """The search with three more trials, of which an ensemble can be made."""
    study = load_study(str(run.study_file))
    for number in (3, 4, 5):
        trained(run, number, study, miou=0.1)
    return run


@pytest.fixture
def shared(services: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command uses the Ray and the MLflow of all tests."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", services)


def call(run: RunFolder, *arguments: str) -> int:
    return main([run.name, *arguments, "--output", str(run.output)])


def test_what_is_written_is_a_model_with_its_figures(several: RunFolder) -> None:
    said: list[str] = []
    told = ensemble_run(several, command="python -m raysearch.ensemble tiny", say=said.append)
    kept = json.loads((several.path / "ensemble.json").read_text())
    assert kept == told
    model = load_model(several.path)
    assert [int(m.folder.name) for m in model.members] == [m["trial"] for m in kept["members"]]
    assert list(kept["validation"]) == list(kept["test"]["rows"])
    for name, row in kept["test"]["rows"].items():
        before = kept["validation"][name]["metrics"]["miou"]
        assert row["drop"]["miou"] == pytest.approx(before - row["metrics"]["miou"])
        low, high = row["intervals"]["miou"]
        assert low <= high
        assert row["seconds_per_image"] > 0
        assert 0 <= row["calibration_error"] <= 1
    assert {"ensemble", "ensemble + TTA", "model"} == kept["test"]["minus_single"].keys()
    assert len(kept["candidates"]) == 5
    assert "opening the test split" in said


def test_every_opening_is_counted_with_those_of_evaluate(several: RunFolder) -> None:
    evaluate_run(several, device=CPU)
    before = json.loads(several.test_file.read_text())
    assert ensemble_run(several, command="ensemble")["test"]["opened"] == 2
    after = json.loads(several.test_file.read_text())
    assert after["metrics"] == before["metrics"]
    assert [one["command"] for one in after["openings"]] == [None, "ensemble"]
    assert evaluate_run(several, device=CPU)["opened"] == 3


def test_the_first_opening_leaves_the_best_single_in_test_json(several: RunFolder) -> None:
    told = ensemble_run(several, command="ensemble")
    tested = json.loads(several.test_file.read_text())
    assert tested["opened"] == 1
    assert tested["metrics"] == told["test"]["rows"]["single"]["metrics"]
    again = evaluate_run(several, trial=tested["trial"], device=CPU)
    assert tested.keys() >= again.keys() - {"nll", "calibration_error"}
    assert tested["metrics"] == pytest.approx(again["metrics"])


@pytest.mark.usefixtures("shared")
def test_the_test_split_may_stay_closed(
    several: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(several, "--no-test", "--members", "2") == 0
    assert "stays closed" in capsys.readouterr().out
    assert not several.test_file.exists()
    assert len(json.loads((several.path / "ensemble.json").read_text())["members"]) <= 2


def test_an_official_search_has_no_test_figure(several: RunFolder) -> None:
    several.describe(splits="official")
    assert ensemble_run(several)["test"] is None
    assert not several.test_file.exists()


@pytest.mark.usefixtures("shared")
def test_the_command_says_what_it_found(
    several: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(several) == 0
    said = capsys.readouterr().out
    for text in ("opened for the first time", "paired 95 % interval", "calibration error", "drop"):
        assert text in said
    for row in ("single", "single + TTA", "ensemble", "ensemble + TTA"):
        assert f"\n{row} " in said
    assert call(several, "--max-ms", "1e9", "--max-gb", "5") == 0
    assert "opened 2 times" in capsys.readouterr().out


@pytest.mark.usefixtures("shared")
def test_the_command_refuses_what_cannot_be(
    several: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(several, "--max-ms", "1e-9") == 2
    assert "no trial is within the limits" in capsys.readouterr().err
    with holder(several):
        assert call(several) == 2
    assert "when the search has ended" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        call(several, "--members", "0")
    assert "invalid whole number above 0 value" in capsys.readouterr().err


def test_a_search_without_weights_has_no_ensemble(several: RunFolder) -> None:
    for path in several.trials_folder.glob("*/best"):
        path.rename(path.with_name("gone"))
    with pytest.raises(RunError, match="kept its weights"):
        ensemble_run(several, Limits())


def tallied(answers: list[list[int]], labels: list[list[int]]) -> Tallies:
    found = Tallies(Task("segmentation", 3, ("ground", "cat", "dog")))
    for answer, label in zip(answers, labels, strict=True):
        logits = torch.eye(3)[torch.tensor(answer)].T[None, :, None]
        found.update(logits, torch.tensor(label)[None])
    return found


def test_a_paired_interval_is_of_the_same_drawn_images() -> None:
    """One network is right on one pixel more of every image, so the gain never varies."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, (12, 10)).tolist()
    wrong = [
        [(one + 1) % 3 if at < random.integers(1, 8) else one for at, one in enumerate(row)]
        for row in labels
    ]
    for row, label in zip(wrong, labels, strict=True):
        row[9] = (label[9] + 1) % 3
    better = [[*row[:9], label[9]] for row, label in zip(wrong, labels, strict=True)]
    gain = tallied(better, labels).difference(tallied(wrong, labels))
    low, high = gain["pixel_accuracy"]
    assert low == pytest.approx(0.1)
    assert high == pytest.approx(0.1)
    alone = tallied(better, labels).bootstrap()["pixel_accuracy"]
    assert alone[1] - alone[0] > 0.05
    assert gain["miou"][0] > 0
    with pytest.raises(ValueError, match="12 images"):
        tallied(better, labels).difference(tallied(wrong[:3], labels[:3]))
