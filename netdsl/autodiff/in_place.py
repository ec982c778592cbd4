"""Which state of a step may be overwritten while the step runs, so that it needs no second buffer.

A weight may not: gradients read it, in an order that the runtime chooses. A momentum may: it is read by arithmetic
alone from which its next value is computed, so whatever the order, it has been read when that value is written.
"""

from __future__ import annotations

from collections.abc import Sequence

from netdsl.ir.graph import Graph, Node

ARITHMETIC = frozenset({"arithmetic", "selection"})
NEAR = 64  # nodes that are looked at behind a next value


def in_place_state(graph: Graph, prefix: str) -> frozenset[str]:
    """Names of inputs `NAME` all of whose readers are elementwise arithmetic on the way to the output `prefix` + `NAME`
    of the same type."""
    inputs = {v.name: v for v in graph.inputs}
    found = set()
    for output in graph.outputs:
        held = inputs.get(output.name.removeprefix(prefix)) if output.name.startswith(prefix) else None
        maker = graph.producers.get(output.value)
        if held is not None and maker is not None and output.value.type == held.type:
            readers = graph.users.get(held, ())
            elementwise = all(n.op.family in ARITHMETIC for n in (*readers, maker))
            if elementwise and held not in graph.output_values and _behind(graph, maker, readers):
                found.add(held.name)
    return frozenset(found)


def _behind(graph: Graph, maker: Node, wanted: Sequence[Node]) -> bool:
    """Whether the maker is, or depends on, every one of the wanted nodes."""
    missing, seen, pending = set(wanted), {maker}, [maker]
    while pending and missing and len(seen) <= NEAR:
        node = pending.pop(0)
        missing.discard(node)
        before = {graph.producers[v] for v in node.inputs if v in graph.producers}
        new: list[Node] = [n for n in before if n not in seen]
        seen.update(new)
        pending += sorted(new, key=lambda n: n.outputs[0].name)
    return not missing
