"""What no trial could train with is one error before the first of them."""

import warnings
from typing import Any

import pytest
from torch import nn

from raysearch.config import Study
from raysearch.data import Data, open_data
from raysearch.errors import ConfigError
from raysearch.models.networks import unet
from raysearch.search.checks import check_batches, check_data, check_networks, check_parts
from raysearch.study import load_study, profile_names
from tests.data.voc_miniature import config, write_plain
from tests.test_study import SHIPPED

from .conftest import small_study

EFFICIENT: dict[str, Any] = {"type": "timm", "model": "test_efficientnet"}
VIT: dict[str, Any] = {
    "type": "timm", "model": "test_vit", "img_size": 64, "dynamic_img_size": False,
}  # fmt: skip


def photographs(**changes: Any) -> Study:
    """A study that classifies by one network of timm."""
    values: dict[str, Any] = {
        "name": "photographs",
        "task": "classification",
        "data": {"format": "class_folders", "classes": ["apple", "bread"]},
        "networks": {"net": EFFICIENT},
        "fixed": {"architecture": "net", "image_size": 64},
        "budget": {"trials": 2, "epochs": 2},
    }
    return Study.model_validate(values | changes)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    folder = tmp_path_factory.mktemp("checks")
    return open_data(config(), write_plain(folder / "voc"), folder / "cache", seed=0)


class TestNetworks:
    @pytest.mark.parametrize("name", sorted({*SHIPPED}))
    def test_the_quick_profile_of_every_shipped_study_passes(self, name: str) -> None:
        assert "quick" in profile_names(name)
        study = load_study(name, "quick")
        if not study.data.classes:
            data = study.data.model_copy(update={"classes": tuple("abc")})
            study = study.model_copy(update={"data": data})
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            counts = check_networks(study, workers=1)
        assert set(counts) == set(study.networks)

    def test_one_image_is_too_few_for_a_norm_of_one_pixel(self) -> None:
        fixed = {"architecture": "net", "image_size": 32, "batch_size": 1}
        with pytest.raises(ConfigError) as error:
            check_networks(photographs(fixed=fixed), workers=1)
        for word in ("networks.net", "1 image of 32 x 32", "raise batch_size", "value per channel"):
            assert word in str(error.value)
        check_networks(photographs(fixed={**fixed, "batch_size": 2}), workers=1)

    def test_accumulation_and_workers_divide_the_batch(self) -> None:
        fixed = {"architecture": "net", "image_size": 32, "batch_size": 4}
        study = photographs(fixed=fixed, space={"accumulation": [1, 4]})
        with pytest.raises(ConfigError, match="accumulation 4"):
            check_networks(study, workers=1)
        halves = photographs(fixed=fixed, space={"accumulation": [1, 2]})
        check_networks(halves, workers=1)
        check_networks(halves, workers=2)  # Their norms see the batches of both.

    def test_a_start_point_is_tried_with_its_own_batch(self) -> None:
        start = [{"image_size": 32, "batch_size": 1}]
        space = {"image_size": [64, 96], "batch_size": [2, 4], "learning_rate": [1e-3, 1e-4]}
        study = photographs(fixed={"architecture": "net"}, space=space)
        check_networks(study, workers=1)
        with pytest.raises(ConfigError, match="1 image of 32 x 32"):
            check_networks(photographs(**{**dict(study), "start": start}), workers=1)

    @pytest.mark.parametrize("sizes", [[64, 96], {"low": 64, "high": 640, "step": 64}])
    def test_a_transformer_of_one_size_is_refused_at_another(self, sizes: Any) -> None:
        study = photographs(
            networks={"vit": VIT}, fixed={"architecture": "vit"}, space={"image_size": sizes}
        )
        with pytest.raises(ConfigError, match=r"networks\.vit.*choose another image_size"):
            check_networks(study, workers=1)
        any_size = {**VIT, "dynamic_img_size": True}
        check_networks(photographs(**{**dict(study), "networks": {"vit": any_size}}), workers=1)

    def test_deeplab_wants_two_images(self) -> None:
        networks = {"d": {"type": "smp", "decoder": "deeplabv3plus", "encoder": "tu-resnet10t"}}
        fixed = {"architecture": "d", "crop_size": 64, "batch_size": 1}
        with pytest.raises(ConfigError, match=r"networks\.d: cannot train on 1 image of 64 x 64"):
            check_networks(small_study(networks=networks, space={}, fixed=fixed), workers=1)

    def test_every_variant_is_tried(self) -> None:
        space = {"architecture": ["vit"], "network.img_size": [64, 96]}
        study = photographs(networks={"vit": VIT}, fixed={"image_size": 64}, space=space)
        with pytest.raises(ConfigError, match=r"networks\.vit"):
            check_networks(study, workers=1)

    def test_nothing_to_recompute(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Plain(nn.Conv2d):
            """One layer, which is no block."""

            @property
            def encoder(self) -> nn.Module:
                return self

        monkeypatch.setattr(unet, "build", lambda options, task, n: Plain(task.bands, n, 1))
        space = {"architecture": ["unet"], "gradient_checkpointing": [False, True]}
        networks = {"unet": {"type": "unet"}}
        check_networks(small_study(networks=networks, space={"architecture": ["unet"]}), 1)
        with pytest.raises(ConfigError, match="gradient_checkpointing: unet has no blocks"):
            check_networks(small_study(networks=networks, space=space), workers=1)


class TestBatches:
    def test_the_smallest_batch_may_meet_the_most_parts(self) -> None:
        space = {"architecture": ["unet"], "batch_size": [4, 8], "accumulation": [1, 4]}
        study = small_study(space=space)
        check_batches(study, workers=1)
        with pytest.raises(ConfigError, match=r"4 is less than .* 2 workers and 4 accumulated"):
            check_batches(study, workers=2)


class TestValuesWithoutEffect:
    @pytest.mark.parametrize("part", ["space", "fixed"])
    def test_distillation_without_teachers(self, part: str) -> None:
        space = {"architecture": ["unet"]}
        value: dict[str, Any] = {
            "space": {"space": space | {"distill_weight": [0.3, 0.7]}},
            "fixed": {"space": space, "fixed": {"crop_size": 32, "distill_weight": 0.3}},
        }[part]
        with pytest.raises(ConfigError, match=rf"{part}\.distill_weight .* teachers"):
            check_parts(small_study(**value))
        check_parts(small_study(**value, teachers=["somewhere/trials/0000"]))

    @pytest.mark.parametrize(
        "values",
        [
            {"fixed": {"crop_size": 32, "pixel_weights": True}},
            {"space": {"architecture": ["unet"], "pixel_weights": [False, True]}},
            {"start": [{"architecture": "unet", "pixel_weights": True}]},
        ],
    )
    def test_pixel_weights_of_data_without(self, data: Data, values: dict[str, Any]) -> None:
        check_data(small_study(), data)
        with pytest.raises(ConfigError, match="pixel_weights: voc data say nothing of confidence"):
            check_data(small_study(**values), data)
