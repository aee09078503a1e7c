"""Bundles with one stage and any variants, for tests of what a target takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
import onnx.parser

from mmedge.bundle import Cost, Manifest, Raw, Site, Stage, TensorInput, TensorSpec, Variant, publish, seal, staging
from mmedge.bundle.writer import file_entries

FP32 = Variant(True, 1e-4, {})


def parse_graph(text: str, *, opset: int = 20, domains: str = "") -> onnx.ModelProto:
    """An ONNX model from the text form of its graph; domains: more opset imports, such as ``, "mmedge": 1``."""
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}{domains}]>\n{text}')


def write_variants(
    out: Path,
    graphs: Mapping[str, onnx.ModelProto],
    variants: Mapping[str, Variant] | None = None,
    *,
    cost: Cost | None = None,
    sites: tuple[Site, ...] = (),
) -> Path:
    """Write a bundle whose one stage, ``scan``, has a graph for each variant; the first graph names inputs and outputs.

    Args:
        out: ``NAME.mmedge``.
        graphs: Variant -> graph.
        variants: Variant -> its entry; None makes each plain fp32.
        cost: Of the stage.
        sites: For the manifest.
    """
    first = next(iter(graphs.values())).graph
    with staging(out) as folder:
        (folder / "stages").mkdir()
        for name, model in graphs.items():
            onnx.save(model, folder / f"stages/scan.{name}.onnx")
        inputs, outputs = tuple(map(_spec, first.input)), tuple(map(_spec, first.output))
        stage = Stage(
            "scan",
            ("scan",),
            {name: f"stages/scan.{name}.onnx" for name in graphs},
            inputs,
            outputs,
            cost or Cost(1, 1),
        )
        manifest = Manifest(
            name="scan",
            version="1",
            created="2026-01-01T00:00:00Z",
            producer="tests",
            license="Apache-2.0",
            source={"framework": "onnx"},
            task=Raw(),
            inputs={"scan": TensorInput(inputs)},
            outputs=outputs,
            stages=(stage,),
            variants=variants or dict.fromkeys(graphs, FP32),
            files=file_entries(folder),
            sites=sites,
        )
        seal(folder, manifest)
        publish(folder, out)
    return out


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    kind = value.type.tensor_type
    name = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
    dtype = {"float": "float32", "double": "float64"}.get(name, name)
    return TensorSpec(value.name, dtype, tuple(d.dim_param or d.dim_value for d in kind.shape.dim))
