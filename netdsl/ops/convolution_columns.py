"""Convolutions of small maps with many channels: one matrix product for the whole batch.

ONNX Runtime's Conv and ConvTranspose multiply image by image. Where maps are small and channels many, a product is then
mostly the reading of its weight, once for each image, and ConvTranspose copies the weight each time to transpose it.
These forms read it once, in its own order `[O, C*taps]`.

What lies under the kernel at each output position is `[N*places, C*taps]`, the columns. A product with a constant 0/1
matrix for each position takes them from the maps; one with that matrix's transpose adds the input's gradient up. Such
matrices have a row for each input position, so they are for small maps.
"""

from __future__ import annotations

from functools import reduce

import numpy as np

from netdsl.ir.opdef import Emitter
from netdsl.ir.types import NDArrayAny
from netdsl.ops.convolution_bands import axis_masks, channel_major, gradient_rows
from netdsl.ops.convolution_cost import Form, Geometry, Work, copied, products, turned_weight_left, weight_left
from netdsl.ops.shape import emit_reshape

SELECTION_LIMIT = 1 << 18  #: numbers of the 0/1 matrices


def _applies(g: Geometry) -> bool:
    return g.groups == 1 and g.static and g.taps > 1 and g.taps * g.area * g.places <= SELECTION_LIMIT


def _selection(g: Geometry) -> NDArrayAny:
    """`[taps, area, places]`: 1 where an element of the kernel takes an input position to an output position."""
    return reduce(np.kron, axis_masks(g)).astype(g.dtype.numpy)


def _flat_weight(cx: Emitter, g: Geometry, weight: str) -> str:
    """`[O, C*taps]`."""
    return cx.emit("Reshape", weight, cx.ints([g.outputs, g.channels * g.taps]))


def _emit_columns(cx: Emitter, g: Geometry, x: str) -> str:
    """`[N*places, C*taps]`: for each image and position `[C, area] @ [area, taps]`."""
    maps = cx.emit("Reshape", x, cx.ints([0, 1, g.channels, g.area]))
    each = cx.emit("MatMul", maps, cx.array(_selection(g).transpose(2, 1, 0)[None]))
    return cx.emit("Reshape", each, cx.ints([-1, g.channels * g.taps]))


def _columns_work(g: Geometry) -> Work:
    """Products with so few columns take as long as copies of their short rows."""
    count = g.images * g.places
    lines = count * g.channels
    return products(g.channels, g.taps, g.area, count) + Work(columns=lines * g.taps, lines=lines / 2, nodes=1)


# The convolution ------------------------------------------------------------------------------------------------


def _emit_forward(cx: Emitter, g: Geometry, x: str, weight: str) -> str:
    """The weight is the left operand, of which a product makes no copy."""
    columns = cx.emit("Transpose", _emit_columns(cx, g, x), perm=[1, 0])
    y = cx.emit("MatMul", _flat_weight(cx, g, weight), columns)
    return channel_major(cx, emit_reshape(cx, y, (), (g.outputs, g.batch, *g.out)), g.rank)


def _forward_work(g: Geometry) -> Work:
    product = weight_left(g.outputs, g.images * g.places, g.channels * g.taps)
    return _columns_work(g) + product + copied(g.images * g.outputs * g.places, g.places) + Work(nodes=1)


# Its gradient for the input -------------------------------------------------------------------------------------


def _emit_input(cx: Emitter, g: Geometry, dy: str, weight: str) -> str:
    """The weight is the left operand, and transposed."""
    turned = cx.emit("Transpose", _flat_weight(cx, g, weight), perm=[1, 0])
    columns = cx.emit("MatMul", turned, gradient_rows(cx, g, dy))
    split = cx.emit("Reshape", columns, cx.ints([g.channels * g.taps, -1, g.places]))
    return _emit_sums(cx, g, cx.emit("Transpose", split, perm=[1, 0, 2]))


def _input_work(g: Geometry) -> Work:
    each, count, k = g.channels * g.taps, g.images * g.places, g.outputs
    moves = copied(count * k, g.places) + copied(count * each, 1)
    return moves + turned_weight_left(each, count, k) + _sums_work(g)


def _emit_positions(cx: Emitter, g: Geometry, dy: str, weight: str) -> str:
    """The gradient is the left operand."""
    turned = cx.emit("Transpose", cx.emit("Reshape", dy, cx.ints([0, g.outputs, g.places])), perm=[0, 2, 1])
    rows = cx.emit("Reshape", turned, cx.ints([-1, g.outputs]))
    columns = cx.emit("MatMul", rows, _flat_weight(cx, g, weight))
    split = cx.emit("Reshape", columns, cx.ints([-1, g.places, g.channels * g.taps]))
    return _emit_sums(cx, g, cx.emit("Transpose", split, perm=[0, 2, 1]))


def _positions_work(g: Geometry) -> Work:
    each, count, k = g.channels * g.taps, g.images * g.places, g.outputs
    moves = copied(count * k, 2) + copied(count * each, 4)
    return moves + products(count, each, k) + Work(fetched=4.0 * each * k) + _sums_work(g)


def _emit_sums(cx: Emitter, g: Geometry, columns: str) -> str:
    """The maps `[N, C, …]` of columns `[N, C*taps, places]`, added up."""
    flat = cx.emit("Reshape", columns, cx.ints([-1, g.taps * g.places]))
    spread = _selection(g).transpose(0, 2, 1).reshape(g.taps * g.places, g.area)
    return emit_reshape(cx, cx.emit("MatMul", flat, cx.array(spread)), (), (g.batch, g.channels, *g.size))


def _sums_work(g: Geometry) -> Work:
    return products(g.images * g.channels, g.area, g.places * g.taps) + Work(nodes=2)


# Its gradient for the weight --------------------------------------------------------------------------------------


def _emit_weight(cx: Emitter, g: Geometry, x: str, dy: str) -> str:
    """The result is in the weight's order; the columns are those of the forward."""
    columns = _emit_columns(cx, g, x)
    total = cx.emit("MatMul", gradient_rows(cx, g, dy), columns)
    return cx.emit("Reshape", total, cx.ints([g.outputs, g.channels, *g.kernel]))


def _weight_work(g: Geometry) -> Work:
    count = g.images * g.places
    product = products(g.outputs, g.channels * g.taps, count)
    return _columns_work(g) + product + copied(count * g.outputs, g.places) + Work(nodes=1)


FORWARD = (Form("columns", _applies, _forward_work, _emit_forward),)
INPUT = (
    Form("columns", _applies, _input_work, _emit_input),
    Form("positions", _applies, _positions_work, _emit_positions),
)
WEIGHT = (Form("columns", _applies, _weight_work, _emit_weight, lambda g: {"forward": _columns_work(g)}),)
