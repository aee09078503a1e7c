"""Preflight: what a target cannot take of a bundle, found before anything is copied to a device.

The rules are those of the target's row in `mmedge.targets`. Where the target's own engine is installed here, its real
parser is asked as well, since it knows restrictions that no table has (modes of ``Resize``, forms of ``Loop``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from mmedge.bundle import Bundle, Manifest, Variant, open_bundle
from mmedge.errors import EngineError, MissingDependencyError
from mmedge.targets import Target
from mmedge_export.number_formats import graph_precisions, load_typed

ERROR, WARNING, NOTE = "error", "warning", "note"

_DOMAIN = "mmedge"
_QUANTIZED = frozenset({"QuantizeLinear", "DequantizeLinear"})


@dataclass(frozen=True)
class Finding:
    """Something about a bundle that matters on a target.

    Attributes:
        severity: ``error`` (the variant does not run there), ``warning`` (it runs, with a limit) or ``note``.
        why: The reason, and what to do about it.
        variant, stage: Where; "" for all of them.
        node, op_type: The node, "" where no single one is meant.
    """

    severity: str
    why: str
    variant: str = ""
    stage: str = ""
    node: str = ""
    op_type: str = ""

    def to_json(self) -> dict[str, str]:
        return asdict(self)

    def __str__(self) -> str:
        place = ", ".join(f"{what} {name}" for what, name in (("variant", self.variant), ("stage", self.stage)) if name)
        node = f"{self.op_type} {self.node}".strip()
        return f"{self.severity}: {': '.join(part for part in (place, node, self.why) if part)}"


def preflight(bundle: Bundle | Path | str, target: Target) -> tuple[Finding, ...]:
    """Everything about `bundle` that `target` cannot take, or takes with a limit.

    Args:
        bundle: An open bundle, or the path of one, zip or folder.
        target: See `mmedge.targets.target`.

    Raises:
        BundleError: The bundle cannot be read.
    """
    with ExitStack() as stack:
        opened = bundle if isinstance(bundle, Bundle) else stack.enter_context(open_bundle(bundle))
        found = [*_about_python(target)]
        for name, variant in opened.manifest.variants.items():
            if variant.engines and not {target.engine, *target.alternatives} & set(variant.engines):
                made_for = " and ".join(variant.engines)
                found.append(Finding(NOTE, f"made for {made_for}: not for {target.engine}, and not checked", name))
            else:
                found += _about_variant(opened, name, variant, target)
        return tuple(found)


def usable_variants(manifest: Manifest, target: Target, findings: Iterable[Finding]) -> tuple[str, ...]:
    """The variants that run on `target` by these findings of `preflight`."""
    failed = {finding.variant for finding in findings if finding.severity == ERROR}
    return tuple(
        name
        for name, variant in manifest.variants.items()
        if not {"", name} & failed
        and (not variant.engines or {target.engine, *target.alternatives} & set(variant.engines))
    )


def _about_python(target: Target) -> Iterator[Finding]:
    oldest, newest = (".".join(map(str, version)) for version in target.python)
    if target.python[0] == target.python[1]:
        yield Finding(NOTE, f"Python there is {newest}: install wheels of mmedge and its libraries for that version")
    else:
        yield Finding(NOTE, f"Python there is {oldest} to {newest}")


def _about_variant(bundle: Bundle, name: str, variant: Variant, target: Target) -> list[Finding]:
    found: list[Finding] = []
    precisions = {variant.compute}
    for stage in bundle.manifest.stages:
        path = bundle.stages_folder() / Path(stage.files[name]).name
        model = load_typed(path)
        precisions |= graph_precisions(model)
        by_rule = list(_about_model(model, name, stage.name, target))
        found += by_rule
        found += [item for item in _ask_parser(path, name, stage.name, target) if not _said(item, by_rule)]
    # That the parser was not asked is said once, not for every stage.
    return [*_about_precisions(precisions, name, target), *dict.fromkeys(found)]


def _about_precisions(precisions: Iterable[str], variant: str, target: Target) -> Iterator[Finding]:
    for precision in sorted(precisions):
        if precision not in target.precisions:
            why = f"{target.name} has no {precision}; it has {', '.join(target.precisions)}"
            yield Finding(ERROR, why, variant)
        elif lacking := target.lacking.get(precision):
            names = ", ".join(f"sm_{architecture}" for architecture in lacking)
            yield Finding(WARNING, f"there is no {precision} on {names}", variant)


def _about_model(model: ir.Model, variant: str, stage: str, target: Target) -> Iterator[Finding]:
    opset = model.opset_imports.get("", 0)
    if opset > target.opset:
        why = f"opset {opset} is newer than {target.opset}, the newest that {target.runtime} reads"
        yield Finding(ERROR, f"{why}; export with opset {target.opset} or older", variant, stage)
    for value in model.graph.inputs:
        yield from _about_types([value], "", "", variant, stage, target)
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        name = str(node.name or next((output.name for output in node.outputs), None) or node.op_type)
        refused = _why_refused(node, target)
        if refused is not None:
            yield Finding(ERROR, refused, variant, stage, name, node.op_type)
        else:
            yield from _about_types(node.outputs, name, node.op_type, variant, stage, target)


def _why_refused(node: ir.Node, target: Target) -> str | None:
    if node.domain == _DOMAIN:
        if target.plugins == "quick":
            return None
        how = {"pack": "kernels run between engines there, never inside", "none": "there are no plugins"}
        return f"{target.runtime} does not run operators of mmedge: {how[target.plugins]}"
    if node.domain not in ("", "ai.onnx"):
        return f"the domain {node.domain} is not standard ONNX" if target.engine != "onnxruntime" else None
    if node.op_type in target.refused:
        return target.refused[node.op_type]
    if node.op_type in _QUANTIZED and not target.zero_points:
        return _why_asymmetric(node, target)
    return None


def _why_asymmetric(node: ir.Node, target: Target) -> str | None:
    zero_point = node.inputs[2] if len(node.inputs) > 2 else None
    if zero_point is None:
        return None
    tensor = ir.convenience.get_const_tensor(zero_point)
    if tensor is None:
        return f"{target.runtime} wants a zero point of 0, and this one is computed; use symmetric Q/DQ"
    if np.any(tensor.numpy().astype(np.float32) != 0):
        return f"{target.runtime} wants a zero point of 0, and this one is not; use symmetric Q/DQ"
    return None


def _about_types(
    values: Iterable[ir.Value], node: str, op_type: str, variant: str, stage: str, target: Target
) -> Iterator[Finding]:
    for value in values:
        kind = value.dtype.name if value.dtype is not None else ""
        if kind in target.dtypes:
            why = f"{target.runtime} has no {kind.lower()} ({value.name})"
            yield Finding(ERROR, why, variant, stage, node or str(value.name), op_type)
        elif kind == "DOUBLE" and not target.float64:
            why = f"float64 ({value.name}) is narrowed to float32 and clamped to its range"
            yield Finding(WARNING, why, variant, stage, node or str(value.name), op_type)


def _said(finding: Finding, earlier: Iterable[Finding]) -> bool:
    """Whether our rules named this node already.

    The parser puts the names of outer nodes, each with its kind in brackets, before that of an inner one, and leaves
    away the name of an inner node that has none.
    """
    own = finding.node
    names = [other.node for other in earlier if other.node and other.op_type == finding.op_type]
    return any(own == name or own.endswith((f"/{name}", f"node_of_{name}")) for name in names) or (
        bool(names) and own.endswith(")")
    )


def _ask_parser(path: Path, variant: str, stage: str, target: Target) -> list[Finding]:
    """What the parser of the target's own engine refuses, where it is installed here."""
    if not target.engine.startswith("tensorrt"):
        return []
    try:
        from mmedge.engines.tensorrt import refusals

        refused = refusals(path, library=target.engine)
    except (ImportError, EngineError, MissingDependencyError) as error:
        return [Finding(NOTE, f"the parser of {target.runtime} was not asked, only our rules: {error}", variant)]
    return [Finding(ERROR, item.why, variant, stage, item.node, item.op_type) for item in refused]
