"""What a trial makes of its GPU: how busy it is, how much memory it takes, how long it is held."""

import logging
import os
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self

import torch

log = logging.getLogger(__name__)

HOUR = 3600.0


class Gpu(Protocol):
    """One GPU that can be asked; None stands for what it does not know."""

    def utilisation(self) -> float | None:
        """Return the percentage of the last moment in which the GPU computed, for anybody."""

    def memory_mb(self) -> float | None:
        """Return the MiB of it that this process takes, the CUDA context included."""


class NvidiaGpu:
    """A GPU as NVIDIA's management library (NVML) knows it.

    Args:
        uuid: such as GPU-5ad2...: CUDA and NVML count GPUs differently.
        nvml: the module pynvml.
        process: id of the process whose memory is asked for. In a container NVML may know it by
            another id; its memory then is not known.
    """

    def __init__(self, uuid: str, nvml: Any, process: int) -> None:
        self.nvml, self.process = nvml, process
        nvml.nvmlInit()
        self.handle = nvml.nvmlDeviceGetHandleByUUID(uuid)

    def utilisation(self) -> float | None:
        try:
            return float(self.nvml.nvmlDeviceGetUtilizationRates(self.handle).gpu)
        except self.nvml.NVMLError:  # A part of a divided GPU (MIG) does not say.
            return None

    def memory_mb(self) -> float | None:
        try:
            processes = self.nvml.nvmlDeviceGetComputeRunningProcesses(self.handle)
        except self.nvml.NVMLError:
            return None
        taken = [one.usedGpuMemory for one in processes if one.pid == self.process]
        return taken[0] / 2**20 if taken and taken[0] is not None else None


def find_gpu(device: torch.device) -> Gpu | None:
    """Return the GPU of a CUDA device; None where NVML does not know it, which is logged."""
    if device.type != "cuda":
        return None
    import pynvml

    uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
    try:
        return NvidiaGpu(uuid, pynvml, os.getpid())
    except pynvml.NVMLError as error:
        log.warning("the use of %s (%s) cannot be measured: %s", device, uuid, error)
        return None


class Usage:
    """Watches a trial's GPU from a thread of its own, while its `with` block runs.

    Args:
        gpus: reserved for the trial, over all its workers; 0 tells nothing.
        gpu: of this process.
    """

    def __init__(self, gpus: float = 0.0, gpu: Gpu | None = None, every_seconds: float = 1.0):
        self.gpus, self.gpu, self.every_seconds = gpus, gpu, every_seconds
        self.began, self.hours_before = time.monotonic(), 0.0
        self.busy: list[float] = []
        self.memory: list[float] = []
        self.ended, self.lock = threading.Event(), threading.Lock()

    def __enter__(self) -> Self:
        if self.gpu is not None:
            threading.Thread(target=self._watch, name="usage", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.ended.set()

    def go_on_from(self, metrics: Mapping[str, Any]) -> None:
        """Count on from the epoch that a trial resumes from."""
        self.hours_before = metrics.get("gpu_hours", 0.0)

    def gpu_hours(self) -> float:
        """Return the GPU-hours of the trial so far: GPUs reserved, times hours held.

        An epoch that was lost, and is trained again, counts once.
        """
        return self.hours_before + self.gpus * (time.monotonic() - self.began) / HOUR

    def take(self) -> dict[str, float]:
        """Return what is known since the last call: an epoch's metrics, none without a GPU.

        gpu_utilisation: mean percentage of the time in which the GPU computed.
        gpu_memory_mb: the most memory that this process took of it.
        gpu_hours: of the trial so far.
        """
        with self.lock:
            busy, memory = self.busy, self.memory
            self.busy, self.memory = [], []
        told = {"gpu_utilisation": sum(busy) / len(busy)} if busy else {}
        told |= {"gpu_memory_mb": max(memory)} if memory else {}
        return told | self.so_far()

    def so_far(self) -> dict[str, float]:
        """Return the metric `gpu_hours`, with which a trial goes on after a break."""
        return {"gpu_hours": self.gpu_hours()} if self.gpus else {}

    def _watch(self) -> None:
        assert self.gpu is not None
        while not self.ended.is_set():
            busy, memory = self.gpu.utilisation(), self.gpu.memory_mb()
            with self.lock:
                self.busy += [] if busy is None else [busy]
                self.memory += [] if memory is None else [memory]
            self.ended.wait(self.every_seconds)


def usage_on(device: torch.device, gpus: float, workers: int = 1) -> Usage:
    """Return the usage of a trial's worker that trains on a device.

    Args:
        gpus: reserved for each worker, such as 0.5.
    """
    held = gpus * workers if device.type == "cuda" else 0.0
    return Usage(held, find_gpu(device))
