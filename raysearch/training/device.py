"""The device a trial runs on, and how: precision, threads, memory."""

import os
import platform
import random
import re
import resource
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raysearch.errors import ConfigError


def find_device(index: int | None = None) -> torch.device:
    """Return the GPU (CUDA, then Apple's MPS) of this process, or the CPU.

    Args:
        index: which CUDA device; None is the current one.

    Raises:
        ConfigError: the installed torch has no kernels for the GPU.
    """
    if torch.cuda.is_available():
        number = torch.cuda.current_device() if index is None else index
        check_kernels(
            torch.cuda.get_device_name(number),
            torch.cuda.get_device_capability(number),
            torch.cuda.get_arch_list(),
        )
        return torch.device("cuda", number)
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def describe_machine() -> dict[str, str]:
    """Return what figures of this machine may depend on, for the records."""
    told = {
        "Python": platform.python_version(),
        "system": platform.platform(),
        "processors": f"{os.cpu_count()} {platform.machine()}",
    }
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
        told["GPUs"] = " + ".join(names)
    return told


def check_kernels(name: str, capability: tuple[int, int], architectures: Iterable[str]) -> None:
    """Refuse a GPU that the installed torch was not compiled for.

    Raises:
        ConfigError: no architecture of torch's list runs on that compute capability.
    """
    architectures = list(architectures)
    if has_kernels(capability, architectures):
        return
    raise ConfigError(
        f"{name} has compute capability {capability[0]}.{capability[1]}, for which the installed "
        f"torch {torch.__version__} has no kernels (it has {' '.join(architectures)}). Install a "
        "build that has them (https://pytorch.org/get-started/previous-versions: the CUDA 12.6 "
        "builds reach back to 5.0), or hide the GPU to train on the CPU: CUDA_VISIBLE_DEVICES=''"
    )


def has_kernels(capability: tuple[int, int], architectures: Iterable[str]) -> bool:
    """Whether code for one of torch's architectures runs on a GPU of a compute capability.

    sm_XY runs on the same major version from that minor on, sm_XYa on exactly that GPU, and
    compute_XY (PTX) on any later one. Lists without such names (ROCm's) are trusted.
    """
    found = [re.fullmatch(r"(sm|compute)_(\d+)(\d)([af]?)", name) for name in architectures]
    known = [match for match in found if match]
    for match in known:
        kind, major, minor, suffix = match.groups()
        built_for = int(major), int(minor)
        if kind == "compute" and not suffix and built_for <= capability:
            return True
        if kind == "sm" and built_for[0] == capability[0]:
            runs = built_for == capability if suffix == "a" else built_for <= capability
            if runs:
                return True
    return not known


def prepare(seed: int, threads: int, device: torch.device) -> None:
    """Seed every generator, keep to the threads reserved, and let cuDNN choose its kernels."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = device.type == "cuda"
    forget_peak_memory(device)


def peak_memory_mb(device: torch.device) -> float:
    """Return the most memory used so far: the GPU's allocations, or the process's on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if device.type == "mps":
        return torch.mps.driver_allocated_memory() / 2**20
    if STATUS.is_file():
        peak = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text(encoding="ascii"))
        if peak:
            return int(peak[1]) / 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def forget_peak_memory(device: torch.device) -> None:
    """Begin to measure the peak anew, for a process that trains one trial after another."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):
        CLEAR.write_text("5", encoding="ascii")  # proc(5): resets the peak resident set size.


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the type that autocast uses; float32 stands for no autocast.

    "auto" is bfloat16 on GPUs that compute in it (8.0 and later), float16 on those with tensor
    cores before (7.0), and float32 on older ones, on MPS and on the CPU. A precision that is asked
    for by name is used on every device.
    """
    named = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if precision in named:
        return named[precision]
    if precision != "auto":
        raise ConfigError(f"precision '{precision}' is unknown. Valid: auto, {', '.join(named)}.")
    if device.type != "cuda":
        return torch.float32
    major, _ = torch.cuda.get_device_capability(device)
    return torch.bfloat16 if major >= 8 else torch.float16 if major == 7 else torch.float32


class Precision:
    """Mixed precision of one trial: autocast forward, scaled gradients where they are float16."""

    def __init__(self, precision: str, device: torch.device) -> None:
        self.device = device
        self.dtype = choose_dtype(precision, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context of the forward pass."""
        enabled = self.dtype != torch.float32
        return torch.autocast(self.device.type, self.dtype if enabled else None, enabled=enabled)

    def scale(self, loss: Tensor) -> Tensor:
        """Return the loss to call backward on."""
        scaled: Tensor = self.scaler.scale(loss)
        return scaled

    def step(
        self, optimizer: torch.optim.Optimizer, network: nn.Module, clip_norm: float | None
    ) -> None:
        """Clip the unscaled gradients to a norm and take the optimizer step.

        Scaled gradients that overflowed skip the step and lower the scale.
        """
        if clip_norm is not None:
            self.scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
        self.scaler.step(optimizer)
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        return self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the state of a saved scaler; one without scaling has none."""
        if state and self.scaler.is_enabled():
            self.scaler.load_state_dict(state)
