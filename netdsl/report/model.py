"""What a report says: a network's totals, its layers and its state, as plain values.

Figures are for one item: a symbol that leads an input's shape (the batch, `N`) counts as 1. Where a figure depends on
another symbol it stays a formula in the symbols.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from netdsl.cost import for_one_item, graph_cost, node_cost, receptive_fields
from netdsl.ir.dims import Dim, evaluate
from netdsl.ir.graph import Graph, Node, Parameter, Value
from netdsl.ir.types import TensorType
from netdsl.ops import OPERATORS, PRIMITIVES
from netdsl.source import Place

#: What the two measures of work count; every format states it.
CONVENTIONS = {
    "macs": "multiply-accumulates of convolutions and matrix products, without bias",
    "flops": "2 per MAC and 1 for every other arithmetic operation",
}

#: The totals, in the order in which they are shown, each with its words.
TOTALS = {
    "parameters": "parameters",
    "trainable": "trainable parameters",
    "buffers": "buffers (running statistics)",
    "macs": "MACs",
    "flops": "FLOPs",
    "activation_bytes": "activations, all together (bytes)",
    "peak_bytes": "memory peak, inference (bytes)",
    "training_peak_bytes": "memory peak, training, an estimate (bytes)",
    "weight_bytes": "weights and buffers (bytes)",
}


@dataclass(frozen=True, slots=True)
class Field:
    """A receptive field, per spatial axis in input pixels: `size` (a formula for a whole axis of symbolic size),
    `stride` between the fields of neighbouring positions, `offset` of the first position's left edge."""

    size: tuple[Dim, ...]
    stride: tuple[Fraction, ...]
    offset: tuple[Fraction, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A layer, or a group of `layers` of them. `parameters` counts a shared parameter at its first use."""

    path: str
    op: str
    outputs: tuple[TensorType, ...]
    parameters: int
    macs: Dim
    flops: Dim
    field: Field | None
    place: Place | None
    layers: int = 1


@dataclass(frozen=True, slots=True)
class Report:
    """A network's figures; `totals` has the keys of `TOTALS`."""

    network: str
    inputs: Mapping[str, TensorType]
    outputs: Mapping[str, TensorType]
    totals: Mapping[str, Dim]
    rows: tuple[Row, ...]
    state: tuple[Parameter, ...]
    uncounted: tuple[str, ...] = ()  #: the operators whose work is not known


def analyse(graph: Graph, training_peak: int | None = None) -> Report:
    """The report of a graph, best one as the program wrote it: rewrites merge layers. `training_peak`: the memory of
    its recipe's step, where there is one, instead of an estimate."""
    item = for_one_item(graph)
    cost = graph_cost(item)
    if training_peak is not None:
        cost = replace(cost, training_peak_bytes=training_peak)
    return Report(
        network=graph.name,
        inputs={v.name: v.type for v in graph.inputs},
        outputs={o.name: o.value.type for o in graph.outputs},
        totals={key: getattr(cost, key) for key in TOTALS},
        rows=tuple(_rows(graph, item)),
        state=graph.parameters,
        uncounted=tuple(sorted({n.op.title for n in graph.nodes if not n.op.counted})),
    )


def _rows(graph: Graph, item: Graph) -> Iterable[Row]:
    fields = _fields(graph)
    owners = _first_users(graph)
    counted = dict(zip(graph.nodes, item.nodes, strict=True))
    for layer in _layers(graph):
        costs = [node_cost(counted[node]) for node in layer]
        outputs = _results(graph, layer)
        yield Row(
            path=layer[0].path,
            op=_operator(graph, layer),
            outputs=tuple(v.type for v in outputs),
            parameters=sum(evaluate(p.value.type.size, {}) for node in layer for p in owners.get(node, ())),
            macs=sum((c.macs for c in costs), 0),
            flops=sum((c.flops for c in costs), 0),
            field=fields.get(outputs[0]) if outputs else None,
            place=layer[0].place,
        )


def _fields(graph: Graph) -> dict[Value, Field]:
    axes: dict[int, tuple[Dim, ...]] = {}
    for value in graph.inputs:
        axes.setdefault(value.rank - 2, value.shape[2:])
    return {
        value: Field(
            tuple(axes[len(f.size)][i] if size is None else size for i, size in enumerate(f.size)), f.stride, f.offset
        )
        for value, f in receptive_fields(graph).items()
    }


def _layers(graph: Graph) -> Iterable[list[Node]]:
    """The nodes that run, in their layers: neighbours of one path. A node that begins as its layer began (the operator
    and the weights) begins the next use of a shared layer."""
    layer: list[Node] = []
    for node in graph.nodes:
        if all(v in graph.constants for v in node.outputs):
            continue
        if layer and (node.path != layer[0].path or _begins_again(graph, node, layer[0])):
            yield layer
            layer = []
        layer.append(node)
    if layer:
        yield layer


def _begins_again(graph: Graph, node: Node, first: Node) -> bool:
    return node.op == first.op and _weights(graph, node) == _weights(graph, first)


def _weights(graph: Graph, node: Node) -> list[Value]:
    return [v for v in node.inputs if v in graph.constants]


def _results(graph: Graph, layer: Sequence[Node]) -> list[Value]:
    """What a layer makes: what others read of it, of its last node first; where none does, all of the last node's."""
    inside = set(layer)
    read = [
        [v for v in node.outputs if v in graph.output_values or any(u not in inside for u in graph.users.get(v, ()))]
        for node in layer
    ]
    return [v for values in (read[-1], *read[:-1]) for v in values] or list(layer[-1].outputs)


def _operator(graph: Graph, layer: Sequence[Node]) -> str:
    """The operator that the program called: its name is the layer's segment, unless `as` gave another."""
    segment = layer[0].path.rpartition(".")[2]
    stem, _, number = segment.rpartition("_")
    for name in (segment, stem if number.isdigit() else segment):
        if name in OPERATORS and not _only_called_so(graph, layer, name):
            return name
    # A layer is called by what it holds between its projections, where it has any: attention, not the dense around it.
    heaviest = max(layer, key=lambda node: (node_cost(node).macs != 0, node.op.family != "dense"))
    return heaviest.op.title


def _only_called_so(graph: Graph, layer: Sequence[Node], name: str) -> bool:
    """Whether a layer is named like an operator that it is not: a `conv … as squeeze` has weights, `squeeze` none."""
    first = layer[0]
    return len(layer) == 1 and name in PRIMITIVES and first.op.name != name and bool(_weights(graph, first))


def _first_users(graph: Graph) -> dict[Node, list[Parameter]]:
    """Each parameter at the first node that runs and needs it, through weight arithmetic too."""
    needs: dict[Value, tuple[Parameter, ...]] = {p.value: (p,) for p in graph.parameters}
    owners: dict[Node, list[Parameter]] = {}
    taken: set[Parameter] = set()
    for node in graph.nodes:
        needed = [p for v in node.inputs for p in needs.get(v, ())]
        if all(v in graph.constants for v in node.outputs):
            needs.update((v, tuple(dict.fromkeys(needed))) for v in node.outputs)
            continue
        own = [p for p in dict.fromkeys(needed) if p not in taken and p.kind == "parameter"]
        if own:
            owners[node] = own
            taken.update(own)
    return owners
