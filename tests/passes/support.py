"""Golden tests of passes: text before, text after."""

from __future__ import annotations

from netdsl.ir.graph import Graph
from netdsl.ir.text import parse_graph, print_graph
from netdsl.ir.verify import verify
from netdsl.ops import PRIMITIVES
from netdsl.passes.base import Pass
from netdsl.passes.log import RewriteLog
from tests.strategies.graphs import assert_same_outputs


def run(one: Pass, graph: Graph) -> tuple[Graph, RewriteLog]:
    """The pass on a graph, the result verified and its outputs compared with the graph's own."""
    verify(graph, PRIMITIVES)
    log = RewriteLog()
    result = one.run(graph, log)
    verify(result, PRIMITIVES)
    assert_same_outputs(graph, result)
    return result, log


def check_text(one: Pass, before: str, after: str) -> RewriteLog:
    """The pass turns one text into the other; both are written without indentation by the caller."""
    graph = parse_graph(before, PRIMITIVES)
    result, log = run(one, graph)
    assert _body(print_graph(result)) == _body(print_graph(parse_graph(after, PRIMITIVES)))
    return log


def _body(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines()]


def refusals(one: Pass, graph: Graph) -> list[str]:
    """The reasons of a pass that leaves a graph as it is."""
    result, log = run(one, graph)
    assert result is graph
    return [r.reason for r in log.refusals]


def operators(graph: Graph) -> list[str]:
    """Names of the operators that run, in order."""
    return [n.op.name for n in graph.nodes if n.outputs[0] not in graph.constants]
