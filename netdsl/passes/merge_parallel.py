"""Computes layers that read the same value in the same way as one layer, and cuts its result apart.

    conv(x, W1), conv(x, W2)              =  split(conv(x, [W1; W2]))
    f(conv(x, W1)), f(conv(x, W2))        =  split(f(conv(x, [W1; W2])))     for an elementwise f

Rows of a weight belong to output channels, so that this is exact for ungrouped convolutions of one geometry, dense
layers and products with constant matrices: Inception's 1x1 convolutions, the query, key and value of attention, heads.
(Grouped ones would need their channels interleaved.) Where a join puts the results together in this order anyway,
nothing is left to cut apart.

MACs and weights stay as they are (a layer without a bias gets zeros where another has one). What falls is the number of
nodes, each a kernel to be launched, and what is read, since the input is read once; what rises is what the split
copies. It is done where nodes fall and the copies cost little against them or against the layers' own arithmetic, or
where no node is saved but fewer bytes move. (Measured in ONNX Runtime on one CPU core, where a node is cheap and
activations are fused anyway: GoogLeNet 3 % slower, attention's three products 0 to 8 % slower. The gain is on devices
where a kernel has to be launched.)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from netdsl.cost import node_cost
from netdsl.ir.dims import Dim, Expr, decide, substitute, to_text
from netdsl.ir.graph import Graph, Node, Value
from netdsl.ops.activation import HardSigmoid, HardSwish, LeakyRelu, Relu, Relu6
from netdsl.ops.convolution import Conv
from netdsl.ops.dense import Dense, MatMul
from netdsl.ops.joining import Concat, Split
from netdsl.ops.smooth import Elu, Gelu, Mish, Selu, Sigmoid, Silu, Softplus, Softsign, Tanh
from netdsl.passes.algebra import Algebra
from netdsl.passes.base import Pass
from netdsl.passes.log import Refusal, Rewrite, RewriteLog, Savings
from netdsl.passes.rewrite import Rewriter

LAYERS = (Conv, Dense, MatMul)
ACTIVATIONS = (
    Relu, Relu6, LeakyRelu, Elu, Selu, Gelu, Silu, Mish, Sigmoid, HardSigmoid, HardSwish, Tanh, Softplus, Softsign,
)  # fmt: skip

#: Bytes whose copying costs as much as a node: 10 kB on one core of a CPU, megabytes on a GPU.
NODE_BYTES = 1 << 17
#: MACs that take as long as moving a byte: a CPU core does about 10 a byte, a GPU more.
MACS_PER_BYTE = 8


@dataclass(eq=False)
class Group:
    """Layers of one input, in the order in which they are merged, each with its last node: itself or its activation."""

    layers: tuple[Node, ...]
    last: tuple[Node, ...]
    joined: bool  #: whether a concat reads all the results, in this order, and nothing else does
    parts: tuple[Value, ...] = ()
    left: int = 0
    saved: Savings = field(default_factory=Savings)

    @property
    def activated(self) -> bool:
        return self.layers[0] is not self.last[0]

    @property
    def axis(self) -> int:
        """The axis of channels in the results."""
        return 1 if isinstance(self.layers[0].op, Conv) else self.layers[0].output.rank - 1


@dataclass(frozen=True)
class MergeParallel(Pass):
    name: ClassVar[str] = "merge-parallel"
    after: ClassVar[tuple[str, ...]] = ("merge-branches", "fuse-pointwise")
    late: ClassVar[bool] = True  # the others see more in layers that stand alone

    def run(self, graph: Graph, log: RewriteLog) -> Graph:
        groups = []
        for group in _groups(graph):
            reason = _refusal(group)
            if not reason:
                groups.append(group)
            elif reason != SILENT:
                log.add(Refusal(self.name, group.layers[0].path, group.layers[0].place, reason))
        if not groups:
            return graph
        place = {node.output: (group, i) for group in groups for i, node in enumerate(group.last)}
        rw = Rewriter(graph)
        current: Group | None = None

        def rule(node: Node) -> Sequence[Value] | None:
            nonlocal current
            current, index = place.get(node.outputs[0], (None, 0))
            if current is None:
                return None
            if not current.parts:
                current.parts = _merged(rw, current, node)
                current.left = len(current.parts)
            return [current.parts[index]]

        def after(node: Node) -> None:
            assert current is not None
            current.saved += rw.saved
            current.left -= 1
            if not current.left:
                first = current.layers[0]
                log.add(Rewrite(self.name, first.path, first.place, _what(current), current.saved))

        rw.sweep(rule, after)
        return rw.finish()


def _groups(graph: Graph) -> Iterator[Group]:
    """Sets of at least two layers that could be one, in program order."""
    found: dict[tuple[object, ...], list[Node]] = {}
    for node in graph.nodes:
        if isinstance(node.op, LAYERS) and (key := _key(graph, node)) is not None:
            follower = _activation(graph, node)
            found.setdefault((*key, follower and follower.op), []).append(node)
    for layers in found.values():
        if len(layers) > 1:
            yield _group(graph, layers)


def _key(graph: Graph, node: Node) -> tuple[object, ...] | None:
    """What layers of a group have in common; None for one that cannot be merged."""
    x, weight, *bias = node.inputs
    constants = graph.constants
    if x in constants or weight not in constants or any(v not in constants for v in bias):
        return None
    if any(len(graph.users[v]) > 1 or v in graph.output_values for v in node.inputs[1:]):
        return None  # the weights are in the file for others too
    match node.op:
        case Conv(groups=1) as op:
            return x, op, weight.shape[2:]
        case Dense():
            return x, node.op
        case MatMul() if weight.rank == 2 and x.rank >= 2:
            return x, node.op
        case _:
            return None


def _activation(graph: Graph, node: Node) -> Node | None:
    """The activation that alone reads a layer's result."""
    user = graph.only_user(node.output)
    return user if user is not None and isinstance(user.op, ACTIVATIONS) else None


