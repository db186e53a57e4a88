"""Large images: tiles without seams, and memory that stays flat."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raysearch.config import Recipe, Task
from raysearch.errors import ConfigError
from raysearch.inference.models import Model
from raysearch.inference.tiling import by_rows, segment, windows
from raysearch.models import Output, build
from raysearch.models.blocks import SelfAttention
from raysearch.training.normalisation import Normalisation
from raysearch.training.trained import Trained

TASK = Task("segmentation", 3, ("background", "cat", "dog"))
WHOLE = 1 << 14  # A tile that no image here is larger than.


class Brightness(nn.Module):
    """The middle class where a pixel is bright, by its first band."""

    def forward(self, images: Tensor) -> Output:
        bright = images[:, :1] - 0.5
        return Output(torch.cat([-bright, bright, bright - 1], 1), None)


class Mean(nn.Module):
    """Sees all of the image: each pixel beside the image's mean."""

    def forward(self, images: Tensor) -> Output:
        bright = images[:, :1] - images[:, :1].mean((2, 3), keepdim=True)
        return Output(torch.cat([-bright, bright, bright - 9], 1), None)


def member(network: nn.Module, image_size: int | None = None) -> Trained:
    recipe = Recipe(architecture="x", epochs=1, image_size=image_size)
    normalise = Normalisation(torch.zeros(3), torch.full((3,), 255.0))
    return Trained(network.eval(), normalise, TASK, recipe, None, {}, Path("0"))


def model(*members: Trained, **changes: Any) -> Model:
    return Model(members, (1 / len(members),) * len(members), **changes)


