"""Drops nodes that no output needs, and parameters that no node reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from netdsl.cost import node_cost
from netdsl.ir.graph import Graph, Node, Value
from netdsl.passes.base import Pass
from netdsl.passes.log import Rewrite, RewriteLog, Savings


@dataclass(frozen=True)
class DeadCode(Pass):
    name: ClassVar[str] = "dead-code"

    def run(self, graph: Graph, log: RewriteLog) -> Graph:
        wanted = {o.value for o in graph.outputs}
        kept: list[Node] = []
        dead: list[Node] = []
        for node in reversed(graph.nodes):
            if wanted.isdisjoint(node.outputs):
                dead.append(node)
            else:
                wanted.update(graph.needs(node))
                kept.append(node)
        parameters = tuple(p for p in graph.parameters if p.value in wanted)
        if not dead and len(parameters) == len(graph.parameters):
            return graph
        self._log(graph, kept, dead, log)
        for p in graph.parameters:
            if p.value not in wanted:
                log.add(Rewrite(self.name, p.name, p.place, "dropped a parameter that no output needs"))
        return Graph(graph.name, graph.inputs, graph.outputs, tuple(reversed(kept)), parameters)

    def _log(self, graph: Graph, kept: Sequence[Node], dead: Sequence[Node], log: RewriteLog) -> None:
        """An entry for each node that would have run; a weight's bytes go to the last of its dead readers."""
        constants = graph.constants
        read: set[Value] = {o.value for o in graph.outputs}
        read.update(v for n in kept if n.outputs[0] not in constants for v in n.inputs)
        for node in dead:
            if node.outputs[0] in constants:
                continue
            freed = [v for v in dict.fromkeys(node.inputs) if v in constants and v not in read]
            read.update(freed)
            cost = node_cost(node)
            saved = Savings(cost.macs, cost.flops, 1, sum((v.type.bytes for v in freed), 0))
            what = f"dropped {node.op.name}, which no output needs"
            log.add(Rewrite(self.name, node.path, node.place, what, saved))
