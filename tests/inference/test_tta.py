"""Views of an image by name: flips, turns, scales and random ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from raysearch.data import Data, open_data
from raysearch.data.batch import as_tensor
from raysearch.errors import ConfigError
from raysearch.inference.models import Model, load_model, network_logits, view
from raysearch.inference.tiling import segment
from raysearch.inference.tta import IDENTITY, SETS, TRANSFORMS, Views, cost, transform
from raysearch.records.run_folder import RunFolder
from raysearch.study import load_study


@pytest.fixture
def model(run: RunFolder) -> Model:
    return load_model(run.trial_folder(0))


@pytest.fixture
def data(run: RunFolder) -> Data:
    study = load_study(str(run.study_file))
    assert study.data.path is not None
    assert study.resources.cache is not None
    return open_data(study.data, study.data.path, study.resources.cache, seed=0)


def raw(data: Data, index: int = 0) -> Tensor:
    return as_tensor(data.cache.image(index))[None]


@pytest.mark.parametrize("name", [*TRANSFORMS, "flip_vertical+turn_90", "turn_90+flip_vertical"])
def test_every_view_is_taken_back(name: str) -> None:
    images = torch.arange(24).view(1, 2, 3, 4)
    there = transform(name).apply(images)
    assert torch.equal(transform(name).undo(there), images)
    assert name == IDENTITY or there.shape != images.shape or not torch.equal(there, images)


def test_parts_are_taken_in_their_order() -> None:
    images = torch.arange(12).view(1, 1, 3, 4)
    one, other = transform("flip_vertical+turn_90"), transform("turn_90+flip_vertical")
    assert torch.equal(one.apply(images), images.flip(-2).rot90(dims=(-2, -1)))
    assert not torch.equal(one.apply(images), other.apply(images))


def test_a_scaled_view_comes_back_at_the_image_s_own_size(model: Model, data: Data) -> None:
    images = raw(data)
    member = model.members[0]
    for name in ("scale_0.75", "turn_90+scale_1.5+flip_horizontal"):
        logits = view(member, images, name)
        assert logits.shape[-2:] == images.shape[-2:]
        assert not torch.allclose(logits, view(member, images, IDENTITY), atol=1e-3)
    assert max(network_logits(member, images, 1.5).shape[-2:]) == 48  # Of an image_size of 32.


def test_a_network_that_scaling_does_not_change_says_the_same(model: Model, data: Data) -> None:
    """Every part of a composition is undone where its answer belongs: colours tell places."""
    member = model.members[0]
    images = raw(data)

    class Colours(torch.nn.Module):
        def forward(self, shown: Tensor) -> Tensor:
            return shown

    plain = replace(member, recipe=member.recipe.model_copy(update={"image_size": None}))
    object.__setattr__(plain, "logits", lambda shown: shown.float())
    smooth = torch.linspace(0, 200, images.shape[-1]).round().to(torch.uint8).expand(images.shape)
    for name in ("flip_horizontal+scale_0.5", "scale_2+turn_180", "scale_1.25+flip_horizontal"):
        torch.testing.assert_close(view(plain, smooth, name), smooth.float(), atol=9, rtol=0)
        assert (view(plain, smooth, name) - smooth.flip(-1).float()).abs().max() > 100


def test_brightness_stays_within_eight_bits() -> None:
    images = torch.tensor([[[[10, 250]]]], dtype=torch.uint8)
    assert transform("brightness_1.2").apply(images).tolist() == [[[[12, 255]]]]
    reflectance = torch.tensor([[[[0.5, 300.0]]]])
    assert transform("brightness_2").apply(reflectance).tolist() == [[[[1.0, 600.0]]]]


@pytest.mark.parametrize(
    ("name", "repair"),
    [
        ("turn90", "Did you mean 'turn_90'"),
        ("flip_horizontal+turn90", "Did you mean 'turn_90'"),
        ("scale_x", "scale must be a number from 0.25 to 4"),
        ("scale_9", "scale must be a number from 0.25 to 4"),
        ("", "is unknown"),
    ],
)
def test_what_is_no_view_is_refused(name: str, repair: str) -> None:
    with pytest.raises(ConfigError, match=repair):
        transform(name)


def test_random_views_are_the_same_for_the_same_seed() -> None:
    drawn = Views(draws=8, seed=3).sets(turned=True, coloured=True)[-1]
    assert drawn == Views(draws=8, seed=3).sets(turned=True, coloured=True)[-1]
    assert drawn != Views(draws=8, seed=4).sets(turned=True, coloured=True)[-1]
    assert drawn[0] == IDENTITY
    assert len(set(drawn)) == 9
    text = " ".join(drawn)
    assert all(part in text for part in ("flip_horizontal", "turn_", "scale_", "brightness_"))
    assert all(0.8 <= transform(name).scale <= 1.25 for name in drawn)
    upright = " ".join(Views(draws=8).sets()[-1])
    assert "turn_" not in upright
    assert "brightness_" not in upright


def test_the_fixed_sets_come_first_and_views_cost_their_area() -> None:
    assert Views().sets() == list(SETS)
    sets = Views(scales=(0.5, 1.5)).sets()
    assert sets[: len(SETS)] == list(SETS)
    assert sets[len(SETS)] == (IDENTITY, "scale_0.5", "scale_1.5")
    assert cost(sets[len(SETS)]) == pytest.approx(1 + 0.25 + 2.25)
    assert cost(SETS[-1]) == 6
    assert cost(("scale_0.5+scale_2",)) == 1


def test_tiling_asks_about_the_same_views(model: Model, data: Data) -> None:
    """Networks that see images reduced are asked about the whole, scaled as everywhere."""
    image = data.cache.image(0)
    many = replace(model, tta=(IDENTITY, "scale_1.5", "flip_horizontal+scale_0.75"))
    expected = many.classes(many.probabilities(as_tensor(image)[None]))[0].numpy()
    found = segment(many, [np.ascontiguousarray(image)])[0]
    assert (found != expected).mean() < 0.01
    assert (model.classes(model.probabilities(as_tensor(image)[None]))[0].numpy() != found).any()
