"""From a source model to a bundle: trace, prepare, cut, write, compare with the source, and only then publish."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch

from mmedge.bundle import Golden, Input, Manifest, Task, TensorSpec, TextInput, Variant, publish, seal, staging
from mmedge.bundle.inputs import DTYPES
from mmedge.bundle.writer import check_form, check_target
from mmedge.errors import ExportError, ParityError
from mmedge.verification import Verification, verify
from mmedge_export.assemble import PRECISION, Subject, assemble
from mmedge_export.capture import TorchSource
from mmedge_export.card import model_card
from mmedge_export.declare import Declaration, Text
from mmedge_export.graph.prepare import load_graph, prepare
from mmedge_export.graph.vocabulary import embedding_rows
from mmedge_export.onnx_source import OnnxSource
from mmedge_export.options import Options, Report
from mmedge_export.samples import default_samples, fitting_prompts, sample_tensors
from mmedge_export.steps import Steps, steps

Array = npt.NDArray[np.generic]

_MODALITY = re.compile(r"[A-Za-z0-9_.\-]{1,64}")


class Source(Protocol):
    """A model that can be run, and written as ONNX."""

    @property
    def description(self) -> dict[str, str]: ...

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]: ...

    def to_onnx(self, path: Path, specs: Sequence[TensorSpec], samples: Sequence[Mapping[str, Array]]) -> Path: ...


def export(
    model: torch.nn.Module,
    *,
    inputs: Mapping[str, Declaration],
    task: Task,
    out: Path | str,
    outputs: Sequence[str] | None = None,
    precision: str = "auto",
    options: Options | None = None,
) -> Report:
    """Export a torch module as a bundle.

    Args:
        model: Takes the declared tensors by keyword; put into evaluation mode.
        inputs: One declaration per modality.
        task: What the outputs mean.
        out: ``NAME.mmedge``.
        outputs: Names of the outputs, where the module returns a tuple; a mapping names its own.
        precision: ``auto`` or ``fp32``.
        options: See `Options`.

    Raises:
        ExportError: The module cannot be traced or cut.
        ParityError: The exported program differs from the module; nothing was written (``force`` writes it).
        BundleWriteError: The disk is full or `out` cannot be written; nothing was left behind.
    """
    return _export(TorchSource(model, outputs), inputs, task, Path(out), precision, options or Options())


def export_onnx(
    path: Path | str,
    *,
    inputs: Mapping[str, Declaration],
    task: Task,
    out: Path | str,
    precision: str = "auto",
    options: Options | None = None,
) -> Report:
    """Export an existing ONNX file as a bundle. Arguments and errors as in `export`; the file is its own reference."""
    return _export(OnnxSource(Path(path)), inputs, task, Path(out), precision, options or Options())


def _export(
    source: Source, declared: Mapping[str, Declaration], task: Task, out: Path, precision: str, options: Options
) -> Report:
    _check_call(declared, out, precision, options)
    began = time.monotonic()
    with steps(options.progress) as bar:
        bar.start("running the source model")
        goldens = _goldens(source, declared, options)
        with staging(out) as root:
            folder, scratch = root / "bundle", root / "traced"
            folder.mkdir()
            scratch.mkdir()
            subject = _subject(source, declared, task, goldens, scratch, bar)
            bar.start("cutting the graph into stages")
            manifest = assemble(subject, folder, out.stem, options)
            bar.start("comparing with the source model")
            verification = verify(folder)
            if not verification.passed and not options.force:
                raise ParityError(_gate_message(verification))
            bar.start("writing the bundle")
            manifest = _with_parity(folder, manifest, verification, options)
            publish(folder, out, form=options.form)
        bar.finish()
    return Report(out, manifest, verification, _warnings(manifest, verification), time.monotonic() - began)


def _check_call(declared: Mapping[str, Declaration], out: Path, precision: str, options: Options) -> None:
    """What can be refused before anything is computed."""
    if precision not in ("auto", PRECISION):
        raise ExportError(f"precision must be 'auto' or 'fp32', got {precision!r}")
    for name in declared:
        if not _MODALITY.fullmatch(name):
            raise ExportError(f"modality {name!r:.80} must be letters, digits, '_', '-' or '.', at most 64 of them")
    for name, declaration in declared.items():
        for spec in declaration.contract.tensors:
            if spec.dtype not in DTYPES:
                raise ExportError(
                    f"tensor {spec.name!r} of {name!r}: dtype must be one of {', '.join(DTYPES)}, got {spec.dtype!r}"
                )
    check_form(options.form)
    check_target(out)


def _subject(
    source: Source,
    declared: Mapping[str, Declaration],
    task: Task,
    goldens: list[Golden],
    scratch: Path,
    bar: Steps,
) -> Subject:
    inputs = {name: declaration.contract for name, declaration in declared.items()}
    tokenizer = next((d.tokenizer_json for d in declared.values() if isinstance(d, Text)), None)
    specs = [spec for contract in inputs.values() for spec in contract.tensors]
    bar.start("tracing the model")
    graph_file = source.to_onnx(scratch / "source.onnx", specs, [golden.inputs for golden in goldens])
    bar.start("folding constants and inferring shapes")
    graph = load_graph(graph_file)
    texts = [contract for contract in inputs.values() if isinstance(contract, TextInput)]
    limits = {axis: t.max_length for t in texts for axis in t.ids.shape[1:] if isinstance(axis, str)}
    prepare(graph, specs, limits)
    _check_task(task, graph)
    _check_vocabulary(inputs, graph)
    return Subject(source.description, graph, inputs, tokenizer, task, goldens)


def _goldens(source: Source, declared: Mapping[str, Declaration], options: Options) -> list[Golden]:
    text = next((d for d in declared.values() if isinstance(d, Text)), None)
    goldens = []
    for index, sample in enumerate(options.samples or default_samples(declared)):
        tensors = sample_tensors(declared, sample, index=index)
        prompts = () if text is None else tuple(fitting_prompts(sample.prompts, text, index))
        goldens.append(Golden(tensors, source.run(tensors), sample.frame, prompts))
    return goldens


def _check_task(task: Task, graph: ir.Model) -> None:
    names = [str(value.name) for value in graph.graph.outputs]
    missing = [name for name in task.outputs if name not in names]
    if missing:
        raise ExportError(f"the task needs output {', '.join(missing)}; the model gives {', '.join(names)}")


def _check_vocabulary(inputs: Mapping[str, Input], graph: ir.Model) -> None:
    for contract in inputs.values():
        rows = embedding_rows(graph.graph, contract.ids.name) if isinstance(contract, TextInput) else None
        if isinstance(contract, TextInput) and rows is not None and contract.vocab_size > rows:
            raise ExportError(
                f"wrong tokenizer: it has {contract.vocab_size} token ids, the model's embedding table {rows} rows; "
                "use the tokenizer that the model was trained with"
            )


def _with_parity(folder: Path, manifest: Manifest, verification: Verification, options: Options) -> Manifest:
    variant = Variant(verification.passed, options.tolerance, verification.errors)
    measured = replace(manifest, variants={PRECISION: variant})
    (folder / "MODEL_CARD.md").write_text(model_card(measured, options), encoding="utf-8")
    return seal(folder, measured)


def _gate_message(verification: Verification) -> str:
    return (
        f"the exported program differs from the source model: {'; '.join(verification.reasons)}; nothing was written. "
        "Report it with the model, or write it marked unverified with force"
    )


def _warnings(manifest: Manifest, verification: Verification) -> tuple[str, ...]:
    used = {modality for stage in manifest.stages for modality in stage.label}
    warnings = [
        f"no output depends on {name!r}: it is taken and not used" for name in manifest.inputs if name not in used
    ]
    if not verification.passed:
        warnings.append(f"the bundle is marked unverified: {'; '.join(verification.reasons)}")
    return tuple(warnings)
