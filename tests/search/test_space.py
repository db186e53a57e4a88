"""What Optuna suggests and what a start point gives become one trial's values."""

import optuna
import pytest

from raysearch.config import Study
from raysearch.search.space import suggest, told

from .conftest import small_study


def fixed_trial(**values: object) -> optuna.trial.FixedTrial:
    return optuna.trial.FixedTrial(values)


@pytest.mark.parametrize(("architecture", "has_dropout"), [("unet", False), ("wide", True)])
def test_a_conditional_value_exists_only_where_its_condition_holds(
    study: Study, architecture: str, has_dropout: bool
) -> None:
    trial = fixed_trial(
        architecture=architecture, learning_rate=5e-4, batch_size=3, loss="focal",
        **{"network.dropout": 0.25},
    )  # fmt: skip
    values = suggest(trial, study, {})
    assert values["batch_size"] == 3
    assert ("network.dropout" in values) == has_dropout
    assert study.recipe(values).network == ({"dropout": 0.25} if has_dropout else {})


def test_a_start_point_stands_also_outside_the_space(study: Study) -> None:
    start = {
        "architecture": "unet",
        "learning_rate": 0.01,
        "batch_size": 4,
        "loss": "cross_entropy",
    }
    journal = optuna.create_study()
    journal.enqueue_trial(told(study, start))
    trial = journal.ask()
    recipe = study.recipe(suggest(trial, study, start))
    assert (recipe.learning_rate, recipe.batch_size) == (0.01, 4)
    assert recipe.loss == {"cross_entropy": 1.0}
    assert trial.params == {"architecture": "unet", "batch_size": 4}


def test_whole_ranges_stay_whole_and_steps_are_kept() -> None:
    space = {"architecture": ["unet"], "crop_size": {"low": 32, "high": 96, "step": 32}}
    study = small_study(space=space, fixed={})
    journal = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    sizes = {suggest(journal.ask(), study, {})["crop_size"] for _ in range(30)}
    assert sizes == {32, 64, 96}
