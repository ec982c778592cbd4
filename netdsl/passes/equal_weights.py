"""Computes layers once whose weights are equal in a checkpoint, though they are different tensors.

    f(x; W1) = f(x; W2)    where W1 and W2 hold the same bits

A checkpoint often holds a shared module's weights once for each of its names. Arrays are compared only for nodes that
are equal otherwise: one operator, the same operands, weights of the same types; what follows merges along. Weights that
are drawn differ, so that a graph without a checkpoint is left as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import ClassVar

from netdsl.ir.graph import Graph, Node, Value
from netdsl.ops.regularisation import Regularisation
from netdsl.passes.base import Pass
from netdsl.passes.log import Rewrite, RewriteLog
from netdsl.passes.rewrite import Rewriter
from netdsl.weights import WeightStore

_Key = tuple[object, ...]


@dataclass(frozen=True)
class EqualWeights(Pass):
    """Runs before the others, which compute with weights and do not read them."""

    store: WeightStore

    name: ClassVar[str] = "equal-weights"

    def run(self, graph: Graph, log: RewriteLog) -> Graph:
        if self.store.checkpoint is None:
            return graph
        parameters = graph.parameter_of
        digests: dict[Value, bytes] = {}
        firsts: dict[_Key, Node] = {}
        alike: dict[_Key, dict[tuple[bytes, ...], Node]] = {}
        rw = Rewriter(graph)
        earlier: Node | None = None

        def digest(value: Value) -> bytes:
            found = digests.get(value)
            if found is None:
                array = self.store.array(parameters[value])
                found = digests[value] = blake2b(array.tobytes(), digest_size=16).digest()
            return found

        def weights(node: Node) -> tuple[bytes, ...]:
            return tuple(digest(v) for v in node.inputs if v in parameters)

        def rule(node: Node) -> Sequence[Value] | None:
            nonlocal earlier
            if isinstance(node.op, Regularisation):
                return None
            key = _key(graph, node)
            first = firsts.setdefault(key, node)
            if first is node:
                return None  # its weights are read when there is something to compare them with
            group = alike.setdefault(key, {})
            group.setdefault(weights(first), first)
            earlier = group.setdefault(weights(node), node)
            return None if earlier is node else earlier.outputs

        def after(node: Node) -> None:
            assert earlier is not None
            what = f"is the same {node.op.name} as {earlier.path}, equal weights included"
            log.add(Rewrite(self.name, node.path, node.place, what, rw.saved))

        rw.sweep(rule, after)
        return rw.finish()


def _key(graph: Graph, node: Node) -> _Key:
    """What nodes must have in common before their weights are compared."""
    return node.op, *(v.type if v in graph.parameter_of else id(v) for v in node.inputs)