def _group(graph: Graph, layers: Sequence[Node]) -> Group:
    followers = [_activation(graph, n) for n in layers]
    last = [follower or layer for follower, layer in zip(followers, layers, strict=True)]
    order = _order_in_join(graph, last, 1 if isinstance(layers[0].op, Conv) else layers[0].output.rank - 1)
    chosen = range(len(layers)) if order is None else order
    return Group(tuple(layers[i] for i in chosen), tuple(last[i] for i in chosen), order is not None)


def _order_in_join(graph: Graph, last: Sequence[Node], axis: int) -> list[int] | None:
    """The order in which one concat alone reads the results, side by side; None if none does."""
    joins = [graph.only_user(n.output) for n in last]
    join = joins[0]
    if join is None or join.op != Concat(axis) or any(j is not join for j in joins):
        return None
    places = {value: i for i, value in enumerate(join.inputs)}
    at = [places[n.output] for n in last]
    if len(places) < len(join.inputs) or max(at) - min(at) != len(at) - 1:
        return None
    return sorted(range(len(last)), key=at.__getitem__)


SILENT = "-"  #: a refusal that is not worth a line: nothing would be saved


def _refusal(group: Group) -> str:
    """Why a group stays apart; empty if it is merged."""
    if group.joined:
        return ""
    moved, nodes = _moved(group), _fewer_nodes(group)
    if nodes <= 0:
        return "" if decide("<", moved, 0) is True else SILENT
    macs = sum((node_cost(n).macs for n in group.layers), 0)
    cheap = decide("<=", moved * MACS_PER_BYTE, macs) is True or _at_one(moved) <= nodes * NODE_BYTES
    if cheap:
        return ""
    saved = f"{nodes} node{'s' * (nodes > 1)}"
    return f"merging it with {_others(group)} would save {saved} and move {to_text(moved)} bytes more"


def _fewer_nodes(group: Group) -> int:
    count, activations = len(group.layers), int(group.activated)
    return count * (1 + activations) - (1 + activations) - (not group.joined)


def _moved(group: Group) -> Dim:
    """By how many bytes reading and writing rises: the input is read once, the results are copied."""
    copied = sum((n.output.type.bytes for n in group.layers), 0)
    return 2 * copied - (len(group.layers) - 1) * group.layers[0].inputs[0].type.bytes


def _at_one(dim: Dim) -> int:
    """A figure where every symbol is 1."""
    value = substitute(dim, dict.fromkeys(dim.symbols, 1)) if isinstance(dim, Expr) else dim
    return value if isinstance(value, int) else NODE_BYTES << 20


def _others(group: Group) -> str:
    return ", ".join(n.path for n in group.layers[1:])


def _what(group: Group) -> str:
    text = f"computed together with {_others(group)}"
    moved = _moved(group)
    if group.joined or decide("<=", moved, 0) is True:
        return text
    return f"{text}, at {to_text(moved)} bytes more to move"


def _merged(rw: Rewriter, group: Group, node: Node) -> tuple[Value, ...]:
    """Emits the layer, its activation and the split; returns what stands for each result."""
    first = group.layers[0]
    maker = rw.producer(node.inputs[0]) if group.activated else node
    assert maker is not None
    x, op = maker.inputs[0], first.op
    weights = Algebra(rw, f"{first.path}.weight", first.place)
    operands = [x, weights.concat([n.inputs[1] for n in group.layers], 1 if isinstance(op, MatMul) else 0)]
    sizes = tuple(n.output.shape[group.axis] for n in group.layers)
    if any(len(n.inputs) > 2 for n in group.layers):
        operands.append(_biases(Algebra(rw, f"{first.path}.bias", first.place), group.layers, sizes))
    (value,) = rw.emit_all(op, *operands, path=first.path, place=first.place, names=[f"{first.path}/merged"])
    if group.activated:
        last = group.last[0]
        (value,) = rw.emit_all(last.op, value, path=last.path, place=last.place, names=[f"{last.path}/merged"])
    names = [n.path for n in group.last]
    split = Split(sizes, group.axis)
    return rw.emit_all(split, value, path=f"{first.path}/split", place=first.place, names=names)


def _biases(alg: Algebra, layers: Sequence[Node], sizes: Sequence[Dim]) -> Value:
    """One after the other; zeros for layers that have none."""
    parts = []
    for node, size in zip(layers, sizes, strict=True):
        assert isinstance(size, int)
        zero = alg.number(0, node.output.dtype) if len(node.inputs) < 3 else None
        parts.append(node.inputs[2] if zero is None else alg.expand(zero, (size,)))
    return alg.concat(parts, 0)
