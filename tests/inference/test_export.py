"""Exported files say what PyTorch says: every architecture, every way of a model, and 8 bits."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from raysearch import export
from raysearch.config import Recipe, Study, Task
from raysearch.errors import ConfigError, RunError
from raysearch.inference.models import Model, describe_model
from raysearch.inference.onnx import OnnxModel, adapted, write
from raysearch.inference.onnx.int8 import inner_nodes, quantize
from raysearch.models import build
from raysearch.records.run_folder import RunFolder
from raysearch.study import load_study
from raysearch.training.normalisation import Normalisation
from raysearch.training.trained import Trained, load_trained

TOLERANCE = 1e-3
STUDIES = ("animals", "unity", "marine_debris", "food101")
LARGEST = "self_attention_unet"


def quick(name: str) -> Study:
    study = load_study(name, "quick")
    if study.data.classes:
        return study
    data = study.data.model_copy(update={"classes": tuple("abcdefghij")})
    return study.model_copy(update={"data": data})


def trained(spec: dict[str, Any], task: Task, image_size: int | None, seed: int = 0) -> Trained:
    """A network with random weights, whose normalisation layers have seen what they are shown.

    Of smaller images than these the deepest features are a few pixels, whose statistics blow logits
    up to hundreds: PyTorch's own float32 is then 5e-4 from float64.
    """
    torch.manual_seed(seed)
    bare = {**spec, "encoder_weights": None} if "encoder_weights" in spec else spec
    network = build(bare, task)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            nn.init.uniform_(module.weight, 0.5, 1.5)  # timm's residual branches begin at zero.
    mean, std = torch.full((task.bands,), 128.0), torch.full((task.bands,), 64.0)
    normalise = Normalisation(mean, std)
    with torch.no_grad():
        network(normalise(torch.stack([image(192, 192, task.bands, n) for n in range(8)])))
        for name, parameter in network.named_parameters():
            if name.endswith(("refinement.scale", "1.scale")):  # Attention begins without effect.
                parameter.fill_(1.0)
        if not task.segments:
            sharpen(network.eval(), normalise, task)
    recipe = Recipe(architecture="random", image_size=image_size)
    return Trained(
        network.eval(), normalise, task, recipe, None, {}, Path(f"trials/{seed:04d}/best")
    )


def sharpen(network: Any, normalise: Normalisation, task: Task) -> None:
    """Make a classifier's logits differ by 2 from image to image: of random weights they hardly
    do, and a graph that ignores its image would pass for the same."""
    squares = torch.stack([image(64, 64, task.bands, seed) for seed in range(8)])
    logits = network(normalise(squares)).semantic
    spread = (logits - logits.mean(0)).std()
    network.network.head.classifier.weight.mul_(2 / spread)


def image(height: int, width: int, bands: int = 3, seed: int = 0) -> Tensor:
    """Random patches, so that neither resizing nor a network makes them all the same."""
    values = np.random.default_rng(seed).integers(0, 256, (bands, 8, 8), dtype=np.uint8)
    patches = torch.from_numpy(values)[None].float()
    grown = nn.functional.interpolate(patches, (height, width), mode="bilinear")
    return grown[0].round().to(torch.uint8)


def variation(probabilities: Tensor) -> float:
    """How far the answer for an image, or a pixel, is from the mean answer."""
    rows = probabilities.movedim(1, -1).flatten(0, -2)
    return (rows - rows.mean(0)).abs().max().item()


def same(model: Model, onnx: OnnxModel, images: Sequence[Tensor]) -> None:
    batch = torch.stack(list(images))
    expected, found = model.probabilities(batch), onnx.probabilities(batch)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= TOLERANCE
    assert len(images) == 1 or variation(expected) > 100 * TOLERANCE


def every_architecture() -> Iterator[Any]:
    """Those that differ in their encoder alone come after the first of them, as slow tests, and so
    does the largest."""
    for name in STUDIES:
        for number, architecture in enumerate(quick(name).networks):
            again = (number and name in ("unity", "food101")) or architecture == LARGEST
            yield pytest.param(name, architecture, marks=[pytest.mark.slow] if again else [])


@pytest.mark.parametrize(("name", "architecture"), list(every_architecture()))
def test_every_architecture_says_the_same(name: str, architecture: str, tmp_path: Path) -> None:
    """In batches of one and of three, on images of two sizes."""
    study = quick(name)
    task = study.what
    size = None if task.segments else 64
    model = Model((trained(study.networks[architecture], task, size),), (1.0,))
    images = [image(80, 120, task.bands, seed) for seed in range(3)]
    path = write(model, tmp_path / "model.onnx", images[:1]).path
    onnx = OnnxModel(path)
    same(model, onnx, images[:1])
    same(model, onnx, images)
    same(model, onnx, [image(150, 70, task.bands)])


TASK = Task("segmentation", 3, ("ground", "cat", "dog"))
UNET = {"type": "unet", "width": 4, "depth": 2}


def pair(*sizes: int | None) -> tuple[Trained, ...]:
    return tuple(trained(UNET, TASK, size, seed) for seed, size in enumerate(sizes))


VIEWS = ("identity", "flip_horizontal", "flip_vertical", "turn_90", "turn_180", "turn_270")


def test_an_ensemble_of_two_sizes_with_every_view(tmp_path: Path) -> None:
    """Each image size has an input; views are mirrored inside of the padding."""
    model = Model(pair(64, None), (0.75, 0.25), "average", VIEWS, 1.5)
    images = [image(90, 70, seed=seed) for seed in range(3)]
    onnx = OnnxModel(write(model, tmp_path / "model.onnx", images).path)
    assert [one["name"] for one in onnx.about["inputs"]] == ["images_64", "images_full"]
    same(model, onnx, images)
    same(model, onnx, [image(33, 200)])


def test_members_count_by_their_confidence(tmp_path: Path) -> None:
    model = adapted(Model(pair(None, None), (0.6, 0.4), "confidence"), (64, 96))
    images = [image(64, 96)]
    same(model, OnnxModel(write(model, tmp_path / "model.onnx", images, (64, 96)).path), images)


def test_votes_are_the_same_where_they_are_no_tie(tmp_path: Path) -> None:
    model = adapted(Model(pair(None, None), (0.6, 0.4), "majority"), (64, 96))
    images = [image(64, 96)]
    onnx = OnnxModel(write(model, tmp_path / "model.onnx", images, (64, 96)).path)
    expected, found = (one.probabilities([images[0]]) for one in (model, onnx))
    assert (found - expected).abs().amax(1).gt(TOLERANCE).float().mean() < 0.001
    assert set(found.unique().tolist()) <= {0.0, *(torch.tensor([0.4, 0.6, 1.0]).tolist())}


def test_a_fixed_size_is_filled(tmp_path: Path) -> None:
    """An image of that size is asked about as it is; another is brought into it and back."""
    base = Model(pair(64), (1.0,), tta=("identity", "turn_90"))
    model = adapted(base, (64, 96))
    images = [image(64, 96)]
    onnx = OnnxModel(write(model, tmp_path / "model.onnx", images, (64, 96)).path)
    assert [one.shape for one in onnx.session.get_inputs()] == [["batch", 3, 64, 96]]
    same(model, onnx, images)
    assert onnx.probabilities([image(50, 40)]).shape == (1, 3, 50, 40)
    expected = base.probabilities([image(64, 48)]).argmax(1)
    assert (onnx.probabilities([image(64, 48)]).argmax(1) == expected).float().mean() > 0.6


def test_nothing_is_left_of_a_file_that_answers_otherwise(tmp_path: Path) -> None:
    model = Model(pair(None), (1.0,))
    with pytest.raises(RunError, match=r"differ by .* from PyTorch's, and at most -1"):
        write(model, tmp_path / "model.onnx", [image(64, 64)], (64, 64), tolerance=-1)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    model = Model(pair(32, 64), (0.5, 0.5))
    with pytest.raises(ConfigError, match="the nearest is 96x128"):
        adapted(model, (100, 130))
    with pytest.raises(ConfigError, match=r"at 32 pixels, 64 pixels.*--member"):
        adapted(model, (96, 128))
    with pytest.raises(ConfigError, match="--no-tta"):
        adapted(replace(model, tta=("identity", "scale_1.25")))
    assert adapted(replace(model, tta=("identity", "scale_1.25")), tta=False).tta == ("identity",)
    (tmp_path / "other.onnx").write_bytes(b"no model")
    with pytest.raises(RunError, match=r"other\.onnx: is no ONNX file that can be run"):
        OnnxModel(tmp_path / "other.onnx")


def test_eight_bits_between_the_first_and_the_last_layer(tmp_path: Path) -> None:
    import onnx as library

    model = Model(pair(None), (1.0,))
    images = [image(64, 96, seed=seed) for seed in range(4)]
    path = write(model, tmp_path / "model.onnx", images[:1], (64, 96)).path
    layers = [node for node in library.load(path).graph.node if node.op_type == "Conv"]
    inner = inner_nodes(library.load(path).graph.node)
    assert layers[0].name not in inner
    assert layers[-1].name not in inner
    assert {node.name for node in layers[1:-1]} <= set(inner)
    quantize(path, tmp_path / "model.int8.onnx", images)
    found = OnnxModel(tmp_path / "model.int8.onnx")
    expected = model.probabilities(torch.stack(images))
    given = found.probabilities(torch.stack(images))
    assert 1e-5 < (given - expected).abs().mean() < 0.05
    assert (given.argmax(1) == expected.argmax(1)).float().mean() > 0.9
    assert found.about["int8"]


def test_a_search_is_exported_with_its_table(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    members = tuple(load_trained(run.trial_folder(number)) for number in (0, 1))
    model = Model(members, (0.75, 0.25), tta=("identity", "flip_horizontal"))
    (run.path / "ensemble.json").write_text(json.dumps(describe_model(model, run.path)))
    asked = [str(run.path), "--int8", "--compile-seconds", "0"]
    assert export.main(asked) == 0
    told = json.loads((run.path / "export" / "speed.json").read_text())
    assert [(row["model"], row["engine"]) for row in told["rows"]] == [
        (name, engine)
        for name in ("single", "ensemble + TTA")
        for engine in ("PyTorch", "torch.compile", "ONNX Runtime", "INT8")
    ]
    rows = {(row["model"], row["engine"]): row for row in told["rows"]}
    eager, onnx = (rows["ensemble + TTA", engine] for engine in ("PyTorch", "ONNX Runtime"))
    assert eager["value"] == pytest.approx(onnx["value"], abs=0.01)
    assert onnx["differs"] < 0.001
    assert onnx["ms"]["1"] > 0
    assert "not compiled within 0 s" in rows["single", "torch.compile"]["reason"]
    assert told["command"] == f"python -m raysearch.export {' '.join(asked)}"
    about = json.loads((run.path / "export" / "model.json").read_text())
    assert about["checked"] == "3 validation images"
    assert about["difference"] <= TOLERANCE
    assert told["command"] in (run.path / "export" / "speed.md").read_text()
    printed = capsys.readouterr().out
    assert "INT8 minus PyTorch: miou" in printed
    same(model, OnnxModel(run.path / "export" / "model.onnx"), [image(40, 60)])


def test_a_member_and_a_trial_alone(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [str(run.trial_folder(1)), "--output", str(tmp_path), "--no-speed", "--size", "32"]
    assert export.main(asked) == 0
    assert sorted(path.name for path in tmp_path.glob("*.*")) == ["model.json", "model.onnx"]
    assert export.main([*asked, "--member", "7"]) == 2
    assert "--member 7: is not in this model; its members are 1" in capsys.readouterr().err
    assert export.main([str(run.path), "--student", "unet"]) == 2
    assert "add --distil" in capsys.readouterr().err
