"""A bundle as the source of an export: its fp32 stages become one graph again, and its goldens stay the reference.

So what the exporter has learned since reaches a bundle whose own source is gone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from mmedge.bundle import Bundle, ImageInput, Input, Stage, TensorSpec, TextInput, open_bundle
from mmedge.errors import ExportError
from mmedge_export.batch import one_frame
from mmedge_export.declare import Declaration, Image, Tensor, Text
from mmedge_export.options import Options, Report
from mmedge_export.pipeline import Job, calibration_tensors, run_export
from mmedge_export.precision.variants import FP32

Array = npt.NDArray[np.generic]

_UNFOLDED = "cached"
"""The form in which nothing is folded, where a bundle has forms; the others come with the most folded first."""

_ROW = re.compile(r"\| (.+) \| (.+) \|")


class BundleSource:
    """An open bundle whose stages are stitched together.

    Args:
        bundle: With the variant fp32 and with goldens.

    Raises:
        ExportError: It has none of these.
    """

    def __init__(self, bundle: Bundle) -> None:
        if FP32 not in bundle.manifest.variants:
            raise ExportError(f"{bundle.path} has no variant fp32, from which others could be made")
        self._bundle = bundle
        self.goldens = bundle.goldens()
        if not self.goldens:
            raise ExportError(f"{bundle.path} has no goldens: there is nothing to compare a new export with")

    @property
    def description(self) -> dict[str, str]:
        """That of the model from which the bundle was made."""
        return dict(self._bundle.manifest.source)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The source model's outputs, which are known for the goldens alone.

        Raises:
            ExportError: `inputs` are those of no golden.
        """
        for golden in self.goldens:
            if all(np.array_equal(array, golden.inputs[name]) for name, array in inputs.items()):
                return dict(golden.outputs)
        raise ExportError("the source of a bundle is known by its goldens alone, and cannot be run on other samples")

    def to_onnx(self, path: Path, specs: Sequence[TensorSpec], samples: Sequence[Mapping[str, Array]]) -> Path:
        """Write the fp32 stages as one graph, weights in a file beside it."""
        ir.save(stitched(self._bundle), path, external_data=f"{path.stem}.bin")
        return path


def stitched(bundle: Bundle) -> ir.Model:
    """The fp32 stages as one graph, in the form that is nearest to the model: prompts can be folded in again.

    Stages were cut from one graph: what one gives and another takes has the same name, and what several compute for
    themselves is the same in all.
    """
    manifest = bundle.manifest
    names: list[str | None] = [*manifest.forms] or [None]
    form = _UNFOLDED if _UNFOLDED in names else names[-1]
    folder = bundle.stages_folder().parent
    values: dict[str, ir.Value] = {}
    graph = ir.Graph([], [], nodes=[], name=manifest.name, opset_imports={})
    version = 0
    for stage in (s for s in manifest.stages if s.form in (None, form)):
        model = ir.load(folder / stage.files[FP32])
        version = max(version, model.ir_version)
        graph.opset_imports.update(model.opset_imports)
        _append(graph, model.graph, stage, values, {t.name for c in manifest.inputs.values() for t in c.tensors})
    present = {str(value.name) for value in graph.inputs}
    for spec in (t for c in manifest.inputs.values() for t in c.tensors):
        if spec.name not in present:
            graph.inputs.append(_input(spec))
    graph.outputs.extend(values[tensor.name] for tensor in manifest.outputs)
    return ir.Model(graph, ir_version=version, producer_name="mmedge")


def _append(graph: ir.Graph, part: ir.Graph, stage: Stage, values: dict[str, ir.Value], inputs: set[str]) -> None:
    """Move the nodes of a stage into `graph`, unless another stage brought what they give."""
    for value in list(part.initializers.values()):
        name = str(value.name)
        if name in values:
            _replace(value, values[name])
            part.initializers.pop(name)
    for value in list(part.inputs):
        if str(value.name) in values:
            _replace(value, values[str(value.name)])
    given = [v for v in part.inputs if str(v.name) not in values]
    unknown = [str(v.name) for v in given if str(v.name) not in inputs]
    if unknown:
        raise ExportError(f"stage {stage.name!r} takes {', '.join(unknown)}, which no stage before it gives")
    part.inputs.clear()
    for value in given:
        values[str(value.name)] = value
        graph.inputs.append(value)
    part.outputs.clear()
    for value in list(part.initializers.values()):
        part.initializers.pop(str(value.name))
        graph.register_initializer(value)
        values[str(value.name)] = value
    for node in list(part):
        known = [values.get(str(v.name)) for v in node.outputs]
        if all(v is not None for v in known):
            for value, other in zip(node.outputs, known, strict=True):
                _replace(value, other)
            part.remove(node)
            continue
        part.remove(node)
        graph.append(node)
        values.update({str(v.name): v for v in node.outputs if v.name})


