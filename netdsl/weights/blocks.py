"""Arithmetic on weights in blocks of rows, so that only a block at a time is wide.

A float32 weight of 400 MB times a scale takes 800 MB in float64, and as much for the product. In blocks it takes the
two float32 arrays, and each block stays in the processor's cache. The result is rounded when it is made: that changes
nothing where it leaves anyway, and very large results are made so in any case.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from netdsl.ir.graph import Node, Value
from netdsl.ir.types import NDArrayAny
from netdsl.ops.elementwise import Binary, Elementwise
from netdsl.weights.sizes import static_shape

LARGE = 4 << 20  # elements of a result from which it is made in blocks
WORTH = 1 << 16  # the same for a result that is rounded next
BLOCK = 1 << 16  # elements of a block


def worth_blocks(node: Node, leaves: bool) -> bool:
    """Whether a node treats each element by itself and makes a large array of floats; `leaves`: it is rounded next."""
    if not isinstance(node.op, Elementwise | Binary) or not node.output.dtype.is_float or not node.output.rank:
        return False
    size = node.output.type.size
    return isinstance(size, int) and size >= (WORTH if leaves else LARGE)


def evaluate_in_blocks(node: Node, arrays: Mapping[Value, NDArrayAny]) -> NDArrayAny:
    """The node's output in its element type, each block computed in float64."""
    shape = static_shape(node.output.type)
    out = np.empty(shape, node.output.dtype.numpy)
    step = max(1, BLOCK // max(1, out.size // shape[0]))
    inputs = [arrays[v] for v in node.inputs]
    for start in range(0, shape[0], step):
        rows = slice(start, start + step)
        parts = [_wide(_rows(a, shape, rows)) for a in inputs]
        with np.errstate(all="ignore"):
            out[rows] = node.op.evaluate(*parts)
    return out


def _rows(array: NDArrayAny, shape: tuple[int, ...], rows: slice) -> NDArrayAny:
    """The part of an operand that broadcasts to these rows of the result."""
    return array[rows] if array.ndim == len(shape) and array.shape[0] == shape[0] else array


def _wide(array: NDArrayAny) -> NDArrayAny:
    return array.astype(np.float64, copy=False) if array.dtype.kind in "fV" else array
