"""The stage partition: which part of a graph runs when which modality changes.

A stage is all nodes of one label. What a stage needs from smaller labels becomes an input of it and an output of
theirs. Two refinements keep it cheap: values that were only spread out (``Expand``) are cut before the spreading, and a
stage that costs less than its own call is merged into its only consumer. Both move nodes to a larger label, which is
always right: a larger label only runs more often.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from mmedge.errors import GraphError
from mmedge_export.graph.cost import node_flops
from mmedge_export.graph.labels import CONSTANT, Label, label_values, reads
from mmedge_export.graph.sizes import Sizes, value_bytes

_SPREADING = frozenset({"Expand", "Tile", "Unsqueeze", "Reshape", "Cast", "CastLike", "Identity", "ConstantOfShape"})
_FLOPS_PER_SECOND = 20e9
_BYTES_PER_SECOND = 10e9
CALL_SECONDS = 20e-6
"""What one more engine call costs on a small machine; a stage that computes for less is merged into its consumer."""


Key = tuple[Label, str | None]
"""Label and form."""


@dataclass
class StagePlan:
    """One stage of the partition.

    Attributes:
        label: The modalities on which it depends.
        nodes: Its nodes, in graph order. A node can belong to several stages, if recomputing it is cheaper than a cut.
        inputs: Graph inputs and outputs of smaller stages.
        outputs: What larger stages or the caller need.
        flops: Operations of one run, where shapes are known.
        bytes: Weights, inputs and outputs, each once.
        counted: The operations of every node are known: no loops, no branches, no shapes that depend on data.
        form: The form that needs it; None if all do.
        renamed: Names of outputs that are the model's, where their values have other names.
    """

    label: Label
    form: str | None
    nodes: list[ir.Node] = field(default_factory=list)
    inputs: list[ir.Value] = field(default_factory=list)
    outputs: list[ir.Value] = field(default_factory=list)
    flops: int = 0
    bytes: int = 0
    counted: bool = True
    renamed: dict[ir.Value, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        label = "+".join(sorted(self.label)) or "constant"
        return label if self.form is None else f"{label}.{self.form}"

    @property
    def output_names(self) -> list[str]:
        """The names under which the outputs leave: those of the model's outputs are the same in every form."""
        return [self.renamed.get(value, str(value.name)) for value in self.outputs]

    @property
    def key(self) -> Key:
        return self.label, self.form


def partition(
    graph: ir.Graph,
    modalities: Mapping[str, str],
    sizes: Sizes,
    *,
    merge_below: float = CALL_SECONDS,
    forms: Mapping[str, Sequence[ir.Value]] | None = None,
) -> list[StagePlan]:
    """Split a prepared graph into stages.

    Args:
        graph: Prepared: flat, shapes inferred, no random nodes.
        modalities: The modality of each input tensor, by the tensor's name.
        sizes: Concrete shapes of one sample, by which cuts and merges are judged.
        forms: The graph's outputs of each form, where it holds several.
        merge_below: Stages estimated to compute for less than this many seconds join their only consumer; 0 keeps all.

    Returns:
        The stages, smaller labels first, so that they can run in this order.

    Raises:
        GraphError: A value that would have to cross a cut is no tensor of known dtype.
    """
    merged: dict[Key, Key] = {}
    absorbed: set[Key] = set()
    while True:
        stages = _Cut(graph, modalities, sizes, merged, absorbed, forms or {}).stages()
        pair = _mergeable(stages, set(graph.outputs), merge_below)
        if pair is None:
            inner = _absorbable(stages, set(graph.outputs))
            if inner is None:
                return stages
            absorbed.add(inner)
            continue
        small, large = pair
        merged = {key: large if home == small else home for key, home in merged.items()} | {small: large}


