"""Dense layers on vectors of ids: where ids are many and the vocabulary is small, the vocabulary is projected, and the
ids pick from what that makes. The projection in front of a recurrent layer's steps is such a layer.

`dense(embedding(ids, E), W, b) = embedding(ids, dense(E, W, b))`, also where only axes before the last are moved in
between. Forward, this is a product over the vocabulary in place of one over all ids; backward, the gradients of equal
ids are added before they are multiplied.
"""

from __future__ import annotations

from collections.abc import Mapping

from netdsl.autodiff.extend import Extension
from netdsl.autodiff.recompute import usual_size
from netdsl.ir.graph import Node, Value
from netdsl.ops.dense import Dense
from netdsl.ops.embedding import Embedding
from netdsl.ops.gather import ONE_HOT
from netdsl.ops.shape import Transpose

WORTH = 4  #: ids for each entry of the vocabulary, so that what is done for all of it is little


def project_vocabularies(extension: Extension) -> None:
    """Rewrites the nodes of an extension; what is not needed any more stays, as a node that nothing reads."""
    nodes, extension.nodes = extension.nodes, []
    makers = {v: node for node in nodes for v in node.outputs}
    for node in nodes:
        found = _ids_and_vectors(extension, makers, node) if isinstance(node.op, Dense) else None
        if found is None:
            extension.keep(node)
            continue
        ids, vectors = found
        table = extension.emit(node.op, vectors, *node.inputs[1:])
        extension.keep(Node(Embedding(), (ids, table), node.outputs, node.path, node.place))


def _ids_and_vectors(extension: Extension, makers: Mapping[Value, Node], dense: Node) -> tuple[Value, Value] | None:
    """The ids, their axes in the order of the layer's, and the vocabulary's vectors; None where that is no gain."""
    maker = makers.get(dense.inputs[0])
    moved = maker.op.axes if maker is not None and isinstance(maker.op, Transpose) else None
    if moved is not None and maker is not None:
        if moved[-1] != len(moved) - 1:
            return None
        maker = makers.get(maker.inputs[0])
    if maker is None or not isinstance(maker.op, Embedding):
        return None
    ids, vectors = maker.inputs
    size, dim = (usual_size(d) for d in vectors.shape)
    # Backward, the gradients of equal ids may be added by a product with a matrix of ones [size, ids]: it should cost
    # less than the three products that the layer itself would be.
    if size > min(3 * dim, ONE_HOT) or usual_size(ids.type.size) < WORTH * size:
        return None
    extension.at(dense.path, dense.place)
    return ids if moved is None else extension.emit(Transpose(moved[:-1]), ids), vectors
