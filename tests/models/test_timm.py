"""Classifiers of timm: what every one promises, the document's models, weights from files."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import adapt_input_conv

from raysearch.config import Task
from raysearch.errors import ConfigError, WeightsError
from raysearch.models import (
    build,
    encoder_of,
    encoder_parameters,
    network_types,
    parameters_in_millions,
)
from raysearch.models.weights import fetch
from tests.models.test_weights import LocalHub

TASK = Task("classification", bands=3, classes=tuple("abcdefg"))
SMALL = ["test_resnet", "test_efficientnet", "test_convnext", "test_byobnet", "test_vit"]


def spec(model: str = "test_resnet", **keys: object) -> dict[str, object]:
    return {"type": "timm", "model": model, **keys}


def task(bands: int) -> Task:
    return Task("classification", bands, TASK.classes)


@pytest.mark.parametrize("head", ["linear", "deep"])
@pytest.mark.parametrize("model", SMALL)
class TestEveryModel:
    def keys(self, model: str) -> dict[str, object]:
        return {"dynamic_img_size": True} if model == "test_vit" else {}

    @pytest.mark.parametrize("bands", [1, 3])
    def test_logits_of_whole_images(self, model: str, head: str, bands: int) -> None:
        network = build(spec(model, head=head, **self.keys(model)), task(bands))
        output = network(torch.rand(2, bands, 64, 64))
        assert output.semantic.shape == (2, 7)
        assert output.boundary is None

    def test_every_parameter_is_trained(self, model: str, head: str) -> None:
        """DDP waits for the gradient of each."""
        network = build(spec(model, head=head, **self.keys(model)), TASK)
        network(torch.rand(2, 3, 64, 64)).semantic.square().mean().backward()
        untrained = [name for name, p in network.named_parameters() if p.grad is None]
        assert untrained == []
        assert all(p.requires_grad for p in network.parameters())

    def test_learns_one_batch(self, model: str, head: str) -> None:
        torch.manual_seed(0)
        network = build(spec(model, head=head, **self.keys(model)), TASK)
        optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
        target = torch.tensor([0, 1, 2, 3])
        images = 0.1 * torch.rand(4, 3, 32, 32)
        images[:3] += 2 * torch.eye(3).view(3, 3, 1, 1)  # red, green, blue and dark
        losses = []
        for _ in range(20):
            loss = torch.nn.functional.cross_entropy(network(images).semantic, target)
            losses.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert losses[-1] < 0.5 * losses[0]

    def test_same_numbers_from_the_same_seed(self, model: str, head: str) -> None:
        images = torch.rand(1, 3, 64, 64)
        outputs = []
        for _ in range(2):
            torch.manual_seed(3)
            network = build(spec(model, head=head, **self.keys(model)), TASK).eval()
            outputs.append(network(images).semantic)
        assert torch.equal(*outputs)


@pytest.mark.parametrize(
    ("model", "millions"),
    [
        ("efficientnet_b0", 4.01),
        ("efficientnet_b3", 10.70),
        ("efficientnet_b4", 17.55),
        ("resnet50", 23.51),
        ("resnet101", 42.50),
    ],
)
def test_models_of_the_document(model: str, millions: float) -> None:
    """Their sizes are timm's own, less its classifier."""
    with torch.device("meta"):
        network, own = build(spec(model), TASK), timm.create_model(model)
    encoder = sum(p.numel() for p in encoder_of(network).parameters())
    assert encoder / 1e6 == pytest.approx(millions, abs=0.005)
    classifier = sum(p.numel() for p in own.get_classifier().parameters())
    assert encoder == sum(p.numel() for p in own.parameters()) - classifier
    features = own.num_features
    assert parameters_in_millions(network) * 1e6 == pytest.approx(encoder + 7 * (features + 1))
    assert network(torch.empty(2, 3, 300, 300, device="meta")).semantic.shape == (2, 7)


