"""mmedge's training side: a fusion model becomes a bundle.

import mmedge_export as mx
model, inputs, task = mx.from_pretrained("./clip-vit-base-patch32")
report = mx.export(model, inputs=inputs, task=task, out="door.mmedge")
"""

from __future__ import annotations

from mmedge.bundle import Classify, Embed, Ground, Raw
from mmedge_export.adapters import from_pretrained
from mmedge_export.bundle_source import export_bundle
from mmedge_export.declare import Image, Tensor, Text
from mmedge_export.options import Options, Report
from mmedge_export.pipeline import export, export_onnx
from mmedge_export.samples import Sample

__all__ = [
    "Classify",
    "Embed",
    "Ground",
    "Image",
    "Options",
    "Raw",
    "Report",
    "Sample",
    "Tensor",
    "Text",
    "export",
    "export_bundle",
    "export_onnx",
    "from_pretrained",
]
