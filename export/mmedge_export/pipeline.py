"""From a source model to a bundle: trace, prepare, cut, write, compare with the source, and only then publish."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch

from mmedge.agreement import is_constant
from mmedge.bundle import Golden, Input, Manifest, Task, TensorSpec, TextInput, Variant, publish, seal, staging
from mmedge.bundle.inputs import DTYPES
from mmedge.bundle.writer import check_form, check_target
from mmedge.errors import ExportError, ParityError
from mmedge.verification import Verification, verify
from mmedge_export.assemble import PRECISION, Subject, assemble
from mmedge_export.batch import open_batch
from mmedge_export.capture import TorchSource
from mmedge_export.card import model_card
from mmedge_export.declare import Declaration, Text
from mmedge_export.graph.axes import prompt_lengths
from mmedge_export.graph.prepare import load_graph, prepare
from mmedge_export.graph.vocabulary import embedding_rows
from mmedge_export.onnx_source import OnnxSource
from mmedge_export.options import Options, Report
from mmedge_export.precision import Wanted, Workshop, parse_precision, search
from mmedge_export.samples import Sample, default_samples, fitting_prompts, sample_tensors
from mmedge_export.steps import Steps, steps

Array = npt.NDArray[np.generic]

_MODALITY = re.compile(r"[A-Za-z0-9_.\-]{1,64}")


class Source(Protocol):
    """A model that can be run, and written as ONNX."""

    @property
    def description(self) -> dict[str, str]: ...

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]: ...

    def to_onnx(self, path: Path, specs: Sequence[TensorSpec], samples: Sequence[Mapping[str, Array]]) -> Path: ...


@dataclass(frozen=True)
class Job:
    """What is to be exported.

    Attributes:
        source: The model.
        inputs: Contract of each modality, for one frame.
        tokenizer: Content of tokenizer.json, or None.
        task: What the outputs mean.
        goldens: Makes the samples with the source's outputs.
        calibration: Makes the input tensors that give ranges; None takes those of the goldens.
        batch: Several frames may run at once.
    """

    source: Source
    inputs: Mapping[str, Input]
    tokenizer: str | None
    task: Task
    goldens: Callable[[], list[Golden]]
    calibration: Callable[[], list[Mapping[str, Array]]] | None
    batch: bool = False


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
        precision: ``auto`` tries variants on this machine and keeps those that are faster and within their limits;
            ``fp32`` tries none; names with commas between them, such as ``int8`` or ``auto,int8-symmetric``, are put
            into the bundle in any case. See `mmedge_export.precision.VARIANTS`.
        options: See `Options`.

    Raises:
        ExportError: The module cannot be traced or cut, or `precision` is unknown.
        ParityError: The exported program differs from the module, or a variant that was asked for is outside of its
            limits; nothing was written (``force`` writes it).
        BundleWriteError: The disk is full or `out` cannot be written; nothing was left behind.
    """
    _check_names(inputs)
    chosen = options or Options()
    return run_export(_job(TorchSource(model, outputs), inputs, task, chosen), Path(out), precision, chosen)


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
    _check_names(inputs)
    chosen = options or Options()
    return run_export(_job(OnnxSource(Path(path)), inputs, task, chosen), Path(out), precision, chosen)


def run_export(job: Job, out: Path, precision: str, options: Options) -> Report:
    """Export a job. Errors as in `export`."""
    wanted = parse_precision(precision)
    _check_contracts(job.inputs)
    _check_batch(job, wanted)
    check_form(options.form)
    check_target(out)
    began = time.monotonic()
    with steps(options.progress) as bar:
        bar.start("running the source model")
        goldens = job.goldens()
        with staging(out) as root:
            folder, scratch = root / "bundle", root / "traced"
            folder.mkdir()
            scratch.mkdir()
            subject = _subject(job, goldens, scratch, bar)
            bar.start("cutting the graph into stages")
            manifest = assemble(subject, folder, out.stem, options)
            if job.batch:
                manifest = open_batch(folder, manifest)
            bar.start("comparing with the source model")
            verification = verify(folder, engine="onnxruntime:cpu", precision=PRECISION)
            if not verification.passed and not options.force:
                raise ParityError(_gate_message(verification))
            manifest = _with_parity(folder, manifest, verification, options)
            bar.start("searching for the fastest precision")
            if verification.passed:
                inputs = [g.inputs for g in goldens] if job.calibration is None else job.calibration()
                manifest = search(Workshop(folder, manifest, goldens, inputs), wanted, options)
            bar.start("writing the bundle")
            (folder / "MODEL_CARD.md").write_text(model_card(manifest, options), encoding="utf-8")
            manifest = seal(folder, manifest)
            publish(folder, out, form=options.form)
        bar.finish()
    return Report(out, manifest, verification, _warnings(manifest, verification, goldens), time.monotonic() - began)