class TestHead:
    def test_linear(self) -> None:
        head = build(spec(dropout=0.3), TASK).network.head
        assert [type(layer).__name__ for layer in head] == ["Dropout", "Linear"]
        assert head.dropout.p == 0.3

    def test_deep(self) -> None:
        head = build(spec(head="deep", hidden=32, dropout=0.3), TASK).network.head
        assert [type(layer).__name__ for layer in head] == ["Linear", "ReLU", "Dropout", "Linear"]
        assert (head.hidden.out_features, head.classifier.in_features) == (32, 32)
        assert head.classifier.out_features == 7

    def test_dropout_acts_in_training_only(self) -> None:
        network = build(spec("test_vit", dropout=0.5, dynamic_img_size=True), TASK)
        images = torch.rand(2, 3, 32, 32)
        assert not torch.equal(network(images).semantic, network(images).semantic)
        network.eval()
        assert torch.equal(network(images).semantic, network(images).semantic)

    def test_drop_path_reaches_the_model(self) -> None:
        names = [type(m).__name__ for m in build(spec("resnet10t", drop_path=0.2), TASK).modules()]
        assert "DropPath" in names
        assert "DropPath" not in [
            type(m).__name__ for m in build(spec("resnet10t"), TASK).modules()
        ]

    def test_a_single_image_can_be_trained_on(self) -> None:
        network = build(spec("test_vit", head="deep", dynamic_img_size=True), TASK).train()
        assert network(torch.rand(1, 3, 32, 32)).semantic.shape == (1, 7)


class TestEncoder:
    @pytest.mark.parametrize(
        "network",
        [
            build(spec(), TASK),
            build({"type": "unet", "width": 2}, Task("segmentation", 3, ("a", "b"))),
            build({"type": "attention_unet", "width": 2}, Task("segmentation", 3, ("a", "b"))),
            build({"type": "smp", "encoder": "tu-test_resnet"}, Task("segmentation", 3, ("a",))),
        ],
        ids=["timm", "unet", "attention_unet", "smp"],
    )
    def test_is_found_in_every_network(self, network: torch.nn.Module) -> None:
        encoder = encoder_of(network)
        assert encoder is network.network.encoder is encoder_of(network.network)
        chosen = {id(p) for p in encoder_parameters(network)}
        assert chosen < {id(p) for p in network.parameters()}
        named = {id(p) for n, p in network.named_parameters() if n.startswith("network.encoder.")}
        assert chosen <= named

    def test_parameters_that_nothing_reaches_are_left_out(self) -> None:
        network = build(
            {"type": "smp", "encoder": "efficientnet-b0"}, Task("segmentation", 3, "ab")
        )
        unreached = sum(not p.requires_grad for p in network.parameters())
        assert unreached == 3
        assert len(encoder_parameters(network)) == len([*encoder_of(network).parameters()]) - 3


class TestKinds:
    def test_types_of_each(self) -> None:
        assert "timm" in network_types("classification")
        assert {"unet", "smp"} <= set(network_types("segmentation"))
        both = {*network_types("classification"), *network_types("segmentation")}
        assert both == set(network_types())

    def test_segmentation_network_for_classification(self) -> None:
        message = "'unet' is made for segmentation, and the study's task is classification.*timm"
        with pytest.raises(ConfigError, match=message):
            build({"type": "unet"}, TASK)

    def test_classifier_for_segmentation(self) -> None:
        message = "'timm' is made for classification, and the study's task is segmentation.*unet"
        with pytest.raises(ConfigError, match=message):
            build(spec(), Task("segmentation", 3, ("a", "b")))