class _Cut:
    """One cut of the graph under a given merging of labels."""

    def __init__(
        self,
        graph: ir.Graph,
        modalities: Mapping[str, str],
        sizes: Sizes,
        merged: Mapping[Key, Key],
        absorbed: set[Key],
        forms: Mapping[str, Sequence[ir.Value]],
    ) -> None:
        self._graph = graph
        self._sizes = sizes
        self._absorbed = absorbed
        self._reads = reads(graph)
        keys = self._keys(label_values(graph, modalities), forms)
        self._home = {value: merged.get(key, key) if value.producer() else key for value, key in keys.items()}
        self._wanted: dict[Key, dict[ir.Value, None]] = {}

    def stages(self) -> list[StagePlan]:
        for value in self._graph.outputs:
            self._want(value)
        done: list[StagePlan] = []
        while pending := [key for key in self._wanted if key not in {stage.key for stage in done}]:
            done.append(self._collect(max(pending, key=_order)))
        return sorted(done, key=lambda stage: _order(stage.key))

    def _keys(self, labels: Mapping[ir.Value, Label], forms: Mapping[str, Sequence[ir.Value]]) -> dict[ir.Value, Key]:
        """Label and form of each value: what one form alone needs belongs to it, what several need to all."""
        needed: dict[ir.Node, set[str]] = {}
        for form, outputs in forms.items():
            stack = list(outputs)
            while stack:
                node = stack.pop().producer()
                if node is not None and form not in needed.setdefault(node, set()):
                    needed[node].add(form)
                    stack.extend(self._reads[node])
        own = {node: next(iter(by)) for node, by in needed.items() if len(by) == 1}
        return {v: (label, own.get(node) if (node := v.producer()) else None) for v, label in labels.items()}

    def _want(self, value: ir.Value) -> None:
        self._wanted.setdefault(self._home[value], {})[value] = None

    def _collect(self, key: Key) -> StagePlan:
        """Walk back from what is wanted of this label to where smaller stages or graph inputs take over."""
        nodes: set[ir.Node] = set()
        inputs: dict[ir.Value, None] = {}
        stack = list(self._wanted[key])
        while stack:
            value = stack.pop()
            node = value.producer()
            if node is None:
                if not value.is_initializer():
                    inputs[value] = None
            elif self._belongs(value, key):
                if node not in nodes:
                    nodes.add(node)
                    stack.extend(self._reads[node])
            else:
                self._check_crossing(value)
                inputs[value] = None
                self._want(value)
        stage = StagePlan(*key, [n for n in self._graph if n in nodes], list(inputs), list(self._wanted[key]))
        return self._count(stage)

    def _belongs(self, value: ir.Value, key: Key) -> bool:
        """Whether `value` is made inside the stage of `key`: its own, a constant, or only spread out from less."""
        home = self._home[value]
        ours = home == key or (home in self._absorbed and home[0] == key[0])
        return ours or home[0] == CONSTANT or self._spreads(value)

    def _spreads(self, value: ir.Value) -> bool:
        node = value.producer()
        if node is None or node.op_type not in _SPREADING or value in self._graph.outputs:
            return False
        sources = [v for v in self._reads[node] if self._home[v][0] != CONSTANT]
        before = sum(value_bytes(v, self._sizes) for v in sources)
        after = value_bytes(value, self._sizes)
        return 0 < before < after or (0 < before == after and any(self._spreads(v) for v in sources))

    def _check_crossing(self, value: ir.Value) -> None:
        if value.dtype is None or not isinstance(value.type, (ir.TensorType, type(None))):
            node = value.producer()
            raise GraphError(
                f"value {value.name!r} of {node.op_type if node else 'an input'} would cross from one stage to another "
                "and is no tensor of known type; keep it inside one part of the model"
            )

    def _count(self, stage: StagePlan) -> StagePlan:
        stage.counted = all(_countable(node, self._sizes) for node in stage.nodes)
        stage.flops = sum(node_flops(node, self._sizes) for node in stage.nodes)
        weights = {v for node in stage.nodes for v in self._reads[node] if v.is_initializer()}
        stage.bytes = sum(value_bytes(v, self._sizes) for v in (*weights, *stage.inputs, *stage.outputs))
        return stage


def _absorbable(stages: list[StagePlan], kept: set[ir.Value]) -> Key | None:
    """A stage of all forms that only stages of its own label read, each of another form.

    One form runs at a time, so its nodes may as well stand in each of them: nothing runs twice, and one call is saved.
    """
    for stage in stages:
        consumers = [s for s in stages if s is not stage and set(stage.outputs) & set(s.inputs)]
        alike = all(s.label == stage.label and s.form is not None for s in consumers)
        if stage.form is None and consumers and alike and not kept & set(stage.outputs):
            return stage.key
    return None


def _order(key: Key) -> tuple[int, list[str], str]:
    """Smaller labels first; of one label, what all forms need before what one needs."""
    return len(key[0]), sorted(key[0]), key[1] or ""


def _countable(node: ir.Node, sizes: Sizes) -> bool:
    known = all(str(output.name) in sizes for output in node.outputs if output.uses())
    return known and not any(
        a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()
    )


def _mergeable(stages: list[StagePlan], kept: set[ir.Value], merge_below: float) -> tuple[Key, Key] | None:
    """A stage that is too cheap to stand alone, and its only consumer."""
    for stage in stages:
        consumers = [s for s in stages if s is not stage and set(stage.outputs) & set(s.inputs)]
        seconds = max(stage.flops / _FLOPS_PER_SECOND, stage.bytes / _BYTES_PER_SECOND)
        if stage.counted and len(consumers) == 1 and not kept & set(stage.outputs) and seconds < merge_below:
            return stage.key, consumers[0].key
    return None
