"""Pretrained weights from a hub, from a file, and what is refused."""

import socket
import time
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from segmentation_models_pytorch.encoders import get_encoder

from raysearch.config import Task
from raysearch.errors import WeightsError
from raysearch.models import build
from raysearch.models.weights import HuggingFaceHub, fetch


def task(bands: int = 3) -> Task:
    return Task("segmentation", bands, ("ground", "cat"))


def spec(weights: object, encoder: str = "resnet18", **keys: object) -> dict[str, object]:
    return {"type": "smp", "encoder": encoder, "encoder_weights": weights, **keys}


class LocalHub:
    """Serves one file for every request and remembers what was asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.asked: list[tuple[str, str, str | None]] = []

    def file(self, repository: str, name: str, revision: str | None) -> Path:
        self.asked.append((repository, name, revision))
        return self.path


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    torch.manual_seed(7)
    state = get_encoder("resnet18").state_dict()
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    save_file(state, path)
    return path, state


def test_fetch_downloads_once_into_the_folder(resnet, tmp_path: Path) -> None:
    path, state = resnet
    hub = LocalHub(path)
    fetched = [fetch(spec("imagenet"), tmp_path / "weights", hub) for _ in range(2)]
    assert fetched[0] == fetched[1]
    assert hub.asked == [("smp-hub/resnet18.imagenet", "model.safetensors", hub.asked[0][2])]
    assert Path(fetched[0]["encoder_weights"]).parent == tmp_path / "weights"
    assert [p.name for p in (tmp_path / "weights").iterdir()] == ["resnet18-imagenet.safetensors"]
    encoder = build(fetched[0], task()).network.encoder
    assert all(torch.equal(value, state[key]) for key, value in encoder.state_dict().items())


def test_fetch_asks_timms_repository(resnet, tmp_path: Path) -> None:
    hub = LocalHub(resnet[0])
    fetch(spec("imagenet", "tu-resnet18"), tmp_path, hub)
    assert hub.asked[0][:2] == ("timm/resnet18.a1_in1k", "model.safetensors")


def test_fetch_leaves_other_networks_alone(tmp_path: Path) -> None:
    for other in ({"type": "unet"}, spec(None)):
        assert fetch(other, tmp_path, LocalHub(tmp_path)) == other


def test_fetch_makes_a_path_absolute(resnet, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(resnet[0].parent)
    fetched = fetch(spec("./resnet18.safetensors"), tmp_path)
    assert fetched["encoder_weights"] == str(resnet[0])


def test_no_network_is_an_error_within_seconds(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        hub = HuggingFaceHub(f"http://127.0.0.1:{closed.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(WeightsError) as caught:
            fetch(spec("imagenet"), tmp_path / "weights", hub)
    assert time.monotonic() - started < 10
    message = str(caught.value)
    assert "cannot be fetched: http://127.0.0.1" in message
    assert "encoder_weights: /path/to/file.safetensors" in message
    assert "allow_random_weights: true" in message
    assert not (tmp_path / "weights").exists()


def test_weights_that_an_encoder_does_not_have(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no weights 'imagenett'\. Did you mean 'imagenet'"):
        fetch(spec("imagenett"), tmp_path, LocalHub(tmp_path))


@pytest.mark.parametrize("wrapped", [False, True])
def test_pth_files(resnet, tmp_path: Path, wrapped: bool) -> None:
    state = resnet[1]
    classifier = {"fc.weight": torch.zeros(10, 512)}
    old = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    content = {"state_dict": {f"module.{k}": v for k, v in old.items()}} if wrapped else old
    torch.save({**content, **classifier} if not wrapped else content, tmp_path / "a.pth")
    encoder = build(spec(str(tmp_path / "a.pth")), task()).network.encoder
    assert torch.equal(encoder.conv1.weight, state["conv1.weight"])


def test_the_encoder_of_a_whole_network(tmp_path: Path) -> None:
    network = build(spec(None), task())
    save_file(network.state_dict(), tmp_path / "best.safetensors")
    again = build(spec(str(tmp_path / "best.safetensors")), task())
    assert torch.equal(again.network.encoder.conv1.weight, network.network.encoder.conv1.weight)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext", "test_vit"])
def test_timms_own_files_fit_its_encoders(name: str, tmp_path: Path) -> None:
    model = timm.create_model(name)
    save_file(model.state_dict(), tmp_path / "timm.safetensors")
    decoder = "dpt" if name == "test_vit" else "unet"
    path = str(tmp_path / "timm.safetensors")
    encoder = build(spec(path, f"tu-{name}", decoder=decoder), task()).network.encoder
    given = {key.replace("_", "."): value for key, value in model.state_dict().items()}
    for key, value in encoder.state_dict().items():
        assert torch.equal(value, given[key.removeprefix("model.").replace("_", ".")])


def test_bands_are_adapted_as_smp_does_it(resnet) -> None:
    for bands in (1, 5):
        expected = get_encoder("resnet18")
        expected.load_state_dict(resnet[1])
        expected.set_in_channels(bands, pretrained=True)
        encoder = build(spec(str(resnet[0])), task(bands)).network.encoder
        torch.testing.assert_close(encoder.conv1.weight, expected.conv1.weight)
        assert torch.equal(encoder.layer4[0].conv1.weight, expected.layer4[0].conv1.weight)


def test_a_shallower_encoder_takes_what_it_has(resnet) -> None:
    keys = {"decoder": "pspnet", "encoder_depth": 3}
    encoder = build(spec(str(resnet[0]), **keys), task()).network.encoder
    assert torch.equal(encoder.conv1.weight, resnet[1]["conv1.weight"])


class Payload:
    """Touches a file when it is unpickled without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_what_is_no_weights_of_this_encoder_is_refused(resnet, tmp_path: Path) -> None:
    (tmp_path / "empty.safetensors").touch()
    (tmp_path / "truncated.pth").write_bytes(b"PK\x03\x04 nothing")
    (tmp_path / "weights.h5").touch()
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"a": Payload(tmp_path / "touched")}, tmp_path / "code.pth")
    for name, message in {
        "absent.pth": "does not exist",
        "empty.safetensors": "cannot be read",
        "truncated.pth": "cannot be read",
        "weights.h5": "neither a .safetensors nor a .pth",
        "list.pth": "holds a list",
        "code.pth": "more than tensors",
    }.items():
        with pytest.raises(WeightsError, match=message):
            build(spec(str(tmp_path / name)), task())
    assert not (tmp_path / "touched").exists()
    with pytest.raises(WeightsError, match=r"another encoder.*missing"):
        build(spec(str(resnet[0]), "mobilenet_v2"), task())
    with pytest.raises(WeightsError, match=r"another encoder.*of another shape \(layer1"):
        build(spec(str(resnet[0]), "resnet50"), task())
