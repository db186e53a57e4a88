"""Ensembles in MLflow's records and its model registry, on a real database."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from raysearch.config import Objective
from raysearch.errors import RunError
from raysearch.inference.models import load_model
from raysearch.records import registry
from raysearch.records.mlflow_tree import DATABASE, connect, tracking_uri
from raysearch.records.registry import Standing, bundle_of, compare, publish
from raysearch.records.run_folder import RunFolder
from raysearch.records.tracking import fill
from tests.records.ensembles import made_again, with_ensemble

AWAY = "http://127.0.0.1:9"
SEED = [{"temperature": 1.0 + number} for number in range(9)]  # Each makes another model.


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_ensemble(tmp_path_factory.mktemp("left")).path


@pytest.fixture
def search(
    left: Path, tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> RunFolder:
    """A search with an ensemble beside an empty MLflow database."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    copy = tmp_path / "results" / "tiny" / left.name
    shutil.copytree(left, copy)
    shutil.copy(empty_database, tmp_path / "results" / DATABASE)
    return RunFolder.open(copy)


def client(run: RunFolder) -> Any:
    return connect(tracking_uri(run.output))


def runs(run: RunFolder) -> dict[str, Any]:
    """The recorded runs by what they are: search, ensemble, trial 0, trial 1."""
    records = client(run)
    found = records.search_runs([records.get_experiment_by_name("tiny").experiment_id])
    tags = [(one, one.data.tags) for one in found]
    return {f"{t['raysearch.role']} {t.get('trial', '')}".strip(): one for one, t in tags}


def champion(run: RunFolder) -> Any:
    return client(run).get_model_version_by_alias("tiny", "champion")


def versions(run: RunFolder) -> int:
    return len(client(run).search_model_versions("name = 'tiny'"))


def test_the_ensemble_is_a_run_beside_its_members(search: RunFolder) -> None:
    made_again(search, 0.75)
    said = publish(search)
    assert said == (
        "registered as tiny version 1, the champion: the first of its name, test miou 0.7500"
    )
    found = runs(search)
    assert found.keys() == {"search", "ensemble", "trial 0", "trial 1"}
    ensemble = found["ensemble"]
    assert ensemble.data.tags["mlflow.parentRunId"] == found["search"].info.run_id
    assert ensemble.info.status == "FINISHED"
    assert ensemble.data.tags["members"] == "0 (0.5), 1 (0.5)"
    for number in (0, 1):
        member = found[f"trial {number}"]
        assert member.data.tags["ensemble_member"] == "0.5"
        assert member.data.tags["ensemble_run"] == ensemble.info.run_id
        assert member.info.run_id in ensemble.data.tags["mlflow.note.content"]
    metrics = ensemble.data.metrics
    assert metrics["test/miou"] == 0.75
    told = {"miou", "iou/cat", "test/miou_low", "test/iou/cat", "drop/miou", "test_single/miou"}
    assert told | {"test/seconds_per_image", "seconds_per_image"} <= metrics.keys()
    records = client(search)
    pictures = {
        Path(one.path).name for one in records.list_artifacts(ensemble.info.run_id, "pictures")
    }
    assert pictures == {"predictions.png", "confusion.png"}
    assert records.list_artifacts(ensemble.info.run_id, "images")

    version = champion(search)
    assert version.run_id == ensemble.info.run_id
    assert version.tags["run"] == search.name
    assert version.tags["test_value"] == "0.75"


def test_a_better_one_becomes_champion_and_a_worse_one_does_not(search: RunFolder) -> None:
    made_again(search, 0.5, **SEED[0])
    publish(search)
    assert publish(search) == "registered as tiny version 1, the champion"
    made_again(search, 0.625, **SEED[1])
    said = "registered as tiny version 2, the champion: test miou 0.6250 > 0.5000 of version 1"
    assert publish(search) == said
    made_again(search, 0.375, **SEED[2])
    said = "registered as tiny version 3; version 2 stays champion: test miou 0.3750 < 0.6250"
    assert publish(search) == said
    assert publish(search) == said
    assert champion(search).version == 2
    assert versions(search) == 3
    assert len([name for name in runs(search) if name == "ensemble"]) == 1
    assert runs(search)["ensemble"].data.metrics["test/miou"] == 0.375


