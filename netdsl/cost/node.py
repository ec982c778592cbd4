"""The cost of one node, by its operator's own rule."""

from __future__ import annotations

from netdsl.ir.graph import Node
from netdsl.ir.opdef import Cost


def node_cost(node: Node) -> Cost:
    """MACs and other operations of a node as if it ran; that nodes of constants do not is the caller's to know."""
    return node.op.cost([v.type for v in node.inputs], [v.type for v in node.outputs])