def _replace(value: ir.Value, other: ir.Value | None) -> None:
    if other is not None and other is not value:
        ir.convenience.replace_all_uses_with(value, other)


def _input(spec: TensorSpec) -> ir.Value:
    dtype = ir.DataType.from_numpy(np.dtype(spec.dtype))
    return ir.Value(name=spec.name, shape=ir.Shape(spec.shape), type=ir.TensorType(dtype))


def export_bundle(
    path: Path | str, *, out: Path | str, precision: str = "auto", options: Options | None = None
) -> Report:
    """Export a bundle again from its own fp32 stages, with what the exporter has learned since, or in more precisions.

    Inputs, tokenizer, task, goldens and the description of the source are kept. So are name, version, licence, notes
    and accuracy, unless `options` has others; `samples` has no meaning, since the source cannot be run any more.

    Args:
        path: The bundle; it may be `out` itself.
        out, precision, options: As in `mmedge_export.export`.

    Raises:
        BundleError: There is no bundle at `path`, or it is damaged.
        ExportError: It has no fp32 stages or no goldens.
        ParityError, BundleWriteError: As in `mmedge_export.export`.
    """
    with open_bundle(path) as bundle:
        manifest = bundle.manifest
        source = BundleSource(bundle)
        tokenizer = bytes(bundle.read("tokenizer.json")).decode() if "tokenizer.json" in manifest.files else None
        chosen = _kept(bundle, options or Options())
        calibration = None
        if chosen.calibration is not None:
            declared = {name: _declared(contract, tokenizer) for name, contract in manifest.inputs.items()}
            calibration = partial(calibration_tensors, declared, chosen.calibration)
        inputs, before = one_frame(manifest.inputs)
        batch = before if chosen.batch is None else chosen.batch
        job = Job(source, inputs, tokenizer, manifest.task, lambda: source.goldens, calibration, batch)
        return run_export(job, Path(out), precision, chosen)


def _kept(bundle: Bundle, options: Options) -> Options:
    """The options, with what the bundle says of itself where they say nothing."""
    manifest, default = bundle.manifest, Options()
    card = bytes(bundle.read("MODEL_CARD.md")).decode() if "MODEL_CARD.md" in manifest.files else ""
    return replace(
        options,
        name=options.name or manifest.name,
        version=manifest.version if options.version == default.version else options.version,
        license=manifest.license if options.license == default.license else options.license,
        notes=options.notes or _notes(card),
        accuracy=options.accuracy or _accuracy(card),
    )


def _notes(card: str) -> str:
    """The paragraphs between the first, which names the bundle, and the first chapter."""
    paragraphs = card.partition("\n## ")[0].strip().split("\n\n")
    return "\n\n".join(paragraphs[2:])


def _accuracy(card: str) -> dict[str, str] | None:
    rows = _ROW.findall(card.partition("\n## Accuracy\n")[2].partition("\n## ")[0])
    return dict(rows[2:]) or None


def _declared(contract: Input, tokenizer: str | None) -> Declaration:
    """The declaration that gives a contract."""
    if isinstance(contract, ImageInput):
        own = {name: getattr(contract, name) for name in _IMAGE_FIELDS}
        return Image(name=contract.tensor.name, **own)
    if isinstance(contract, TextInput):
        rows, length = contract.ids.shape
        return Text(
            tokenizer or "",
            max_length=contract.max_length,
            ids=contract.ids.name,
            mask=None if contract.mask is None else contract.mask.name,
            pad_id=contract.pad_id,
            template=contract.template,
            dtype=contract.ids.dtype,
            axes=(rows, length),
            vocab_size=contract.vocab_size,
        )
    first, *rest = contract.tensors
    return Tensor(first.shape, first.name, first.dtype, tuple((t.name, t.dtype, t.shape) for t in rest))


_IMAGE_FIELDS = (
    "size", "resize", "shortest_edge", "crop", "interpolation", "mean", "std", "pad_value", "layout",
)  # fmt: skip
