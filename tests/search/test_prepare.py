"""What is brought to its place before the first trial."""

from pathlib import Path
from typing import Any

import pytest

from raysearch.config import Study
from raysearch.errors import WeightsError
from raysearch.search import prepare
from raysearch.study import load_study


@pytest.fixture
def nothing_to_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(spec: dict[str, Any], folder: Path) -> dict[str, Any]:
        if spec.get("encoder_weights") is None:
            return spec
        raise WeightsError(f"{spec['encoder']}: no network. Either name a copy, or do without")

    monkeypatch.setattr(prepare, "fetch", fetch)


def pretrained() -> dict[str, str]:
    networks = load_study("animals").networks
    return {
        name: str(spec["encoder"]) for name, spec in networks.items() if spec.get("encoder_weights")
    }


@pytest.mark.usefixtures("nothing_to_fetch")
def test_networks_without_their_weights_are_named_in_one_note(tmp_path: Path) -> None:
    study = allowing(load_study("animals"))
    brought, (note,) = prepare.bring_weights(study, tmp_path)
    without = pretrained()
    assert len(without) > 1
    assert all(brought.networks[name]["encoder_weights"] is None for name in without)
    assert all(f"{name} ({encoder})" in note for name, encoder in without.items())
    assert note.startswith("random weights for ")
    assert note.count("no network") == 1


@pytest.mark.usefixtures("nothing_to_fetch")
def test_a_study_that_wants_its_weights_is_refused_without(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no network"):
        prepare.bring_weights(load_study("animals"), tmp_path)


def allowing(study: Study) -> Study:
    return study.model_copy(update={"allow_random_weights": True})
