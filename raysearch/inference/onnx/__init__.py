"""Models as ONNX files: written, checked against PyTorch, made smaller, and asked."""

from raysearch.inference.onnx.runner import OnnxModel
from raysearch.inference.onnx.writing import TOLERANCE, Written, adapted, write

__all__ = ["TOLERANCE", "OnnxModel", "Written", "adapted", "write"]
