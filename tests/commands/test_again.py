"""`python -m raysearch.ensemble` with what trains again: finalists, refit, ablations, students."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from raysearch import ensemble
from raysearch.data.splits import read_splits
from raysearch.inference.models import load_model
from raysearch.inference.probabilities import candidates
from raysearch.records.run_folder import RunFolder, find_run, find_runs
from raysearch.search.again import distil

from .conftest import Workplace


def again(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    found = ensemble.main(["tiny", *arguments])
    told = capsys.readouterr()
    assert found == code, told.out + told.err
    return told.out + told.err


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def kinds(runs: Sequence[RunFolder]) -> list[str]:
    return [run.info["again"]["kind"] for run in runs if "again" in run.info]


@pytest.fixture
def run(workplace: Workplace, change: Callable[..., None]) -> RunFolder:
    """A search of two trials with few techniques to leave out."""
    change(fixed={"clip_norm": None, "elastic": False, "warmup": 0.0, "weight_decay": 0.0})
    workplace.tune("--trials", "2", "--epochs", "2", "--no-ensemble")
    return find_run("results", "tiny")


def test_finalists_are_trained_again_and_the_best_on_all_images(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:

    told = again(capsys, "--finalists", "2", "--seeds", "2", "--no-test")
    assert "from scratch" in told
    found = read(run.path / "finalists.json")
    assert [one["n"] for one in found["finalists"]] == [2, 2]
    (finalists,) = (one for one in find_runs("results") if "again" in one.info)
    assert [one.epochs for one in finalists.trials()] == [2] * 4  # None was cut.
    assert {one.recipe.seed for one in finalists.trials()} == {1, 2}
    places = [one["place"] for one in read(run.path / "ensemble.json")["candidates"]]
    own = len(candidates(run.path))
    assert len(places) == own + len(candidates(finalists.path)) > own

    assert read(run.path / "ensemble.json")["test"] is None
    assert "trained before" in again(capsys, "--finalists", "2", "--seeds", "2")
    assert kinds(find_runs("results")) == ["finalists"]
    assert find_run("results", "tiny").path == run.path

    opened = read(run.test_file)["opened"]
    told = again(capsys, "--refit")
    refit, before = read(run.path / "refit" / "ensemble.json"), read(run.path / "ensemble.json")
    assert {k: refit[k] for k in ("vote", "tta", "temperature", "threshold", "postprocessing")} == {
        k: before[k] for k in ("vote", "tta", "temperature", "threshold", "postprocessing")
    }
    assert [m["weight"] for m in refit["members"]] == [m["weight"] for m in before["members"]]
    assert refit["validation"] is None
    assert set(refit["test"]["rows"]) == {"model", "refit"}
    assert refit["test"]["rows"]["model"]["metrics"] == before["test"]["rows"]["model"]["metrics"]
    assert refit["test"]["minus_model"]["miou"][0] <= refit["test"]["minus_model"]["miou"][1]
    assert read(run.test_file)["opened"] == refit["test"]["opened"] == opened + 1
    on_all = find_runs("results")[-1]
    parts, kept = read_splits(on_all.splits_file), read_splits(run.splits_file)
    assert set(parts.train) == {*kept.train, *kept.val}
    assert parts.test == kept.test
    member, old = (load_model(path).members[0] for path in (run.path / "refit", run.path))
    assert member.metrics["epoch"] == old.metrics["epoch"]
    assert member.recipe.epochs == old.recipe.epochs == 2
    assert "learned from its validation images" in str(again_of(capsys, on_all.name, code=2))


@pytest.mark.slow
def test_techniques_are_left_out_and_a_student_learns(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    again(capsys, "--no-test")
    told = again(capsys, "--ablate")
    ablation = read(run.path / "ablation.json")
    assert ablation["champion"]["mean"] == pytest.approx(ablation["champion"]["searched"])
    names = {one["technique"] for one in ablation["techniques"]}
    assert names == {"augmentation", "boundary head", "schedule"}
    assert all(name in told for name in names)

    members = read(run.path / "ensemble.json")["members"]
    teachers = [run.path / one["place"] for one in members]
    recipe = run.trial(0).recipe
    student = distil(run, recipe, teachers, "python -m raysearch.export tiny")
    assert [record.state for record in student.trials()] == ["completed"]
    assert kinds(find_runs("results")) == ["ablation", "distillation"]
    assert find_run("results", "tiny").path == run.path


def again_of(capsys: pytest.CaptureFixture[str], name: str, code: int) -> str:
    assert ensemble.main([name]) == code
    return capsys.readouterr().err.replace("\n", " ")
