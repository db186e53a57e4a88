"""Studies are found by name or path; every mistake names the file, the key and the repair."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from raysearch.errors import ConfigError
from raysearch.study import (
    find,
    folders,
    load_study,
    parse_value,
    profile_names,
    read_yaml,
    single,
    to_yaml,
)

SHIPPED = sorted(path.stem for folder in folders() for path in folder.glob("*.yaml"))

MINIMAL: dict[str, Any] = {
    "name": "mine",
    "data": {"format": "voc", "classes": ["background", "cat"]},
    "networks": {"unet": {"type": "unet", "width": 8}, "fpn": {"type": "smp", "decoder": "fpn"}},
    "space": {
        "architecture": ["unet", "fpn"],
        "learning_rate": {"low": 1e-4, "high": 1e-3, "log": True},
        "network.dropout": {"low": 0.0, "high": 0.5, "when": {"architecture": "unet"}},
    },
    "fixed": {"crop_size": 64},
    "start": [{"architecture": "unet", "loss": "focal", "learning_rate": 0.01, "crop_size": 512}],
    "budget": {"trials": 4, "epochs": 10},
    "profiles": {
        "tiny": {
            "networks": {"unet": {"type": "unet", "width": 4}},
            "fixed": {"learning_rate": 5e-4},
            "budget": {"epochs": 2},
        }
    },
}


SPACE = MINIMAL["space"]
PHOTOGRAPHS: dict[str, Any] = {
    "name": "photographs",
    "task": "classification",
    "data": {"format": "class_folders", "classes": ["apple", "bread"]},
    "networks": {"b0": {"type": "timm"}, "b3": {"type": "timm"}},
    "space": {"architecture": ["b0", "b3"]},
    "fixed": {"image_size": 224},
    "start": [],
    "budget": {"trials": 4},
    "profiles": {},
}


def write(folder: Path, **changes: Any) -> str:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, **changes}), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_study_reads_with_each_of_its_profiles(name: str, tmp_path: Path) -> None:
    for profile in [None, *profile_names(name)]:
        study = load_study(name, profile)
        resolved = tmp_path / "study.yaml"
        resolved.write_text(to_yaml(study), encoding="utf-8")
        assert load_study(str(resolved)) == study


def test_animals_offers_what_the_report_searched_and_found() -> None:
    study = load_study("animals", "full")
    space = study.space
    assert (space["learning_rate"].ends(), space["learning_rate"].log) == ([1e-4, 1e-3], True)
    assert space["focal_alpha"].ends() == [0.5, 0.9]
    assert space["focal_gamma"].ends() == [2.0, 4.0]
    assert space["boundary_weight"].ends() == [0.1, 0.5]
    assert space["batch_size"].ends() == [6, 12]
    recipes = [study.recipe(values) for values in study.start_values()]
    found = [(r.architecture, r.learning_rate, r.boundary_weight, r.batch_size) for r in recipes]
    assert found[1:] == [
        ("unet", 1e-3, 1.0, 8),
        ("attention_unet", 1e-3, 1.0, 8),
        ("efficientnet_b3", 5e-4, 0.3, 8),
    ]
    assert [r.loss for r in recipes[1:]] == [{"cross_entropy": 1.0}, {"focal": 1.0}, {"focal": 1.0}]
    assert [(r.focal_alpha, r.focal_gamma) for r in recipes[2:]] == [(0.25, 2.0), (0.75, 3.0)]
    assert {r.crop_size for r in recipes} == {512}


def test_yaml_numbers_without_a_point_are_numbers(tmp_path: Path) -> None:
    path = write(tmp_path)
    Path(path).write_text(Path(path).read_text().replace("0.001", "1e-3"), encoding="utf-8")
    assert load_study(path).space["learning_rate"].ends()[1] == 1e-3
    assert parse_value("1e-4") == 1e-4


def test_a_profile_replaces_networks_and_fixes_what_was_searched(tmp_path: Path) -> None:
    study = load_study(write(tmp_path), "tiny")
    assert study.networks["unet"] == {"type": "unet", "width": 4}
    assert "learning_rate" not in study.space
    assert study.recipe({"architecture": "unet"}).learning_rate == 5e-4
    assert study.profile == "tiny"
    assert study.budget.epochs == 2
    assert study.budget.trials == 4


def test_what_is_fixed_takes_the_place_of_a_start_points_value(tmp_path: Path) -> None:
    study = load_study(write(tmp_path))
    assert "crop_size" not in study.start_values()[0]
    assert study.recipe(study.start_values()[0]).crop_size == 64


def test_single_holds_one_recipe_and_nothing_to_search(tmp_path: Path) -> None:
    study = load_study(write(tmp_path))
    recipe = study.recipe({"architecture": "fpn", "learning_rate": 3e-4}, seed=0)
    alone = tmp_path / "best.yaml"
    alone.write_text(to_yaml(single(study, recipe)), encoding="utf-8")
    read = load_study(str(alone))
    assert read.recipe({}) == recipe
    assert (read.space, read.start, read.budget.trials) == ({}, [], 1)


@pytest.mark.parametrize(
    ("change", "key", "value"),
    [
        ("budget.trials=9", "budget", ("trials", 9)),
        ("fixed.schedule=plateau", "fixed", ("schedule", "plateau")),
        ("space.learning_rate.high=0.5", "space", ("learning_rate", 0.5)),
    ],
)
def test_set_changes_one_key(change: str, key: str, value: tuple[str, Any], tmp_path: Path) -> None:
    study = load_study(write(tmp_path), changes=[change])
    part = getattr(study, key)
    found = part[value[0]] if isinstance(part, dict) else getattr(part, value[0])
    assert (found.ends()[1] if key == "space" else found) == value[1]


def test_set_fixes_what_was_searched(tmp_path: Path) -> None:
    study = load_study(write(tmp_path), changes=["fixed.learning_rate=2e-4"])
    assert "learning_rate" not in study.space
    assert study.fixed["learning_rate"] == 2e-4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"budgets": {}}, ["unknown key 'budgets'", "Did you mean 'budget'?"]),
        ({"budget": {"epochs": 3}}, ["never end"]),
        ({"budget": {"trials": "many"}}, ["budget.trials", "'many'", "write a number"]),
        ({"fixed": {"learning_rat": 1}}, ["'learning_rat'", "'learning_rate'"]),
        ({"fixed": {"learning_rate": 1e-3}}, ["learning_rate stands in space and in fixed"]),
        ({"fixed": {"epochs": 3}}, ["budget.epochs"]),
        ({"space": {"architecture": ["unet", "unett"]}}, ["'unett'", "Did you mean 'unet'?"]),
        ({"space": {"learning_rate": {"low": 1e-4, "high": 1e-3}}}, ["architecture is neither"]),
        (
            {"space": {**MINIMAL["space"], "focal_alpha": {"low": 0.5, "high": 1.5}}},
            ["focal_alpha", "1.5"],
        ),
        (
            {
                "space": {
                    **MINIMAL["space"],
                    "ema_decay": {"low": 0, "high": 0.9, "when": {"lo": 1}},
                }
            },
            ["space.ema_decay.when", "'lo'"],
        ),
        ({"start": [{"architecture": "vnet"}]}, ["start[0]", "'vnet'", "Did you mean 'unet'?"]),
        ({"data": {"classes": ["a", "b"]}}, ["data.format is missing"]),
        ({"fixed": {"crop_size": 80}}, ["crop_size: 80", "multiple of 32", "64 or 96"]),
        (
            {"fixed": {}, "space": {**SPACE, "crop_size": {"low": 64, "high": 512}}},
            ["crop_size: 65", "64 or 96"],
        ),
        (
            {"space": {**SPACE, "batch_size": [6, 8], "accumulation": [1, 4]}},
            ["batch_size 6", "accumulation 4"],
        ),
        (
            {
                "fixed": {"accumulation": 2},
                "space": {**SPACE, "batch_size": {"low": 8, "high": 200}},
            },
            ["batch_size 9", "accumulation 2"],
        ),
        (
            {
                "space": {**SPACE, "batch_size": [6, 8]},
                "start": [{"architecture": "unet", "accumulation": 4}],
            },
            ["start[0]", "batch_size 6", "accumulation 4"],
        ),
        (
            {"space": {**SPACE, "compile": [False, True], "gradient_checkpointing": [False, True]}},
            ["compile and gradient_checkpointing"],
        ),
        (
            {"space": {**SPACE, "batch_size": {"low": 2.0, "high": 8.0}}},
            ["space.batch_size", "whole numbers"],
        ),
        (
            {"data": {**MINIMAL["data"], "cache_side": 400}},
            ["data.cache_side", "stored as they are"],
        ),
        ({"objective": {"metric": "threshold"}}, ["'threshold' does not say how good a trial is"]),
        (
            {"objective": {"goal": {"metric": "max_probability", "target": 0.5}}},
            ["objective.goal.metric", "'max_probability'"],
        ),
        ({"objective": {"metric": "val_loss", "mode": "max"}}, ["objective", "mode: min"]),
        ({"profiles": {"tiny": {"data": {}}}}, ["profiles.tiny.data"]),
    ],
)
def test_a_wrong_study_is_one_clear_error(
    changes: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(ConfigError) as error:
        load_study(path, "tiny" if "profiles" in changes else None)
    for word in [path, *words]:
        assert word in str(error.value)


def test_parts_that_never_meet_need_not_go_together(tmp_path: Path) -> None:
    space = {
        **SPACE,
        "batch_size": {"choices": [6, 8], "when": {"architecture": "unet"}},
        "accumulation": {"choices": [1, 4], "when": {"architecture": "fpn"}},
    }
    load_study(write(tmp_path, space=space))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("quarter_turns", True),
        ("boundary_weight", 0.1),
        ("boundary_positive_weight", 2.0),
        ("crop_size", 64),
        ("pixel_weights", True),
        ("elastic", False),
        ("tversky_alpha", 0.3),
    ],
)
def test_values_of_pixels_are_refused_for_whole_images(
    key: str, value: object, tmp_path: Path
) -> None:
    fixed = {**PHOTOGRAPHS, "fixed": {**PHOTOGRAPHS["fixed"], key: value}}
    searched = {**PHOTOGRAPHS, "space": {**PHOTOGRAPHS["space"], key: [value]}}
    for part, study in (("fixed", fixed), ("space", searched)):
        with pytest.raises(ConfigError, match=rf"{part}\.{key} changes nothing .* take it out"):
            load_study(write(tmp_path, **study))


def test_a_best_trial_of_whole_images_reads_back(tmp_path: Path) -> None:
    """It says the recipe's own values of what does not act."""
    study = load_study(write(tmp_path, **PHOTOGRAPHS))
    recipe = study.recipe({"architecture": "b3"})
    alone = tmp_path / "best.yaml"
    alone.write_text(to_yaml(single(study, recipe)), encoding="utf-8")
    assert load_study(str(alone)).recipe({}) == recipe


