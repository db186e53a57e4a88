"""Values are checked when they are read: what is wrong, where, and the repair."""

import pytest
from pydantic import ValidationError

from raysearch.config import Choice, DataConfig, Objective, Range, Recipe, nest


def test_loss_reads_as_a_sum_of_terms() -> None:
    recipe = Recipe.from_flat({"architecture": "unet", "loss": "focal + 0.5*dice"})
    assert recipe.loss == {"focal": 1.0, "dice": 0.5}


def test_dotted_keys_reach_one_entry_and_keep_the_others() -> None:
    recipe = Recipe.from_flat({"architecture": "unet", "loss.dice": 0.25, "loss": "focal"})
    assert recipe.loss == {"focal": 1.0, "dice": 0.25}
    assert nest({"network.width": 8}) == {"network": {"width": 8}}


def test_flat_recipe_reads_back_to_the_same_recipe() -> None:
    recipe = Recipe(architecture="unet", network={"width": 8}, loss={"dice": 1.0}, clip_norm=None)
    assert Recipe.from_flat(recipe.flat()) == recipe


@pytest.mark.parametrize(
    "values",
    [
        {"loss": "focal * 2"},
        {"loss": {"focal": 0.0}},
        {"loss": {"focal": 1.0, "dice": -1.0}},
        {"batch_size": 8, "accumulation": 3},
        {"augment_strength": 2.5},
        {"learning_rate": 0},
        {"precision": "half"},
        {"no_such_key": 1},
    ],
)
def test_a_recipe_refuses(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Recipe.from_flat({"architecture": "unet", **values})


def test_a_range_knows_what_lies_in_it() -> None:
    whole, real = Range(low=6, high=12), Range(low=1e-4, high=1e-3, log=True)
    assert whole.whole
    assert not real.whole
    assert whole.contains(6)
    assert not whole.contains(6.5)
    assert not whole.contains(True)
    assert not real.contains(0.01)
    assert not real.contains("a")


@pytest.mark.parametrize(
    "values", [{"low": 2, "high": 1}, {"low": 0, "high": 1, "log": True}, {"low": 1}]
)
def test_a_range_refuses(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Range.model_validate(values)


def test_a_condition_holds_for_one_value_or_a_list() -> None:
    choice = Choice(choices=[1], when={"architecture": ["unet", "fpn"]})
    assert choice.applies({"architecture": "fpn"})
    assert not choice.applies({"architecture": "segformer"})
    assert not choice.applies({})


def test_nan_beats_nothing() -> None:
    objective = Objective(metric="miou", mode="max")
    assert not objective.better(float("nan"), None)
    assert objective.better(0.0, None)
    assert Objective(metric="loss", mode="min").better(1.0, 2.0)


def test_classes_are_named_once() -> None:
    with pytest.raises(ValidationError, match="fox stands twice"):
        DataConfig(format="voc", classes=("background", "fox", "fox"))
