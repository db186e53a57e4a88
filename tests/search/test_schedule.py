"""ASHA compares within an architecture, and counts earlier sessions in."""

from types import SimpleNamespace
from typing import Any

import pytest

from raysearch.config import Recipe, Study
from raysearch.records.run_folder import TrialRecord
from raysearch.search.schedule import AshaByArchitecture, first_rung, rungs

from .conftest import small_study


def trial(number: int, architecture: str) -> Any:
    return SimpleNamespace(config={"number": number, "architecture": architecture})


def report(asha: AshaByArchitecture, number: int, architecture: str, value: float) -> str:
    it = trial(number, architecture)
    asha.on_trial_add(None, it)
    return asha.on_trial_result(None, it, {"epoch": 3, "best": value})


def test_a_weak_trial_is_stopped_within_its_architecture_only(study: Study) -> None:
    asha = AshaByArchitecture(study)
    for number, value in enumerate([0.5, 0.6, 0.7]):
        report(asha, number, "unet", value)
    assert report(asha, 3, "wide", 0.1) == "CONTINUE"
    assert report(asha, 4, "unet", 0.1) == "STOP"
    assert 4 in asha.stopped


def test_earlier_sessions_fill_the_rungs(study: Study) -> None:
    recipe = Recipe(architecture="unet")
    history = [{"epoch": epoch, "best": 0.1 * epoch} for epoch in range(1, 13)]
    earlier = [TrialRecord(number, recipe, history=history) for number in range(3)]
    assert report(AshaByArchitecture(study, earlier), 9, "unet", 0.1) == "STOP"
    assert report(AshaByArchitecture(study), 9, "unet", 0.1) == "CONTINUE"


def test_an_epoch_without_a_value_fills_no_rung(study: Study) -> None:
    """A class that no validation image shows has no metric, and no best yet."""
    history = [{"epoch": 3, "best": None}, {"epoch": 4, "best": 0.9}]
    asha = AshaByArchitecture(study, [TrialRecord(7, Recipe(architecture="unet"), history=history)])
    assert report(asha, 8, "unet", 0.1) == "STOP"


def test_a_trial_taken_up_again_is_compared_once(study: Study) -> None:
    history = [{"epoch": 3, "best": 0.2}]
    asha = AshaByArchitecture(study, [TrialRecord(7, Recipe(architecture="unet"), history=history)])
    assert report(asha, 7, "unet", 0.9) == "CONTINUE"
    assert report(asha, 8, "unet", 0.1) == "STOP"


def test_a_last_or_failed_result_is_never_cut(study: Study) -> None:
    asha = AshaByArchitecture(study)
    it = trial(0, "unet")
    asha.on_trial_add(None, it)
    assert asha.on_trial_result(None, it, {"failed": "exception"}) == "CONTINUE"
    last = {"epoch": 12, "best": 0.0, "finished": "max epochs"}
    assert asha.on_trial_result(None, it, last) == "CONTINUE"
    assert not asha.stopped


@pytest.mark.parametrize(
    ("epochs", "warmup", "expected"), [(12, 0.0, 3), (200, 0.025, 50), (10, 0.4, 5), (2, 0.4, 1)]
)
def test_the_first_rung_comes_after_the_warm_up(epochs: int, warmup: float, expected: int) -> None:
    study = small_study(
        fixed={"warmup": warmup, "crop_size": 32}, budget={"trials": 1, "epochs": epochs}
    )
    assert first_rung(study) == expected
    assert all(rung > warmup * epochs for rung in rungs(study))


def test_rungs_grow_by_the_reduction_factor(study: Study) -> None:
    assert rungs(study) == [3, 9]
