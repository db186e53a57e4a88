"""Given recipes are trained as they are; techniques are left out one by one; figures are ranked."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raysearch.config import Recipe, Study
from raysearch.data.splits import Splits
from raysearch.records.again import (
    FINALISTS,
    Again,
    recipes_of,
    spread,
    write_ablation,
    write_finalists,
)
from raysearch.records.run_folder import RunFolder, find_run
from raysearch.search.again import _on_all
from raysearch.search.book import Book
from raysearch.search.retention import Retention
from raysearch.search.sampler import OptunaSearcher, open_journal
from raysearch.search.schedule import rungs
from raysearch.search.techniques import CHAMPION, TECHNIQUES, without_each
from raysearch.study import given, load_study, to_yaml
from raysearch.training.history import append_epoch

from .conftest import small_study

SPLITS = Splits(("a", "b"), ("c",), ("d",), "honest")


def recipe(**values: Any) -> Recipe:
    base = {"architecture": "unet", "crop_size": 32, "epochs": 12}
    return Recipe.from_flat(base | values)


def searched(output: Path, study: Study) -> RunFolder:
    run = RunFolder.create(output, study.name)
    run.write("study.yaml", to_yaml(study))
    run.write("splits.json", SPLITS.to_json())
    return run


def trial(run: RunFolder, number: int, one: Recipe, value: float, state: str = "completed") -> None:
    run.begin_trial(number, one)
    append_epoch(run.trial_folder(number), {"epoch": 1, "miou": value, "time": 0.0})
    run.end_trial(number, state, "max epochs", small_study().objective)


def begun(again: Again) -> RunFolder:
    """A run that was given its recipes and has trained none."""
    run = RunFolder.create(again.of.output, "small", again=again.info)
    run.write("study.yaml", to_yaml(given(small_study(), again.recipes)))
    run.write("splits.json", again.parts.to_json())
    again.write(run)
    return run


def finalists(run: RunFolder, *pairs: tuple[int, int]) -> Again:
    about = tuple({"trial": number, "seed": seed} for number, seed in pairs)
    recipes = tuple(recipe(seed=seed, batch_size=4 + number) for number, seed in pairs)
    return Again(run, FINALISTS, recipes, about)


class TestGivenRecipes:
    def test_they_are_trained_in_their_order_and_again_where_broken_off(
        self, run: RunFolder
    ) -> None:
        recipes = (recipe(seed=5), recipe(architecture="wide"), recipe(epochs=3))
        study = given(small_study(), recipes)

        def searcher() -> OptunaSearcher:
            journal = open_journal(run.journal, study, 0)
            return OptunaSearcher(study, journal, 0, Book(run, study, []), recipes)

        first = searcher()
        first.suggest("a"), first.suggest("b")
        run.end_trial(0, "completed", "max epochs", study.objective)
        second = searcher()
        told = [second.suggest("c"), second.suggest("d")]
        assert [one["number"] for one in told] == [1, 2]
        assert [Recipe.model_validate(one["recipe"]) for one in told] == list(recipes[1:])

    def test_their_study_searches_nothing_and_cuts_none(self, tmp_path: Path) -> None:
        recipes = (recipe(epochs=20, stop_after=9), recipe(epochs=7))
        study = given(small_study(), recipes)
        assert (study.space, study.budget.trials, study.budget.epochs) == ({}, 2, 9)
        assert rungs(study) == []
        assert rungs(small_study())
        (tmp_path / "study.yaml").write_text(to_yaml(study))
        assert load_study(str(tmp_path / "study.yaml")) == study

    def test_every_trial_keeps_its_weights(self, tmp_path: Path) -> None:
        study = small_study()
        of = searched(tmp_path, study)
        again = begun(finalists(of, *((0, seed) for seed in range(24))))
        for number in range(24):
            trial(again, number, recipe(), 0.5)
            (again.trial_folder(number) / "best").mkdir()
        retention = Retention()
        retention.search_started(again, study)
        retention.trial_ended(again.trial(23))
        retention.close()
        assert all((again.trial_folder(number) / "best").is_dir() for number in range(24))


class TestFind:
    def test_only_what_was_asked_for_is_found(self, tmp_path: Path) -> None:
        of = searched(tmp_path, small_study())
        again = finalists(of, (0, 1), (0, 2))
        assert again.find() is None
        run = begun(again)
        assert again.find() is not None
        assert recipes_of(run) == again.recipes
        assert not again.ended(run)
        trial(run, 0, again.recipes[0], 0.5)
        trial(run, 1, again.recipes[1], 0.5)
        assert again.ended(run)
        assert finalists(of, (0, 1), (0, 3)).find() is None
        assert replace(again, splits=_on_all(SPLITS)).find() is None

    def test_the_latest_search_stays_the_latest(self, tmp_path: Path) -> None:
        of = searched(tmp_path, small_study())
        begun(finalists(of, (0, 1)))
        assert find_run(tmp_path, "small").path == of.path


class TestFigures:
    def test_finalists_are_ranked_by_their_mean(self, tmp_path: Path) -> None:
        of = searched(tmp_path, small_study())
        trial(of, 0, recipe(), 0.9)
        trial(of, 1, recipe(), 0.8)
        again = begun(finalists(of, (0, 1), (0, 2), (1, 1), (1, 2)))
        for number, value in enumerate((0.9, 0.3, 0.7, 0.8)):
            trial(again, number, recipes_of(again)[number], value)
        told = write_finalists(of, again, "command")
        assert [one["trial"] for one in told["finalists"]] == [1, 0]
        best = told["finalists"][0]
        assert best["mean"] == pytest.approx(0.75)
        assert best["std"] == pytest.approx(0.1 / 2**0.5)
        assert (best["min"], best["max"], best["n"], best["searched"]) == (0.7, 0.8, 2, 0.8)
        assert (of.path / "finalists.json").is_file()

    def test_a_failed_seed_is_no_value(self, tmp_path: Path) -> None:
        of = searched(tmp_path, small_study())
        trial(of, 0, recipe(), 0.9)
        again = begun(finalists(of, (0, 1), (0, 2)))
        trial(again, 0, recipes_of(again)[0], 0.5)
        trial(again, 1, recipes_of(again)[1], 0.1, state="failed")
        (one,) = write_finalists(of, again, "command")["finalists"]
        assert (one["n"], one["mean"], one["std"]) == (1, 0.5, None)
        assert spread([])["mean"] is None

    @pytest.mark.parametrize(("metric", "gain"), [("miou", 0.1), ("val_loss", -0.1)])
    def test_a_gain_is_what_is_better_with_the_technique(
        self, tmp_path: Path, metric: str, gain: float
    ) -> None:
        study = small_study(objective={"metric": metric})
        of = searched(tmp_path, study)
        trial(of, 0, recipe(), 0.9)
        about = [
            {"technique": name, "off": {}, "trial": 0}
            for name in (CHAMPION, CHAMPION, "MixUp", "MixUp", "warm-up", "warm-up")
        ]
        recipes = tuple(recipe(seed=number % 2) for number in range(6))
        again = begun(Again(of, "ablation", recipes, tuple(about)))
        for number, value in enumerate((0.5, 0.7, 0.4, 0.6, 0.6, 0.9)):
            again.begin_trial(number, recipes[number])
            append_epoch(again.trial_folder(number), {"epoch": 1, metric: value, "time": 0.0})
            again.end_trial(number, "completed", "max epochs", study.objective)
        techniques = {t["technique"]: t for t in write_ablation(of, again, "c")["techniques"]}
        assert techniques["MixUp"]["gain"]["mean"] == pytest.approx(gain)
        assert techniques["MixUp"]["gain"]["std"] == pytest.approx(0.0, abs=1e-9)
        assert techniques["warm-up"]["gain"]["mean"] == pytest.approx(-1.5 * gain)
        assert [*techniques] == sorted(techniques, key=lambda t: -techniques[t]["gain"]["mean"])


class TestTechniques:
    def test_each_is_left_out_once_and_alone(self) -> None:
        whole = recipe(
            quarter_turns=True, mixup_alpha=0.2, cutmix_alpha=1.0, label_smoothing=0.1,
            class_weights="frequency", pixel_weights=True, ema_decay=0.9, frozen=0.1,
            encoder_lr_ratio=0.1, early_stopping=3, gap_limit=0.3,
            loss={"cross_entropy": 1.0, "focal": 0.5},
        )  # fmt: skip
        first, *others = without_each(whole, small_study())
        assert (first.name, first.recipe) == (CHAMPION, whole)
        assert {one.name for one in others} == {one.name for one in TECHNIQUES} | {"focal loss"}
        for one in others:
            before, after = whole.model_dump(), one.recipe.model_dump()
            assert {key: after[key] for key in after if after[key] != before[key]} == one.off

    def test_what_does_nothing_is_not_tried(self) -> None:
        bare = recipe(
            augment_strength=0.0, boundary_weight=0.0, warmup=0.0, schedule="constant",
            weight_decay=0.0, clip_norm=None, mixup_alpha=0.4, mix_probability=0.0,
            loss={"dice": 1.0}, label_smoothing=0.1, class_weights="frequency",
        )  # fmt: skip
        assert [one.name for one in without_each(bare, small_study())] == [CHAMPION]

    def test_losses_lose_a_term_and_never_the_last(self) -> None:
        def losses(**loss: float) -> dict[str, Any]:
            told = without_each(recipe(loss=loss), small_study())
            return {one.name: one.off["loss"] for one in told if "loss" in one.off}

        assert losses(focal=1.0, dice=0.5) == {
            "focal loss": {"dice": 0.5, "cross_entropy": 1.0},
            "dice loss": {"focal": 1.0},
        }
        assert losses(cross_entropy=1.0, boundary=0.0) == {}

    def test_what_the_network_does_by_itself(self) -> None:
        networks = {
            "unet": {"type": "se_unet", "width": 4},
            "wide": {"type": "smp", "decoder": "fpn", "encoder": "resnet18",
                     "encoder_weights": "imagenet"},
        }  # fmt: skip
        study = small_study(networks=networks)
        for architecture, off in (
            ("unet", {"dropout": {"dropout": 0.0}}),
            ("wide", {"dropout": {"decoder_dropout": 0.0},
                      "pretrained weights": {"encoder_weights": None}}),
        ):  # fmt: skip
            told = without_each(recipe(architecture=architecture), study)
            assert {one.name: one.off["network"] for one in told if "network" in one.off} == off
        assert study.network_spec(told[-1].recipe)["encoder_weights"] is None
        assert not any("network" in one.off for one in without_each(
            recipe(**{"network.dropout": 0.0}), study))  # fmt: skip

    def test_whole_images_have_no_pixels_to_treat(self) -> None:
        study = small_study(
            task="classification",
            data={"format": "class_folders", "classes": ["a", "b"]},
            networks={"unet": {"type": "timm", "model": "test_efficientnet"}},
            space={}, fixed={"architecture": "unet", "image_size": 32},
        )  # fmt: skip
        told = {one.name for one in without_each(recipe(image_size=32), study)}
        assert "augmentation" in told
        assert not told & {"elastic deformation", "boundary head", "pixel weights"}


def test_refit_learns_from_validation_and_leaves_the_test_split() -> None:
    assert _on_all(SPLITS) == Splits(("a", "b", "c"), ("c",), ("d",), "refit")
