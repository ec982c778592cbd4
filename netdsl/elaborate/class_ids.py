"""The ids that a recipe's inputs and targets may hold, read off its embeddings and cross-entropies, so that data are
checked early."""

from __future__ import annotations

from netdsl.ir.dims import Dim
from netdsl.ir.graph import Graph, Node, Value
from netdsl.ops.constant import Constant
from netdsl.ops.embedding import Embedding
from netdsl.ops.nll import SoftmaxNll

#: Operators that hand on every id as it is.
_KEEP = frozenset(("cast", "identity", "reshape", "flatten", "squeeze", "unsqueeze", "transpose"))


def class_ids(graph: Graph) -> tuple[dict[str, int], dict[str, int]]:
    """For inputs and targets of ids: the number of classes, and the id that every cross-entropy of it ignores."""
    names = {value: value.name for value in graph.inputs}
    classes: dict[str, int] = {}
    ignored: dict[str, set[int | None]] = {}
    for node in graph.nodes:
        found = _classes(node)
        if found is not None:
            given, size = found
            ids, ignore = _source(graph, given)
            name = names.get(ids)
            if name is not None and isinstance(size, int):
                classes[name] = min(size, classes.get(name, size))
                ignored.setdefault(name, set()).add(ignore)
    return classes, {name: i for name, found in ignored.items() for i in found if i is not None and len(found) == 1}


def _classes(node: Node) -> tuple[Value, Dim] | None:
    """The ids that a node reads, and their number."""
    match node.op:
        case SoftmaxNll(axis=axis):
            return node.inputs[1], node.inputs[0].shape[axis]
        case Embedding():
            return node.inputs[0], node.inputs[1].shape[0]
        case _:
            return None


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