class TestWeights:
    @pytest.mark.parametrize("model", SMALL)
    @pytest.mark.parametrize("ending", [".safetensors", ".pth"])
    def test_timms_own_file_without_its_classifier(
        self, model: str, ending: str, tmp_path: Path
    ) -> None:
        torch.manual_seed(7)
        whole = timm.create_model(model)
        path = tmp_path / f"whole{ending}"
        write = save_file if ending == ".safetensors" else torch.save
        write(whole.state_dict(), path)
        network = build(spec(model, encoder_weights=str(path)), TASK)
        features = timm.create_model(model, num_classes=0)
        own = whole.state_dict()
        features.load_state_dict({key: own[key] for key in features.state_dict()})
        size = whole.default_cfg["input_size"][-1]
        images = torch.rand(2, 3, size, size)
        expected = features.eval()(images)
        assert torch.equal(encoder_of(network.eval())(images), expected)

    @pytest.mark.parametrize("bands", [1, 2, 5])
    def test_bands_are_adapted_as_timm_does_it(self, bands: int, tmp_path: Path) -> None:
        path = tmp_path / "whole.safetensors"
        whole = timm.create_model("resnet10t").state_dict()
        save_file(whole, path)
        network = build(spec("resnet10t", encoder_weights=str(path)), task(bands))
        state = encoder_of(network).state_dict()
        expected = adapt_input_conv(bands, whole["conv1.0.weight"])
        assert expected.shape[1] == bands
        torch.testing.assert_close(state.pop("conv1.0.weight"), expected)
        assert all(torch.equal(value, whole[key]) for key, value in state.items())

    def test_fetch_asks_timms_repository_once(self, tmp_path: Path) -> None:
        path = tmp_path / "hub.safetensors"
        model = timm.create_model("resnet18")
        save_file(model.state_dict(), path)
        hub = LocalHub(path)
        wanted = spec("resnet18", encoder_weights="imagenet")
        fetched = [fetch(wanted, tmp_path / "weights", hub) for _ in range(2)]
        assert fetched[0] == fetched[1]
        assert hub.asked == [("timm/resnet18.a1_in1k", "model.safetensors", None)]
        encoder = encoder_of(build(fetched[0], TASK))
        assert torch.equal(encoder.conv1.weight, model.conv1.weight)

    def test_a_tag_chooses_among_timms_weights(self, tmp_path: Path) -> None:
        hub = LocalHub(tmp_path / "none.safetensors")
        hub.path.write_bytes(b"")
        wanted = spec("resnet50.tv_in1k", encoder_weights="imagenet")
        assert fetch(wanted, tmp_path / "weights", hub)["model"] == "resnet50.tv_in1k"
        assert hub.asked[0][0] == "timm/resnet50.tv_in1k"

    def test_the_encoder_of_a_trained_network(self, tmp_path: Path) -> None:
        network = build(spec(), TASK)
        save_file(network.state_dict(), tmp_path / "best.safetensors")
        again = build(spec(encoder_weights=str(tmp_path / "best.safetensors")), task(3))
        for key, value in encoder_of(again).state_dict().items():
            assert torch.equal(value, encoder_of(network).state_dict()[key])

    def test_weights_of_another_model(self, tmp_path: Path) -> None:
        path = tmp_path / "other.safetensors"
        save_file(timm.create_model("test_efficientnet").state_dict(), path)
        with pytest.raises(WeightsError, match=r"another encoder.*missing"):
            build(spec("test_resnet", encoder_weights=str(path)), TASK)

    def test_weights_that_timm_does_not_have(self, tmp_path: Path) -> None:
        hub = LocalHub(tmp_path)
        with pytest.raises(WeightsError, match=r"no weights 'imagenett'\. Did you mean 'imagenet'"):
            fetch(spec("resnet18", encoder_weights="imagenett"), tmp_path, hub)
        with pytest.raises(ConfigError, match=r"'resnet81' is unknown to timm\. Near: resnet"):
            fetch(spec("resnet81", encoder_weights="imagenet"), tmp_path, hub)
        assert hub.asked == []


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"model": "efficientnet_b33"},
            r"'efficientnet_b33' is unknown to timm\. Near: efficientn",
        ),
        ({"model": "resnet50.a9_in1k"}, r"unknown to timm\. Near: resnet50\."),
        ({"head": "wide"}, "head = 'wide'"),
        ({"dropout": 1.5}, "dropout = 1.5"),
        ({"nonsense": 3}, "cannot be built.*nonsense"),
        ({"encoder_weights": "imagenet"}, "driver fetches"),
    ],
)
def test_what_cannot_be_built_says_why(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build({**spec(), **keys}, TASK)