def _job(source: Source, declared: Mapping[str, Declaration], task: Task, options: Options) -> Job:
    samples = options.calibration
    return Job(
        source,
        {name: declaration.contract for name, declaration in declared.items()},
        next((d.tokenizer_json for d in declared.values() if isinstance(d, Text)), None),
        task,
        lambda: _goldens(source, declared, options),
        None if samples is None else partial(calibration_tensors, declared, samples),
        bool(options.batch),
    )


def calibration_tensors(declared: Mapping[str, Declaration], samples: Sequence[Sample]) -> list[Mapping[str, Array]]:
    """The input tensors of each sample."""
    return [sample_tensors(declared, sample, index=index) for index, sample in enumerate(samples)]


def _check_names(declared: Mapping[str, Declaration]) -> None:
    for name in declared:
        if not _MODALITY.fullmatch(name):
            raise ExportError(f"modality {name!r:.80} must be letters, digits, '_', '-' or '.', at most 64 of them")


def _check_batch(job: Job, wanted: Wanted) -> None:
    dynamic = [variant.name for variant in wanted.forced if variant.rewrite == "dynamic"]
    if job.batch and dynamic:
        raise ExportError(
            f"variant {dynamic[0]} takes its ranges over all frames that run at once, so a frame's result would depend "
            "on the others; leave out the one or the other"
        )


def _check_contracts(inputs: Mapping[str, Input]) -> None:
    for name, contract in inputs.items():
        for spec in contract.tensors:
            if spec.dtype not in DTYPES:
                raise ExportError(
                    f"tensor {spec.name!r} of {name!r}: dtype must be one of {', '.join(DTYPES)}, got {spec.dtype!r}"
                )


def _subject(job: Job, goldens: list[Golden], scratch: Path, bar: Steps) -> Subject:
    specs = [spec for contract in job.inputs.values() for spec in contract.tensors]
    bar.start("tracing the model")
    graph_file = job.source.to_onnx(scratch / "source.onnx", specs, [golden.inputs for golden in goldens])
    bar.start("folding constants and inferring shapes")
    graph = load_graph(graph_file)
    prepare(graph, specs, prompt_lengths(job.inputs))
    _check_task(job.task, graph)
    _check_vocabulary(job.inputs, graph)
    return Subject(job.source.description, graph, job.inputs, job.tokenizer, job.task, goldens)


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
    return seal(folder, replace(manifest, variants={PRECISION: variant}))


def _gate_message(verification: Verification) -> str:
    return (
        f"the exported program differs from the source model: {'; '.join(verification.reasons)}; nothing was written. "
        "Report it with the model, or write it marked unverified with force"
    )


def _warnings(manifest: Manifest, verification: Verification, goldens: Sequence[Golden]) -> tuple[str, ...]:
    used = {modality for stage in manifest.stages for modality in stage.label}
    warnings = [
        f"no output depends on {name!r}: it is taken and not used" for name in manifest.inputs if name not in used
    ]
    warnings.extend(
        f"the source model gives the same {name!r} for samples that differ: it was broken before it was exported, or "
        "the samples are too much alike"
        for name in _constant_outputs(manifest, goldens)
    )
    warnings.extend(
        f"variant {name} is marked unverified" for name, variant in manifest.variants.items() if not variant.verified
    )
    if not verification.passed:
        warnings.append(f"the bundle is marked unverified: {'; '.join(verification.reasons)}")
    return tuple(warnings)


def _constant_outputs(manifest: Manifest, goldens: Sequence[Golden]) -> list[str]:
    """Outputs of the source that stay the same although what they depend on changes from sample to sample."""
    found = []
    for output in manifest.outputs:
        labels = [stage.label for stage in manifest.stages if output.name in {t.name for t in stage.outputs}]
        tensors = [t.name for label in labels[:1] for modality in label for t in manifest.inputs[modality].tensors]
        by_shape: dict[tuple[int, ...], list[Golden]] = {}
        for golden in goldens:
            by_shape.setdefault(golden.outputs[output.name].shape, []).append(golden)
        groups = [g for g in by_shape.values() if len(g) > 1 and any(_differ(name, g) for name in tensors)]
        if groups and all(is_constant([golden.outputs[output.name] for golden in group]) for group in groups):
            found.append(output.name)
    return found


def _differ(name: str, goldens: Sequence[Golden]) -> bool:
    first = goldens[0].inputs[name]
    return any(not np.array_equal(first, golden.inputs[name]) for golden in goldens[1:])
