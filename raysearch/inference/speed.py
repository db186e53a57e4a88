"""How fast a model answers in PyTorch, compiled, and in ONNX Runtime: medians after a warm-up.

Timed is the graph that is exported, from prepared images to probabilities, without reading and
preparing them.
"""

import logging
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import onnxruntime
import torch
from torch import Tensor

from raysearch.inference.models import Model
from raysearch.inference.onnx.graph import Graph
from raysearch.inference.onnx.runner import EXTENT, Feeds, OnnxModel

BATCHES = (1, 8)
ROUNDS, LEAST = 15, 3  # Of each batch, at most and at least.
SECONDS = 4.0  # That these take together, beyond the least.
COMPILE_SECONDS = 240.0  # That compiling and timing may take.
CLOSING = 10.0  # That its process may take to end.


@dataclass(frozen=True)
class Speed:
    """Attributes:
    seconds: of one image, by the images of a batch.
    reason: why there are none.
    """

    seconds: Mapping[int, float] = field(default_factory=dict)
    reason: str = ""


def batches(onnx: OnnxModel, image: Tensor) -> dict[int, Feeds]:
    """Return prepared batches of one image (C, h, w), as stored, by the number of images."""
    return {count: onnx.prepare([image] * count) for count in BATCHES}


def onnx_speed(onnx: OnnxModel, feeds: Mapping[int, Feeds]) -> Speed:
    return Speed({n: timed(lambda one=one: onnx.run(one)) / n for n, one in feeds.items()})  # type: ignore[misc]


def eager_speed(model: Model, feeds: Mapping[int, Feeds], device: torch.device) -> Speed:
    """Time a model whose members are on the device."""
    return _graph_speed(Graph(model).eval(), feeds, device)


def compiled_speed(
    model: Model,
    feeds: Mapping[int, Feeds],
    device: torch.device,
    seconds: float = COMPILE_SECONDS,
) -> Speed:
    """Time `torch.compile` in a process of its own, which is ended where it takes too long."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.pt"
        torch.save((Graph(model).eval(), dict(feeds)), path)
        asked = (path, str(device), torch.get_num_threads(), sender)
        process = context.Process(target=_compiled, args=asked, daemon=True)
        process.start()
        sender.close()
        try:
            if not receiver.poll(seconds):
                return Speed(reason=f"not compiled within {seconds:.0f} s")
            speed: Speed = receiver.recv()
            process.join(CLOSING)
            return speed
        except EOFError:
            return Speed(reason=f"its process ended with code {process.exitcode}")
        finally:
            process.kill()
            process.join()


def _compiled(path: Path, device: str, threads: int, sender: Any) -> None:
    torch.set_num_threads(threads)
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # It misses CUDA.
    graph, feeds = torch.load(path, weights_only=False)
    try:
        speed = _graph_speed(torch.compile(graph), feeds, torch.device(device))
    except Exception as error:  # Whatever a compiler may raise is the row's reason.
        speed = Speed(reason=str(error).strip().splitlines()[0][:120])
    sender.send(speed)


@torch.inference_mode()
def _graph_speed(graph: Any, feeds: Mapping[int, Feeds], device: torch.device) -> Speed:
    found = {}
    for count, one in feeds.items():
        arrays = {name: torch.from_numpy(array) for name, array in one.items()}
        size = arrays.pop(EXTENT, None)
        images = [array.to(device) for array in arrays.values()]

        def ask(images: list[Tensor] = images, size: Tensor | None = size) -> None:
            graph(images, size)
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        found[count] = timed(ask) / count
    return Speed(found)


def timed(call: Callable[[], object]) -> float:
    """Return the median seconds of a call, after one that does not count."""
    call()
    took: list[float] = []
    while len(took) < LEAST or (len(took) < ROUNDS and sum(took) < SECONDS):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return median(took)


def here() -> str:
    """Say what the times were taken with, and whether others took the machine's time."""
    busy, cores = os.getloadavg()[0], os.cpu_count() or 1
    told = f"{torch.get_num_threads()} thread(s), load {busy:.1f} on {cores} cores"
    if busy > cores:
        told += " (BUSY: these times are no measure of the machine; repeat them when it is idle)"
    return f"{told}, PyTorch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}"
