"""Evaluates nodes whose operands are literal constants, where the result is no larger than what it is made from.

Results are computed by the operators' own NumPy rules. Larger ones stay nodes: an expanded scalar would make the file
grow. Arithmetic on parameters stays too, since a checkpoint may still replace them; it is evaluated when the weights
are written, and never when the model runs. A dimension whose symbol got a value is a constant as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from netdsl.ir.graph import Graph, Node, Value
from netdsl.ir.types import Array
from netdsl.ops.constant import Constant, DimensionValue
from netdsl.passes.base import Pass
from netdsl.passes.log import Rewrite, RewriteLog
from netdsl.passes.rewrite import Rewriter

SMALL = 64  #: bytes that a result may have whatever it is made from


@dataclass(frozen=True)
class FoldConstants(Pass):
    name: ClassVar[str] = "fold-constants"

    def run(self, graph: Graph, log: RewriteLog) -> Graph:
        literal = {n.output for n in graph.nodes if isinstance(n.op, Constant)}
        if not any(_candidate(n) and literal.issuperset(n.inputs) and _small_enough(n) for n in graph.nodes):
            return graph
        rw = Rewriter(graph)

        def rule(node: Node) -> Sequence[Value] | None:
            operands = [rw.producer(v) for v in node.inputs]
            arrays = [n.op.value for n in operands if n is not None and isinstance(n.op, Constant)]
            if not _candidate(node) or len(arrays) < len(node.inputs) or not _small_enough(node):
                return None
            result = node.op.evaluate(*(a.data for a in arrays))
            assert not isinstance(result, tuple)
            return [rw.emit(Constant(Array(result)), path=node.path, place=node.place)]

        def after(node: Node) -> None:
            log.add(Rewrite(self.name, node.path, node.place, f"evaluated {node.op.name} of constants", rw.saved))

        rw.sweep(rule, after, constants=True)
        return rw.finish()


def _candidate(node: Node) -> bool:
    """Whether a node could be evaluated, going by itself."""
    if isinstance(node.op, DimensionValue):
        return isinstance(node.op.dim, int)
    return node.op.foldable and not isinstance(node.op, Constant) and bool(node.inputs) and len(node.outputs) == 1


def _small_enough(node: Node) -> bool:
    size = node.output.type.bytes
    if not isinstance(size, int):
        return False
    given = sum(b for v in node.inputs if isinstance(b := v.type.bytes, int))
    return size <= max(given, SMALL)
