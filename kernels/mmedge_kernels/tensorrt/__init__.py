"""Our kernels inside TensorRT engines: ONNX nodes of domain ``mmedge`` as quick plugins with ahead-of-time PTX."""

from __future__ import annotations

from mmedge_kernels.tensorrt.operators import OPERATORS, Attribute, PluginOperator
from mmedge_kernels.tensorrt.plugins import register_plugins

__all__ = ["OPERATORS", "Attribute", "PluginOperator", "register_plugins"]
