"""The ids of classes that a recipe's targets may hold, read off its cross-entropies, so that data are checked early."""

from __future__ import annotations

from collections.abc import Mapping

from netdsl.ir.graph import Graph, Node, Value
from netdsl.ops.constant import Constant
from netdsl.ops.nll import SoftmaxNll

#: Operators that hand on every id as it is.
_KEEP = frozenset(("cast", "identity", "reshape", "flatten", "squeeze", "unsqueeze", "transpose"))


def class_ids(graph: Graph, targets: Mapping[str, Value]) -> tuple[dict[str, int], dict[str, int]]:
    """For targets of ids: the number of classes, and the id that every cross-entropy of the target ignores."""
    names = {value: name for name, value in targets.items()}
    classes: dict[str, int] = {}
    ignored: dict[str, set[int | None]] = {}
    for node in graph.nodes:
        if isinstance(node.op, SoftmaxNll):
            ids, ignore = _source(graph, node.inputs[1])
            size, name = node.inputs[0].shape[node.op.axis], names.get(ids)
            if name is not None and isinstance(size, int):
                classes[name] = min(size, classes.get(name, size))
                ignored.setdefault(name, set()).add(ignore)
    return classes, {name: i for name, found in ignored.items() for i in found if i is not None and len(found) == 1}


def _source(graph: Graph, ids: Value) -> tuple[Value, int | None]:
    """Where ids come from, and the one that is replaced on the way because it counts nothing."""
    ignore = None
    while (node := graph.producers.get(ids)) is not None:
        if node.op.name in _KEEP:
            ids = node.inputs[0]
        elif (found := _ignored(graph, node)) is not None:
            ids, ignore = found
        else:
            break
    return ids, ignore


def _ignored(graph: Graph, node: Node) -> tuple[Value, int] | None:
    """`where(ids != ignore, ids, 0)`: the ids and the ignored one."""
    if node.op.name != "where":
        return None
    counts = graph.producers.get(node.inputs[0])
    if counts is None or counts.op.name != "not_equal" or counts.inputs[0] is not node.inputs[1]:
        return None
    constant = graph.producers.get(counts.inputs[1])
    if constant is None or not isinstance(constant.op, Constant):
        return None
    return counts.inputs[0], int(constant.op.value.data.item())
