"""The graph side of the exporter: prepare an ONNX graph, label it, split it into stages, count what they cost."""

from __future__ import annotations
