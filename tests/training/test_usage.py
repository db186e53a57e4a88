"""How a GPU's use is measured and counted, on a GPU that only says so."""

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from raysearch.training.usage import NvidiaGpu, Usage, usage_on

PATIENCE = 60  # Seconds, on a machine that is busy with something else.


class Told:
    """A GPU that says what it is told to, and notes how often it was asked."""

    def __init__(self, busy: list[float], memory: float | None = 100.0) -> None:
        self.says, self.memory, self.asked = busy, memory, 0

    def utilisation(self) -> float | None:
        self.asked += 1
        return self.says[min(self.asked, len(self.says)) - 1] if self.says else None

    def memory_mb(self) -> float | None:
        return None if self.memory is None else self.memory * self.asked


def wait_for(true: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_an_epoch_tells_the_mean_use_and_the_most_memory() -> None:
    gpu = Told([50.0, 100.0, 90.0, *[0.0] * 100_000])
    usage = Usage(1.0, gpu, every_seconds=0.01)
    with usage:
        wait_for(lambda: gpu.asked > 4)
    wait_for(lambda: not watchers())
    samples = gpu.asked
    told = usage.take()
    assert told["gpu_utilisation"] == pytest.approx(240 / samples)
    assert told["gpu_memory_mb"] == 100.0 * samples
    assert usage.take().keys() == {"gpu_hours"}


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "usage"]


def test_what_a_gpu_does_not_know_is_not_told() -> None:
    gpu = Told([], memory=None)
    with Usage(1.0, gpu, every_seconds=0.001) as usage:
        wait_for(lambda: gpu.asked > 1)
        assert usage.take().keys() == {"gpu_hours"}


def test_gpu_hours_are_those_of_all_workers_and_go_on_after_a_resume() -> None:
    usage = Usage(gpus=1.5)
    usage.began -= 7200
    first = usage.take()
    assert first["gpu_hours"] == pytest.approx(3.0, abs=0.1)
    again = Usage(gpus=1.5)
    again.go_on_from(first)
    again.began -= 3600
    assert again.take()["gpu_hours"] == pytest.approx(4.5, abs=0.1)


def test_a_cpu_has_nothing_to_tell() -> None:
    wait_for(lambda: not watchers())  # Those of the tests before.
    with usage_on(torch.device("cpu"), gpus=1.0) as usage:
        assert usage.take() == {}
        assert watchers() == []


class Nvml:
    """What is used of pynvml."""

    class NVMLError(Exception):
        pass

    def __init__(self, memory: dict[int, int | None], divided: bool = False) -> None:
        self.memory, self.divided = memory, divided

    def nvmlInit(self) -> None:
        self.ready = True

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid != "GPU-1":
            raise self.NVMLError("Not Found")
        return "handle"

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:
        if self.divided:
            raise self.NVMLError("Not Supported")
        return SimpleNamespace(gpu=87, memory=12)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[Any]:
        return [SimpleNamespace(pid=p, usedGpuMemory=m) for p, m in self.memory.items()]


@pytest.mark.parametrize(
    ("memory", "known"), [({7: 2**30, 8: 2**21}, 2.0), ({7: 2**30}, None), ({8: None}, None)]
)
def test_nvml_is_asked_for_this_process(memory: dict[int, int | None], known: float | None) -> None:
    gpu = NvidiaGpu("GPU-1", Nvml(memory), process=8)
    assert gpu.utilisation() == 87.0
    assert gpu.memory_mb() == known


def test_a_divided_gpu_does_not_say_how_busy_it_is() -> None:
    assert NvidiaGpu("GPU-1", Nvml({}, divided=True), process=8).utilisation() is None