def test_a_champion_chosen_by_hand_stays(search: RunFolder) -> None:
    made_again(search, 0.5, **SEED[0])
    publish(search)
    made_again(search, 0.625, **SEED[1])
    publish(search)
    client(search).set_registered_model_alias("tiny", "champion", "1")
    assert publish(search).startswith("registered as tiny version 2; version 1 stays champion")
    assert champion(search).version == 1


def test_other_test_images_are_no_comparison(search: RunFolder) -> None:
    made_again(search, 0.5, **SEED[0])
    publish(search)
    made_again(search, 0.75, **SEED[1], data_digest="other")
    assert publish(search) == (
        "registered as tiny version 2; version 1 stays champion: it was measured on other test "
        "images (test miou 0.7500 of the new one)"
    )


def test_members_that_are_left_out_lose_their_tags(search: RunFolder) -> None:
    publish(search)
    member = {"trial": 1, "run": None, "place": "trials/0001/best", "weight": 1.0}
    made_again(search, 0.5, members=[member])
    publish(search)
    found = runs(search)
    assert "ensemble_member" not in found["trial 0"].data.tags
    assert found["trial 1"].data.tags["ensemble_member"] == "1"


def measured(value: float | None, data: str = "a", metric: str = "miou") -> Standing:
    return Standing(metric, value, data)


@pytest.mark.parametrize(
    ("new", "old", "mode", "wins", "why"),
    [
        (measured(0.5), None, "max", True, "the first of its name, test miou 0.5000"),
        (measured(None), None, "max", True, "the first of its name"),
        (measured(0.5), measured(0.4), "max", True, "test miou 0.5000 > 0.4000"),
        (measured(0.5), measured(0.5), "max", False, "test miou 0.5000 = 0.5000"),
        (measured(0.5), measured(0.4), "min", False, "test miou 0.5000 > 0.4000"),
        (measured(0.3), measured(0.4), "min", True, "test miou 0.3000 < 0.4000"),
        (measured(None), measured(0.4), "max", False, "the new one was not measured"),
        (measured(0.5), measured(None), "max", False, "it was not measured"),
        (measured(0.5), measured(0.4, "b"), "max", False, "on other test images"),
        (measured(0.5), measured(0.4, metric="f1"), "max", False, "by another metric"),
    ],
)
def test_who_is_champion(
    new: Standing, old: Standing | None, mode: str, wins: bool, why: str
) -> None:
    metric = {"max": "miou", "min": "val_loss"}[mode]
    told = compare(new, old, Objective.model_validate({"metric": metric, "mode": mode}))
    assert told[0] is wins
    assert why in told[1]


def test_a_server_that_is_away_is_said_and_filled_later(
    search: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    said = publish(search, AWAY)
    assert said.startswith(f"not registered: MLflow at {AWAY} is behind")
    assert f"python -m raysearch.runs fill {search.name}" in said
    assert fill(search).startswith("registered as tiny version 1, the champion")
    assert runs(search).keys() == {"search", "ensemble", "trial 0", "trial 1"}


def test_a_search_without_ensemble_needs_nothing(search: RunFolder) -> None:
    (search.path / "ensemble.json").unlink()
    assert publish(search) == ""
    assert fill(search) == ""


def test_images_that_are_gone_cost_pictures_only(
    search: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: Any) -> None:
        raise RunError("gone")

    monkeypatch.setattr(registry, "answer_probes", gone)
    assert publish(search).startswith("registered as tiny version 1")


def test_a_registered_model_is_a_bundle(search: RunFolder) -> None:
    publish(search)
    for uri in ("models:/tiny@champion", "models:/tiny/1"):
        bundle = bundle_of(uri, search.output)
        assert load_model(bundle).weights == (0.5, 0.5)
    with pytest.raises(RunError, match="other not found"):
        bundle_of("models:/other@champion", search.output)
    with pytest.raises(RunError, match="must read models:/NAME@champion"):
        bundle_of("models:/tiny", search.output)
    with pytest.raises(RunError, match="no records yet"):
        bundle_of("models:/tiny@champion", search.output / "elsewhere")