def unet(seed: int = 0, width: int = 8, depth: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return build({"type": "unet", "width": width, "depth": depth}, TASK)


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (height // 12 + 2, width // 12 + 2, 3), dtype=np.uint8)
    picture: np.ndarray = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return picture


def joined(bands: Sequence[tuple[int, Tensor]]) -> Tensor:
    """All rows, after a look at whether they follow each other."""
    tops = np.cumsum([0, *(values.shape[2] for _, values in bands)])
    assert [top for top, _ in bands] == tops[:-1].tolist()
    return torch.cat([values for _, values in bands], 2)


@pytest.mark.parametrize("length", [40, 128, 129, 223, 224, 225, 256, 500, 1000])
def test_weights_of_windows_sum_to_one(length: int) -> None:
    found = windows(length, 128)
    total = np.zeros(length)
    for one in found:
        assert one.start % 32 == 0
        assert one.stop - one.start == len(one.weight)
        assert length <= 128 or 96 < one.stop - one.start <= 128
        total[one.start : one.stop] += one.weight
    assert found[-1].stop == length
    assert np.allclose(total, 1, atol=1e-6)


def test_inner_edges_count_little_and_ends_fully() -> None:
    first, second, *_ = windows(1000, 128)
    assert first.weight[0] == 1.0
    assert first.weight[-1] < 0.01
    assert second.weight[0] < 0.01
    assert np.abs(np.diff(first.weight)).max() < 0.1


@pytest.mark.parametrize(("height", "width"), [(333, 290), (300, 100), (97, 410)])
def test_a_network_of_single_pixels_says_the_same_in_tiles(height: int, width: int) -> None:
    asked = model(member(Brightness()))
    image = smooth(height, width)
    tiled = joined(list(by_rows(asked, [image], 128)))
    assert torch.allclose(tiled, joined(list(by_rows(asked, [image], WHOLE))), atol=1e-6)
    assert torch.allclose(tiled.sum(1), torch.ones(()), atol=1e-5)


@pytest.mark.parametrize("tta", [("identity",), ("identity", "turn_90", "flip_vertical")])
def test_tiles_of_a_convolutional_network_show_no_seams(tta: tuple[str, ...]) -> None:
    asked = model(member(unet(1)), tta=tta)
    """With turns only where the sides are multiples of 32: else those begin at other pixels."""
    image = smooth(416, 512) if len(tta) > 1 else smooth(420, 500)
    whole = segment(asked, [image], WHOLE)[0]
    assert len(np.unique(whole)) > 1
    assert (segment(asked, [image], 192)[0] != whole).mean() < 0.01


def attending(kind: str) -> nn.Module:
    """A network whose every pixel depends on all of its image."""
    torch.manual_seed(0)
    network = build({"type": kind, "width": 4, "depth": 2}, TASK)
    for module in network.modules():
        if isinstance(module, SelfAttention):  # Before training it passes its input on.
            nn.init.constant_(module.scale, 3.0)
    return network


def jump(told: Tensor, borders: Sequence[int]) -> float:
    """How much larger the largest step between two columns of (K, H, W) is at borders.

    Larger than at other multiples of 32: networks that halve images step there more than between.
    """
    steps = (told[..., 1:] - told[..., :-1]).abs().amax((0, 1))
    inside = [at for at in range(32, told.shape[2], 32) if at not in borders]
    largest = [float(steps[[at - 1 for at in places]].max()) for places in (borders, inside)]
    return largest[0] / largest[1]


@pytest.mark.parametrize("kind", [None, "se_unet", "self_attention_unet"])
def test_a_network_that_sees_all_has_no_jump_at_tile_borders(kind: str | None) -> None:
    """Of an image that grows brighter; tiles that are only laid side by side do jump."""
    image = np.repeat(np.linspace(0, 255, 640).astype(np.uint8)[None], 200, 0)
    image = np.repeat(image[..., None], 3, 2)
    asked = model(member(attending(kind) if kind else Mean()))
    told = joined(list(by_rows(asked, [image], 256)))[0]
    blended = {edge for one in windows(640, 256) for edge in (one.start, one.stop)} - {0, 640}
    assert jump(told, sorted(blended)) <= 1.2
    parts = [joined(list(by_rows(asked, [part], WHOLE)))[0] for part in np.split(image, 5, 1)]
    assert jump(torch.cat(parts, 2), range(128, 640, 128)) > 2


@pytest.mark.parametrize("tta", [("identity",), ("identity", "turn_90", "flip_horizontal")])
@pytest.mark.parametrize("size", [None, 64])
def test_rows_are_those_of_the_whole_answer(size: int | None, tta: tuple[str, ...]) -> None:
    asked = model(member(unet(2, 4, 2), size), member(unet(3, 4, 2), 96), tta=tta, temperature=0.7)
    images = [smooth(130, 170, seed) for seed in range(2)]
    told = joined(list(by_rows(asked, images)))
    raw = torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy())
    expected = asked.probabilities(raw)
    assert told.shape == expected.shape
    assert torch.allclose(told, expected, atol=1e-4)
    assert np.array_equal(segment(asked, images), asked.classes(told).numpy())


def test_bands_do_not_change_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = model(member(unet(2, 4, 2), 64))
    image = smooth(150, 170)
    once = joined(list(by_rows(asked, [image])))
    monkeypatch.setattr("raysearch.inference.tiling.BAND_VALUES", 3 * 170 * 7)
    many = list(by_rows(asked, [image]))
    assert len(many) == 22
    assert torch.allclose(joined(many), once, atol=1e-5)


def test_masks_are_cleaned_as_the_model_says() -> None:
    image = np.zeros((300, 300, 3), np.uint8)
    image[100:103, 190:193] = 255
    asked = model(member(Brightness()))
    assert segment(asked, [image], 128).sum() == 9
    assert segment(replace(asked, postprocessing={"small_regions": 0.01}), [image], 128).sum() == 0


def test_the_threshold_is_the_models() -> None:
    task = Task("segmentation", 3, ("background", "cat"))
    two = replace(member(Constant()), task=task)
    image = smooth(80, 90)
    assert segment(Model((two,), (1.0,), threshold=0.25), [image]).all()
    assert not segment(Model((two,), (1.0,), threshold=0.35), [image]).any()


class Constant(nn.Module):
    """The second class has the probability 0.3."""

    def forward(self, images: Tensor) -> Output:
        logits = torch.tensor([0.0, float(np.log(0.3 / 0.7))]).view(1, 2, 1, 1)
        return Output(logits.expand(len(images), 2, *images.shape[2:]), None)


@pytest.mark.parametrize("tile", [0, 32, 100])
def test_a_tile_that_cannot_be(tile: int) -> None:
    with pytest.raises(ConfigError, match="multiple of 32"):
        next(by_rows(model(member(Brightness())), [smooth(40, 40)], tile))


class Peak:
    """The most that the process holds beyond what it held before, in MB: of PyTorch and NumPy."""

    def __enter__(self) -> "Peak":
        Path("/proc/self/clear_refs").write_text("5")
        self.before = self._value("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        self.megabytes = (self._value("VmHWM") - self.before) / 1024

    @staticmethod
    def _value(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is Linux's")
@pytest.mark.parametrize("size", [None, 512])
def test_memory_stays_flat(size: int | None) -> None:
    """Probabilities alone of 24 million pixels would take 288 MB, with copies several times it."""
    image = np.zeros((4000, 6000, 3), np.uint8)
    image[:, ::2] = 255
    asked = model(member(Brightness(), size), postprocessing={"small_regions": 0.0})
    with Peak() as peak:
        mask = segment(asked, [image])[0]
    assert peak.megabytes < 450
    if size is None:
        assert np.array_equal(mask, (image[..., 0] > 0).astype(np.uint8))
