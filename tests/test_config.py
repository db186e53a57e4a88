"""Values are checked when they are read: what is wrong, where, and the repair."""

import pytest
from pydantic import ValidationError

from raysearch.config import (
    Choice,
    DataConfig,
    Goal,
    Objective,
    Range,
    Recipe,
    combinations,
    nest,
    parents_first,
)
from raysearch.config.study import EVALUATED
from raysearch.data.augmentation import classification


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
    "values",
    [
        {"low": 2, "high": 1},
        {"low": 0, "high": 1, "log": True},
        {"low": 1},
        {"low": 0, "high": 8, "step": 0.5},
        {"low": 0, "high": 8, "step": -1},
    ],
)
def test_a_range_refuses(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Range.model_validate(values)


def test_a_long_range_is_looked_at_where_it_tells_most() -> None:
    assert Range(low=64, high=640, step=96).examples() == [64, 160, 640]
    assert Range(low=8, high=256).probes() == [8, 9, 256]
    assert Range(low=8, high=8).probes() == [8]
    assert Range(low=8, high=12, step=2).examples() == [8, 10, 12]
    assert Range(low=0.5, high=2.0).probes() == [0.5, 2.0]


def test_combinations_follow_conditions() -> None:
    space: dict[str, Range | Choice] = {
        "batch": Choice(choices=[8, 16]),
        "parts": Choice(choices=[1, 2], when={"network": ["large"]}),
        "network": Choice(choices=["small", "large"]),
        "other": Choice(choices=[1, 2, 3]),
    }
    found = combinations(space, ["batch", "parts"], {})
    assert len(found) == 2 * (1 + 2)
    assert all(("parts" in values) == (values["network"] == "large") for values in found)
    assert {v["batch"] for v in combinations(space, ["batch", "parts"], {"batch": 5})} == {5}


def test_conditions_in_a_circle_are_refused() -> None:
    space = {
        "a": Choice(choices=[1], when={"b": 1}),
        "b": Choice(choices=[1], when={"a": 1}),
    }
    with pytest.raises(ValueError, match=r"a, b go round in a circle"):
        parents_first(space)


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


@pytest.mark.parametrize(
    ("metric", "mode"),
    [("val_loss", "min"), ("loss", "min"), ("gap", "min"), ("accuracy_gap", "min"), ("f1", "max")],
)
def test_the_better_end_follows_from_the_metric(metric: str, mode: str) -> None:
    assert Objective(metric=metric).mode == mode
    assert Objective.model_validate({"metric": metric, "mode": mode}).mode == mode
    other = {"min": "max", "max": "min"}[mode]
    with pytest.raises(ValidationError, match=f"set mode: {mode}"):
        Objective.model_validate({"metric": metric, "mode": other})


def test_a_goal_is_reached_from_its_own_side() -> None:
    more = Goal(metric="miou", target=0.8, stretch=0.9)
    less = Goal(metric="val_loss", target=0.5, stretch=0.2)
    assert [more.reached({"miou": value}) for value in (0.7, 0.8, 0.95)] == [
        "",
        "target",
        "stretch",
    ]
    told = [less.reached({"val_loss": value}) for value in (0.7, 0.5, 0.1, float("nan"))]
    assert told == ["", "target", "stretch", ""]
    assert less.reached({"miou": 0.1}) == ""
    for wrong in ({"metric": "miou", "stretch": 0.4}, {"metric": "val_loss", "stretch": 0.6}):
        with pytest.raises(ValidationError, match="swap them"):
            Goal.model_validate({"target": 0.5, **wrong})


def test_validation_cuts_what_the_study_reckons_with() -> None:
    assert EVALUATED == classification.EVALUATED


def test_classes_are_named_once() -> None:
    with pytest.raises(ValidationError, match="fox stands twice"):
        DataConfig(format="voc", classes=("background", "fox", "fox"))
