"""Pretrained encoder weights: fetched once by the driver, then read from a file by every node."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from raysearch.errors import ConfigError, WeightsError, closest

SUFFIXES = (".safetensors", ".pth")


class Hub(Protocol):
    """Where pretrained weights come from."""

    def file(self, repository: str, name: str, revision: str | None) -> Path: ...


class HuggingFaceHub:
    """The Hugging Face hub, or this machine's cache of it.

    The hub is asked once, without the library's minute of retries, before anything is downloaded.
    """

    def __init__(self, endpoint: str | None = None, timeout: float = 5.0) -> None:
        self.endpoint, self.timeout = endpoint, timeout

    def file(self, repository: str, name: str, revision: str | None) -> Path:
        """Return a local copy of one file.

        Raises:
            WeightsError: the file is neither in the cache nor can it be downloaded.
        """
        import huggingface_hub as hub
        from huggingface_hub.errors import LocalEntryNotFoundError

        where: dict[str, Any] = {"revision": revision, "endpoint": self.endpoint}
        try:
            return Path(hub.hf_hub_download(repository, name, local_files_only=True, **where))
        except LocalEntryNotFoundError:
            url = hub.hf_hub_url(repository, name, **where)
        try:
            hub.get_hf_file_metadata(url, timeout=self.timeout, endpoint=self.endpoint)
            return Path(hub.hf_hub_download(repository, name, **where))
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise WeightsError(f"{url}: {reason[0]}") from error


def is_file(weights: str) -> bool:
    """Whether encoder_weights is a path rather than the name of pretrained weights."""
    return weights.endswith(SUFFIXES) or os.sep in weights


def fetch(spec: dict[str, Any], folder: Path, hub: Hub | None = None) -> dict[str, Any]:
    """Bring the weights that a specification names to a file, and return it pointing there.

    Weights named like "imagenet" are downloaded into `folder` once; a path is made absolute; a
    specification without weights is returned as it is.

    Raises:
        ConfigError: unknown encoder.
        WeightsError: the encoder has no such weights, they cannot be fetched, or the file is
            missing.
    """
    weights = spec.get("encoder_weights")
    if weights is None:
        return spec
    if is_file(weights):
        return {**spec, "encoder_weights": str(_existing(Path(weights)))}
    encoder = _encoder(spec)
    repository, name, revision = _locate(encoder, weights)
    target = folder / f"{encoder}-{weights}.safetensors"
    if not target.exists():
        try:
            source = (hub or HuggingFaceHub()).file(repository, name, revision)
        except WeightsError as error:
            raise WeightsError(
                f"encoder '{encoder}': its {weights} weights cannot be fetched: {error}. Either "
                "name a copy on this machine (encoder_weights: /path/to/file.safetensors or .pth), "
                "or train from random weights (encoder_weights: null, or allow_random_weights: "
                "true in the study)"
            ) from error
        _copy(source, target)
    return {**spec, "encoder_weights": str(target.resolve())}


def _encoder(spec: dict[str, Any]) -> str:
    """Return the name of a specification's encoder as smp has it: "tu-" before timm's names."""
    from raysearch.models.networks import read_options

    values: Any = read_options(spec)[1]
    return f"tu-{values.model}" if spec["type"] == "timm" else str(values.encoder)


def _locate(encoder: str, weights: str) -> tuple[str, str, str | None]:
    """Return repository, file name and revision of an encoder's weights on the hub."""
    if encoder.startswith("tu-"):
        return _locate_timm(encoder.removeprefix("tu-"), weights)
    from segmentation_models_pytorch.encoders import encoders

    from raysearch.models.networks.smp import check_encoder

    check_encoder(encoder)
    settings = encoders[encoder]["pretrained_settings"]
    if weights not in settings:
        raise WeightsError(
            f"encoder '{encoder}' has no weights '{weights}'. {closest(weights, settings)}"
        )
    return settings[weights]["repo_id"], "model.safetensors", settings[weights]["revision"]


