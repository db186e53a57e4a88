"""A smaller, faster ONNX file for CPUs: weights and activations in 8 bits.

Static quantisation by ONNX Runtime: the ranges of activations are those of calibration images, each
output channel of a weight has a range of its own. Each network's first and last layer stay in
float32, and so does all that lies outside of them (normalisation, softmax, means over members),
where 8 bits hurt most. Weights take 7 of their 8 bits: with 8, processors without VNNI overflow
where two products are added in 16 bits, and what is measured on another one would not hold there.
"""

import json
import logging
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor

from raysearch.errors import RunError
from raysearch.inference.onnx.runner import KEY, OnnxModel
from raysearch.inference.outputs import aside

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
PASSING = ("Add", "Concat", "MaxPool", "Relu")  # They take 8 bits from layer to layer.


def quantize(source: Path, path: Path, images: Iterable[Tensor]) -> None:
    """Write an 8-bit form of a file that `raysearch.inference.onnx.write` has written.

    Args:
        images: (C, h, w) each, as stored, to calibrate by; none that quality is measured on.

    Raises:
        RunError: the graph has no layers between its first and its last.
    """
    model = OnnxModel(source)
    with tempfile.TemporaryDirectory() as folder, aside(path) as other, _quiet():
        ready = Path(folder) / "ready.onnx"
        quant_pre_process(str(source), str(ready), skip_symbolic_shape=True)
        inner = inner_nodes(onnx.load(ready, load_external_data=False).graph.node)
        if not inner:
            raise RunError(f"{source}: has no layers that 8 bits would help; leave out --int8")
        quantize_static(
            str(ready),
            str(other),
            _Calibration(model, images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=[*WEIGHTED, *PASSING],
            nodes_to_quantize=inner,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        written = onnx.load(other)
        onnx.helper.set_model_props(written, {KEY: json.dumps({**model.about, "int8": True})})
        onnx.save(written, other)


class _Calibration(CalibrationDataReader):  # type: ignore[misc, unused-ignore]
    """Prepared images, one at a time."""

    def __init__(self, model: OnnxModel, images: Iterable[Tensor]) -> None:
        self.feeds = (model.prepare([image]) for image in images)

    def get_next(self) -> dict[str, Any] | None:
        return next(self.feeds, None)


def inner_nodes(nodes: Sequence[Any]) -> list[str]:
    """Name the nodes that come after a network's first layer with weights and before its last.

    Args:
        nodes: of a graph, each after those that it takes from.
    """
    after = _reached(nodes, lambda node: node.input, lambda node: node.output)
    before = _reached(nodes[::-1], lambda node: node.output, lambda node: node.input)
    types = (*WEIGHTED, *PASSING)
    return [
        node.name
        for node in nodes
        if node.op_type in types
        and any(name in after for name in node.input)
        and any(name in before for name in node.output)
    ]


def _reached(nodes: Sequence[Any], takes: Any, gives: Any) -> set[str]:
    """Name the values that a layer with weights lies before, in the order of the nodes."""
    found: set[str] = set()
    for node in nodes:
        if node.op_type in WEIGHTED or any(name in found for name in takes(node)):
            found.update(gives(node))
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """The library warns of shapes that it does not need."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
