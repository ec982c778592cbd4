"""Drops nodes that no output needs, and parameters that no node reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from netdsl.cost import node_cost
from netdsl.ir.graph import Graph
from netdsl.passes.base import Pass
from netdsl.passes.log import Rewrite, RewriteLog, Savings


@dataclass(frozen=True)
class DeadCode(Pass):
    name: ClassVar[str] = "dead-code"

    def run(self, graph: Graph, log: RewriteLog) -> Graph:
        wanted = {o.value for o in graph.outputs}
        kept = []
        for node in reversed(graph.nodes):
            if wanted.isdisjoint(node.outputs):
                cost = node_cost(node)
                runs = not all(v in graph.constants for v in node.outputs)
                saved = Savings(cost.macs, cost.flops, 1) if runs else Savings()
                log.add(
                    Rewrite(self.name, node.path, node.place, f"dropped {node.op.name}, which no output needs", saved)
                )
            else:
                wanted.update(node.inputs)
                kept.append(node)
        parameters = tuple(p for p in graph.parameters if p.value in wanted)
        for p in graph.parameters:
            if p.value not in wanted:
                log.add(
                    Rewrite(
                        self.name,
                        p.name,
                        p.place,
                        "dropped a parameter that nothing reads",
                        Savings(bytes=p.value.type.bytes),
                    )
                )
        if len(kept) == len(graph.nodes) and len(parameters) == len(graph.parameters):
            return graph
        return Graph(graph.name, graph.inputs, graph.outputs, tuple(reversed(kept)), parameters)