def _locate_timm(model: str, weights: str) -> tuple[str, str, str | None]:
    """Return where timm publishes a model's weights; a tag chooses (resnet50.a1_in1k)."""
    from timm.models import get_pretrained_cfg

    from raysearch.models.networks.timm import check_model

    check_model(model)
    published = get_pretrained_cfg(model)
    if published is None or not published.hf_hub_id:
        raise WeightsError(f"encoder '{model}': timm has no pretrained weights on the hub")
    if weights != "imagenet":
        raise WeightsError(
            f"encoder '{model}' has no weights '{weights}'. {closest(weights, ['imagenet'])} "
            f"timm's other weights have a tag in the model's name, such as {model}.tag"
        )
    return published.hf_hub_id, published.hf_hub_filename or "model.safetensors", None


def _existing(path: Path) -> Path:
    path = path.expanduser().resolve()
    if not path.is_file():
        raise WeightsError(f"encoder_weights: {path} does not exist; correct the path")
    if path.suffix not in SUFFIXES:
        raise WeightsError(f"encoder_weights: {path} is neither a .safetensors nor a .pth file")
    return path


def _copy(source: Path, target: Path) -> None:
    """Copy aside, then rename: a copy that is there is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copyfile(source, aside)
    aside.replace(target)


def load_encoder(network: nn.Module, path: str | Path) -> None:
    """Load a file into the encoder of a network of smp or timm.

    Takes the state of smp's encoder, of timm's whole model, of a whole network (its "encoder."
    part), or any of these under "state_dict" or "model". What the encoder lacks (a classifier, the
    stages below its depth) is passed over. A first convolution for three bands is adapted to the
    encoder's number of bands as smp and timm do it.

    Raises:
        ConfigError: the path is a name of pretrained weights, such as "imagenet".
        WeightsError: the file is missing, cannot be read, or belongs to another encoder.
    """
    if not is_file(str(path)):
        raise ConfigError(
            f"encoder_weights '{path}' is no file; the driver fetches pretrained weights with "
            "raysearch.models.weights.fetch before a network is built"
        )
    path = _existing(Path(path))
    encoder: Any = network.encoder
    given = {_canonical(key): value for key, value in _read(path).items()}
    state: dict[str, Tensor] = {}
    missing, misfits = [], []
    for key, own in encoder.state_dict().items():
        value = given.get(_canonical(key))
        if value is None:
            if not key.endswith("num_batches_tracked"):
                missing.append(key)
            continue
        state[key] = _adapt_bands(value, own)
        if state[key].shape != own.shape:
            misfits.append(f"{key} is {tuple(value.shape)}, not {tuple(own.shape)}")
    if missing or misfits:
        faults = [f"{len(missing)} entries missing ({', '.join(missing[:3])})"] if missing else []
        faults += [f"{len(misfits)} of another shape ({'; '.join(misfits[:3])})"] if misfits else []
        raise WeightsError(
            f"{path}: these weights belong to another encoder than {type(encoder).__name__}: "
            f"{', '.join(faults)}. Name the file of the encoder in the study"
        )
    encoder.load_state_dict(state, strict=False)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError) as error:
        raise WeightsError(f"{path}: cannot be read as weights: {error}") from error
    except Exception as error:
        raise WeightsError(
            f"{path}: refused, because it holds more than tensors ({type(error).__name__}). "
            "Save the state_dict alone"
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: holds a {type(content).__name__}, not a state_dict")
    state = {key.removeprefix("module."): v for key, v in content.items() if torch.is_tensor(v)}
    for prefix in ("network.encoder.", "encoder."):
        if any(key.startswith(prefix) for key in state):
            return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return state


def _canonical(key: str) -> str:
    """Make one name of smp's `model.stages_0.x` and timm's `stages.0.x`."""
    return key.removeprefix("model.").replace("_", ".")


def _adapt_bands(value: Tensor, own: Tensor) -> Tensor:
    """Adapt a first convolution (C, 3, k, k) to another number of bands.

    One band takes the sum of the three; more bands repeat them, scaled so that the sum over bands
    stays (the rule that smp and timm share).
    """
    bands = own.shape[1] if own.ndim == 4 else 0
    only_bands_differ = (
        value.ndim == own.ndim == 4
        and value.shape[1] == 3
        and bands != 3
        and value.shape[0] == own.shape[0]
        and value.shape[2:] == own.shape[2:]
    )
    if not only_bands_differ:
        return value
    if bands == 1:
        return value.sum(dim=1, keepdim=True)
    repeated = value.repeat(1, -(-bands // 3), 1, 1)[:, :bands]
    return repeated * (3 / bands)
