"""Networks of a few lines for the tests of the standard library."""

from __future__ import annotations

from netdsl.cost.graph import graph_cost
from netdsl.elaborate.library import library_index
from netdsl.ir.graph import Graph
from tests.elaborate.helpers import graph_of

HEAD = "-> global_avg_pool -> flatten -> dense(1000)"


def program(library: str, body: str, image: str = "float32[1, 3, 224, 224]") -> str:
    """A network on `image` that sees everything of a library's file and std:layers."""
    files = dict.fromkeys((library, "std:layers"))
    imports = "\n".join(f'from "{file}" import {", ".join(library_index()[file])}' for file in files)
    return f"{imports}\nnetwork Net {{\ninput image: {image}\n{body}\n}}"


def built(library: str, body: str, image: str = "float32[1, 3, 224, 224]") -> Graph:
    return graph_of(program(library, body, image))


def parameters(graph: Graph) -> int:
    return int(graph_cost(graph).parameters)


def gmacs(graph: Graph) -> float:
    return round(int(graph_cost(graph).macs) / 1e9, 3)
