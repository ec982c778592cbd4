"""Computes equal things once: nodes with equal operators and the same operands, and equal constants.

The order of operands does not count where the operator is commutative. Dropout is left alone, as all that is random:
two of them are not equal when the network trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from netdsl.ir.graph import Graph, Node, Value
from netdsl.passes.base import Pass
from netdsl.passes.log import Rewrite, RewriteLog, Savings
from netdsl.passes.rewrite import Rewriter

_Key = tuple[object, ...]


@dataclass(frozen=True)
class CommonSubexpressions(Pass):
    name: ClassVar[str] = "common-subexpressions"

    def run(self, graph: Graph, log: RewriteLog) -> Graph:
        if not _has_twins(graph):
            return graph
        rw = Rewriter(graph)
        seen: dict[_Key, Node] = {}
        earlier: Node | None = None

        def rule(node: Node) -> Sequence[Value] | None:
            nonlocal earlier
            earlier = seen.setdefault(_key(node), node)
            return None if earlier is node or not node.op.repeatable else earlier.outputs

        def after(node: Node) -> None:
            assert earlier is not None
            if rw.saved != Savings():  # merged weight arithmetic is worth no line of its own
                what = f"is the same {node.op.name} as {earlier.path}"
                log.add(Rewrite(self.name, node.path, node.place, what, rw.saved))

        rw.sweep(rule, after, constants=True)
        return rw.finish()


def _key(node: Node) -> _Key:
    operands = tuple(id(v) for v in node.inputs)
    return node.op, tuple(sorted(operands)) if node.op.commutative else operands


def _has_twins(graph: Graph) -> bool:
    """Whether any two nodes are equal as they stand; equal ones behind these are found in the sweep."""
    keys = [_key(n) for n in graph.nodes if n.op.repeatable]
    return len(set(keys)) < len(keys)
