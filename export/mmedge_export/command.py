"""What ``mmedge export MODEL`` does: find out what MODEL is, and export it."""

from __future__ import annotations

import importlib
import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mmedge.bundle import Raw
from mmedge.errors import ExportError
from mmedge_export.adapters import from_pretrained
from mmedge_export.bundle_source import export_bundle
from mmedge_export.declare import Declaration, Tensor
from mmedge_export.graph.prepare import load_graph
from mmedge_export.options import Options, Report
from mmedge_export.pipeline import export, export_onnx


def export_model(
    model: str, out: Path, *, task: str = "classify", precision: str = "auto", options: Options | None = None
) -> Report:
    """Export what `model` names.

    Args:
        model: A bundle, which is exported again; a Hugging Face folder; an ``.onnx`` file, whose inputs become one
            tensor modality each; or ``module:function``, a function without arguments that returns (model, inputs,
            task), where model is a torch module or the path of an ONNX file.
        out: ``NAME.mmedge``.
        task: For folders: ``classify`` or ``embed``.
        precision: See `mmedge_export.export`.
        options: See `mmedge_export.Options`.

    Raises:
        ExportError: `model` is none of these, or the export failed.
    """
    chosen = options or Options()
    place = Path(model)
    if place.suffix == ".mmedge" or (place / "manifest.json").is_file():
        return export_bundle(place, out=out, precision=precision, options=chosen)
    if place.is_dir():
        module, inputs, what = from_pretrained(place, task=task)
        chosen = replace(chosen, name=chosen.name or place.resolve().name)
        return export(module, inputs=inputs, task=what, out=out, precision=precision, options=chosen)
    if place.suffix == ".onnx":
        return export_onnx(place, inputs=tensor_inputs(place), task=Raw(), out=out, precision=precision, options=chosen)
    if ":" in model:
        return _export_function(model, out, precision, chosen)
    raise ExportError(f"{model!r} is no bundle, no folder, no .onnx file and no module:function; expected one of these")


def tensor_inputs(path: Path) -> dict[str, Declaration]:
    """Declare each input of an ONNX file as a plain tensor: the file does not say how frames and words become one."""
    declared: dict[str, Declaration] = {}
    for value in load_graph(path).graph.inputs:
        if value.is_initializer():
            continue
        if value.name is None or value.dtype is None or value.shape is None:
            raise ExportError(f"{path}: input {value.name!r} has no dtype or no shape; declare the inputs in Python")
        dtype = {"FLOAT": "float32", "DOUBLE": "float64"}.get(value.dtype.name, value.dtype.name.lower())
        shape = tuple(d if isinstance(d, int) else (d.value or f"{value.name}.{i}") for i, d in enumerate(value.shape))
        # File names may hold what names of modalities may not, such as ``serving_default_x:0``.
        modality = re.sub(r"[^A-Za-z0-9_.\-]", "_", value.name)[:64]
        while modality in declared:
            modality = f"{modality[:60]}_{len(declared)}"
        declared[modality] = Tensor(shape, name=value.name, dtype=dtype)
    return declared


def _export_function(reference: str, out: Path, precision: str, options: Options) -> Report:
    module_name, _, function_name = reference.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        make: Any = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise ExportError(f"{reference}: {error}; expected MODULE:FUNCTION that can be imported from here") from error
    finally:
        sys.path.remove(os.getcwd())
    made = make()
    if not isinstance(made, tuple) or len(made) != 3:
        raise ExportError(f"{reference} must return (model, inputs, task), got {type(made).__name__}")
    model, inputs, task = made
    if isinstance(model, torch.nn.Module):
        return export(model, inputs=inputs, task=task, out=out, precision=precision, options=options)
    return export_onnx(model, inputs=inputs, task=task, out=out, precision=precision, options=options)
