"""The prompt compiler: under a standing prompt, cross-attention is a product, a softmax in groups, and a product.

Requires: a prepared graph. Ensures: every attention whose keys and values change less often than its scores is folded
where that saves work, for the prompt lengths at hand; where the best program depends on the length, the graph holds
each of its forms side by side, and everything that they share once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from mmedge.bundle import Form, ImageInput, Input, Site, TextInput
from mmedge_export.graph.axes import name_axes, prompt_lengths
from mmedge_export.graph.compiler.attention import find_attention
from mmedge_export.graph.compiler.choice import Choice, choose
from mmedge_export.graph.compiler.decompose import decompose, put_back
from mmedge_export.graph.compiler.naming import site_name
from mmedge_export.graph.compiler.projection import Folder
from mmedge_export.graph.compiler.rewrite import FormWriter, fold_names, softmax_of
from mmedge_export.graph.compiler.sites import Candidate, judge
from mmedge_export.graph.cost import node_flops
from mmedge_export.graph.labels import Label, label_values
from mmedge_export.graph.sizes import Sizes, concrete_sizes

_PROBE_SIZES = (3, 5, 7, 11, 13, 17)


@dataclass(frozen=True)
class Compilation:
    """What the compiler did.

    Attributes:
        outputs: The graph's outputs of each form, by its name, in the order of the model's; {} if there is one form.
        forms: What a frame costs in each.
        sites: Every attention across modalities, and what became of it.
    """

    outputs: Mapping[str, list[ir.Value]] = field(default_factory=dict)
    forms: Mapping[str, Form] = field(default_factory=dict)
    sites: tuple[Site, ...] = ()


def compile_prompts(model: ir.Model, inputs: Mapping[str, Input], *, rewrite: bool = True) -> Compilation:
    """Compile the prompts into the attention of a prepared graph, in place.

    Args:
        model: Prepared. With several forms it gets the outputs of all of them.
        inputs: Contract of each modality.
        rewrite: False only reports the sites.
    """
    graph = model.graph
    parts = decompose(graph)
    if parts:
        # Not `infer`: what nothing reads now may be put back.
        ShapeInferencePass(strict_mode=False)(model)
        name_axes(model, prompt_lengths(inputs))
    modalities = {spec.name: name for name, contract in inputs.items() for spec in contract.tensors}
    labels = label_values(graph, modalities)
    rates = {name: _rate(contract) for name, contract in inputs.items()}
    folder, sizes = _folder(model, labels, inputs)
    found = [judge(attention, labels, rates, folder) for attention in find_attention(graph, labels)]
    candidates = [candidate for candidate in found if candidate is not None]
    quick = max(rates.values(), default=0)
    frame = [n for n in graph if any(rates[m] == quick for m in labels[n.outputs[0]])] if candidates else []
    if not rewrite or any(_holds_graph(node) for node in graph):
        choice = Choice({"": frozenset()}, {})
    else:
        choice = choose(candidates, prompt_lengths(inputs), float(sum(node_flops(node, sizes) for node in frame)))
    folded = {candidates[index].attention.softmax for fold in choice.folds.values() for index, _ in fold}
    put_back(parts, {new for new in parts if softmax_of(new) in folded})
    parts = {new: old for new, old in parts.items() if softmax_of(new) in folded}
    outputs = _write(graph, candidates, choice, parts)
    return Compilation(outputs, choice.forms, _report(candidates, choice))


def _rate(contract: Input) -> int:
    """How often a modality changes, as a rank."""
    return 0 if isinstance(contract, TextInput) else 2 if isinstance(contract, ImageInput) else 1


def _folder(model: ir.Model, labels: Mapping[ir.Value, Label], inputs: Mapping[str, Input]) -> tuple[Folder, Sizes]:
    """The sizes by which layouts are told apart: each named axis has one of its own."""
    specs = [spec for contract in inputs.values() for spec in contract.tensors]
    axes = list(dict.fromkeys(axis for spec in specs for axis in spec.shape if isinstance(axis, str)))
    limits = prompt_lengths(inputs)
    chosen = {a: min(s, limits.get(a, s)) for a, s in zip(axes, _PROBE_SIZES, strict=False)}
    chosen |= dict.fromkeys(axes[len(_PROBE_SIZES) :], _PROBE_SIZES[-1])
    arrays = {s.name: np.zeros([chosen[d] if isinstance(d, str) else d for d in s.shape], s.dtype) for s in specs}
    sizes = concrete_sizes(model, arrays)
    return Folder(model.graph, labels, sizes, arrays, {size: axis for axis, size in chosen.items()}), sizes


def _holds_graph(node: ir.Node) -> bool:
    """Loops and branches read values of the graph around them, which a form would have to replace inside of them."""
    return any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())


def _write(
    graph: ir.Graph, candidates: list[Candidate], choice: Choice, parts: Mapping[ir.Value, ir.Value]
) -> dict[str, list[ir.Value]]:
    nodes = list(graph)
    written = {
        name: FormWriter(graph, name, nodes, parts).write(candidates, fold) for name, fold in choice.folds.items()
    }
    names = [str(value.name) for value in graph.outputs]
    if len(written) == 1:
        for index, value in enumerate(next(iter(written.values()))):
            old = graph.outputs[index]
            if value is not old:
                old.name, value.name = f"{names[index]}.plain", names[index]
                value.shape, value.type = old.shape, old.type
                graph.outputs[index] = value
        return {}
    own = list(graph.outputs)
    for values in written.values():
        for value, old in zip(values, own, strict=True):
            if value not in graph.outputs:
                value.shape, value.type = old.shape, old.type
                graph.outputs.append(value)
    return written


def _report(candidates: list[Candidate], choice: Choice) -> tuple[Site, ...]:
    done = fold_names(candidates, choice.folds)
    names = [site_name(candidate.attention) for candidate in candidates]
    sites = []
    for index, c in enumerate(candidates):
        compiled = any((index, half.kind) in fold for fold in choice.folds.values() for half in c.halves)
        form = "compiled" if compiled else "cached" if c.slow else "plain"
        words = [done[index]] if c.halves else []
        why = "; ".join((*words, *c.reasons)) or "keys and values are kept"
        asks, answers = tuple(sorted(c.asks)), tuple(sorted(c.answers))
        sites.append(Site(names[index], asks, answers, c.heads, c.width, form, why))
    return tuple(sites)
