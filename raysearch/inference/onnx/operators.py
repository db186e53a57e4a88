"""Operators that PyTorch's exporter can only write for a size that is known beforehand."""

from typing import Any

import torch
from onnxscript import FLOAT, INT64, opset20

op: Any = opset20  # Its operators take Python's numbers too, which their types do not say.
FLOAT32 = 1  # onnx.TensorProto.FLOAT


def adaptive_average_pool(self: FLOAT, output_size: INT64) -> FLOAT:
    """Average (N, C, h, w) to (N, C, *output_size): part i of k is from floor(i h / k) to
    ceil((i + 1) h / k), as in PyTorch, by a matrix of shares for rows and one for columns."""
    shape = op.Shape(self)
    rows = _shares(_entry(shape, 2), _entry(output_size, 0))
    columns = _shares(_entry(shape, 3), _entry(output_size, 1))
    pooled: FLOAT = op.MatMul(op.MatMul(rows, self), op.Transpose(columns, perm=[1, 0]))
    return pooled


def _entry(sizes: Any, number: int) -> Any:
    return op.Squeeze(op.Slice(sizes, [number], [number + 1], [0]), [0])


def _shares(length: Any, count: Any) -> Any:
    """The share of each of `length` places in each of `count` means, (count, length)."""
    zero, one = op.Constant(value_int=0), op.Constant(value_int=1)
    part = op.Range(zero, count, one)
    begin = op.Div(op.Mul(part, length), count)
    end = op.Div(op.Sub(op.Add(op.Mul(op.Add(part, one), length), count), one), count)
    place = op.Unsqueeze(op.Range(zero, length, one), [0])
    begin, end = op.Unsqueeze(begin, [1]), op.Unsqueeze(end, [1])
    inside = op.And(op.GreaterOrEqual(place, begin), op.Less(place, end))
    return op.Div(op.Cast(inside, to=FLOAT32), op.Cast(op.Sub(end, begin), to=FLOAT32))


TRANSLATIONS: dict[Any, Any] = {torch.ops.aten._adaptive_avg_pool2d.default: adaptive_average_pool}
