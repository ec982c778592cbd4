"""Short programs for the tests of the elaborator."""

from __future__ import annotations

from netdsl.diagnostics import Diagnostic, DiagnosticError
from netdsl.elaborate import elaborate
from netdsl.ir.graph import Graph
from netdsl.source import SourceFile

INPUT = "input x: float32[N, 6, 8, 8]"


def graph_of(source: str, **settings: object) -> Graph:
    return elaborate(SourceFile("test.net", source), settings=settings).graph


def net(body: str, before: str = "", **settings: object) -> Graph:
    """The graph of a network with the input `x: float32[N, 6, 8, 8]`."""
    return graph_of(f"{before}\nnetwork Net {{\n{INPUT}\n{body}\n}}", **settings)


def paths(graph: Graph) -> list[str]:
    return [node.path for node in graph.nodes]


def parameters(graph: Graph) -> list[str]:
    return [parameter.name for parameter in graph.parameters]


def shapes(graph: Graph) -> dict[str, str]:
    return {output.name: str(output.value.type) for output in graph.outputs}


def errors(source: str, **settings: object) -> tuple[Diagnostic, ...]:
    """What is wrong with a program. Fails where nothing is."""
    try:
        graph_of(source, **settings)
    except DiagnosticError as error:
        return error.diagnostics
    raise AssertionError("expected errors, found none")


def net_errors(body: str, before: str = "") -> list[str]:
    """The messages about a network with the input `x`."""
    return [d.message for d in errors(f"{before}\nnetwork Net {{\n{INPUT}\n{body}\n}}")]