def test_a_cache_is_as_large_as_what_is_cut_from_it(tmp_path: Path) -> None:
    sizes = {**PHOTOGRAPHS["space"], "image_size": {"low": 224, "high": 384, "step": 4}}
    changes = {**PHOTOGRAPHS, "fixed": {}, "space": sizes}
    data = PHOTOGRAPHS["data"]
    with pytest.raises(ConfigError, match=r"data\.cache_side: 400 is less .* set it to 438"):
        load_study(write(tmp_path, **{**changes, "data": {**data, "cache_side": 400}}))
    load_study(write(tmp_path, **{**changes, "data": {**data, "cache_side": 438}}))


def test_the_objective_turns_with_its_metric(tmp_path: Path) -> None:
    study = load_study(write(tmp_path, objective={"metric": "val_loss"}))
    assert study.objective.mode == "min"
    assert load_study(write(tmp_path, objective={})).objective.mode == "max"


def test_unknown_names_are_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'animals'"):
        load_study("animal")
    with pytest.raises(ConfigError, match="Did you mean 'tiny'"):
        load_study(write(tmp_path), "tinny")
    with pytest.raises(ConfigError, match="no such file"):
        load_study(str(tmp_path / "none.yaml"))


@pytest.mark.parametrize("text", ["a: [1", "- 1", "a: 1\na: 2", "name: !!python/object:os.x {}"])
def test_what_is_no_study_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"x\.yaml"):
        load_study(str(path))


def test_a_yaml_of_the_working_directory_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(MINIMAL), encoding="utf-8")
    assert find("mine") == Path("mine.yaml")
    assert find("animals").name == "animals.yaml"


def test_a_key_that_stands_twice_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text(
        "name: x\ndata:\n  format: voc\n  bands: 3\n  format: pairs\n", encoding="utf-8"
    )
    with pytest.raises(ConfigError, match="line 5: the key 'format' stands twice"):
        read_yaml(path)
