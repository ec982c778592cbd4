"""Depthwise convolutions of pictures as matrix products, one per channel.

A convolution of one channel is linear: its matrix is banded, with the kernel's entries on the bands. A constant 0/1
mask makes that matrix from the kernel in one product, and all images of a batch share it. `band` does so for whole maps
(`[N, H*W] @ [H*W, P*Q]` for each channel), `rows` for each row of the kernel (`[N*P, W] @ [W, Q]`), which is less
arithmetic where maps are larger. Both work channel by channel, on `[C, N, …]`.
"""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from netdsl.ir.dims import Dim
from netdsl.ir.opdef import Emitter
from netdsl.ops.convolution_cost import Form, Geometry, Work, copied, emit_sum, mapped, products, transposed_left
from netdsl.ops.shape import emit_reshape

BAND_LIMIT = 1 << 21  #: numbers of a mask


def _planar(g: Geometry) -> bool:
    return g.depthwise and g.rank == 2 and g.static


def _band_applies(g: Geometry) -> bool:
    return _planar(g) and g.area * g.places * g.taps <= BAND_LIMIT


def channel_major(cx: Emitter, name: str, rank: int) -> str:
    """`[N, C, …]` as `[C, N, …]`, or back."""
    return cx.emit("Transpose", name, perm=[1, 0, *range(2, 2 + rank)])


def gradient_rows(cx: Emitter, g: Geometry, dy: str) -> str:
    """A result's gradient as `[O, N*places]`."""
    return cx.emit("Reshape", channel_major(cx, dy, g.rank), cx.ints([g.outputs, -1]))


def _axis_mask(size: int, out: int, kernel: int, stride: int, dilation: int, begin: int) -> NDArray[np.bool_]:
    """`[kernel, size, out]`: whether a tap takes an input position to an output position."""
    tap, place, to = np.ogrid[:kernel, :size, :out]
    found: NDArray[np.bool_] = place == to * stride + tap * dilation - begin
    return found


def axis_masks(g: Geometry) -> list[NDArray[np.bool_]]:
    """For each axis `[kernel, size, out]`: whether a tap takes an input position to an output position."""
    pads = g.fixed_pads
    assert pads is not None
    sizes, outs = g.sizes(g.size), g.sizes(g.out)
    axes = zip(sizes, outs, g.kernel, g.stride, g.dilation, (p[0] for p in pads), strict=True)
    return [_axis_mask(*axis) for axis in axes]


# Whole maps ---------------------------------------------------------------------------------------------------


def _plane_mask(cx: Emitter, g: Geometry) -> str:
    """`[taps, H*W*P*Q]`."""
    rows, columns = axis_masks(g)
    mask = np.einsum("ihp,jwq->ijhwpq", rows, columns).reshape(g.taps, -1)
    return cx.array(mask.astype(g.dtype.numpy))


def _plane_matrix(cx: Emitter, g: Geometry, weight: str) -> str:
    """`[C, H*W, P*Q]`."""
    flat = cx.emit("MatMul", cx.emit("Reshape", weight, cx.ints([g.channels, g.taps])), _plane_mask(cx, g))
    return cx.emit("Reshape", flat, cx.ints([g.channels, g.area, g.places]))


def _plane(cx: Emitter, g: Geometry, name: str, positions: tuple[Dim, ...]) -> str:
    """`[N, C, …]` as `[C, N, positions]`."""
    flat = cx.emit("Reshape", name, cx.ints([0, 0, -1]))
    return cx.emit("Transpose", flat, perm=[1, 0, 2])


def _from_plane(cx: Emitter, name: str, positions: tuple[Dim, ...]) -> str:
    back = cx.emit("Transpose", name, perm=[1, 0, 2])
    return cx.emit("Reshape", back, cx.ints([0, 0, *(d for d in positions if isinstance(d, int))]))


def _emit_band(cx: Emitter, g: Geometry, x: str, weight: str) -> str:
    y = cx.emit("MatMul", _plane(cx, g, x, g.size), _plane_matrix(cx, g, weight))
    return _from_plane(cx, y, g.out)


def _emit_band_input(cx: Emitter, g: Geometry, dy: str, weight: str) -> str:
    matrix = cx.emit("Transpose", _plane_matrix(cx, g, weight), perm=[0, 2, 1])
    return _from_plane(cx, cx.emit("MatMul", _plane(cx, g, dy, g.out), matrix), g.size)


def _emit_band_weight(cx: Emitter, g: Geometry, x: str, dy: str) -> str:
    columns = cx.emit("Transpose", _plane(cx, g, x, g.size), perm=[0, 2, 1])
    pairs = cx.emit("MatMul", columns, _plane(cx, g, dy, g.out))
    flat = cx.emit("Reshape", pairs, cx.ints([g.channels, g.area * g.places]))
    sums = cx.emit("Gemm", flat, _plane_mask(cx, g), transB=1)
    return cx.emit("Reshape", sums, cx.ints([g.channels, 1, *g.kernel]))


def _band_moves(g: Geometry) -> Work:
    images = g.images * g.channels
    return copied(images * g.area, g.area) + copied(images * g.places, g.places)


def _band_work(g: Geometry) -> Work:
    mask = products(g.channels, g.area * g.places, g.taps)
    return mask + products(g.images, g.places, g.area, g.channels) + _band_moves(g) + Work(nodes=4)


def _band_input_work(g: Geometry) -> Work:  # the matrix is the forward one
    return products(g.images, g.area, g.places, g.channels) + _band_moves(g) + Work(nodes=4)


def _band_weight_work(g: Geometry) -> Work:
    mask = products(g.channels, g.taps, g.area * g.places)
    each = products(g.area, g.places, g.images, g.channels) + transposed_left(g.images * g.channels * g.area)
    return mask + each + Work(nodes=6)


# Rows ---------------------------------------------------------------------------------------------------------


def _row_mask(cx: Emitter, g: Geometry) -> str:
    """`[kernel width, W*Q]`."""
    return cx.array(axis_masks(g)[1].reshape(g.kernel[1], -1).astype(g.dtype.numpy))


def _row_matrices(cx: Emitter, g: Geometry, weight: str) -> tuple[str, ...]:
    """`[C, W, Q]` for each row of the kernel."""
    height, width = g.kernel
    by_row = cx.emit("Transpose", cx.emit("Reshape", weight, cx.ints([g.channels, height, width])), perm=[1, 0, 2])
    flat = cx.emit("MatMul", by_row, _row_mask(cx, g))
    every = cx.emit("Reshape", flat, cx.ints([height, g.channels, *g.sizes((g.size[1], g.out[1]))]))
    return tuple(cx.emit("Gather", every, cx.array(np.asarray(i, np.int64)), axis=0) for i in range(height))


def _input_rows(cx: Emitter, g: Geometry, x: str) -> list[str]:
    """For each row of the kernel the input rows under it, `[C, N*P, W]`."""
    (begin, end), _ = g.fixed_pads or ((0, 0), (0, 0))
    major = channel_major(cx, x, 2)
    if begin or end:
        major = cx.emit("Pad", major, cx.ints([0, 0, begin, 0, 0, 0, end, 0]), mode="constant")
    high, _ = g.sizes(g.out)
    parts = []
    for i in range(g.kernel[0]):
        start = i * g.dilation[0]
        stop = start + (high - 1) * g.stride[0] + 1
        rows = cx.emit("Slice", major, cx.ints([start]), cx.ints([stop]), cx.ints([2]), cx.ints([g.stride[0]]))
        parts.append(cx.emit("Reshape", rows, cx.ints([g.channels, -1, g.sizes(g.size)[1]])))
    return parts


def _from_rows(cx: Emitter, g: Geometry, name: str, positions: tuple[Dim, ...]) -> str:
    """`[C, N*rows, columns]` as `[N, C, rows, columns]`."""
    major = emit_reshape(cx, name, (), (g.channels, g.batch, *positions))
    return channel_major(cx, major, 2)


def _emit_rows(cx: Emitter, g: Geometry, x: str, weight: str) -> str:
    pairs = zip(_input_rows(cx, g, x), _row_matrices(cx, g, weight), strict=True)
    return _from_rows(cx, g, emit_sum(cx, [cx.emit("MatMul", rows, matrix) for rows, matrix in pairs]), g.out)


def _emit_rows_weight(cx: Emitter, g: Geometry, x: str, dy: str) -> str:
    grads = cx.emit("Reshape", channel_major(cx, dy, 2), cx.ints([g.channels, -1, g.sizes(g.out)[1]]))
    parts = [cx.emit("MatMul", cx.emit("Transpose", rows, perm=[0, 2, 1]), grads) for rows in _input_rows(cx, g, x)]
    pairs = cx.emit("Concat", *parts, axis=1)
    height, width = g.kernel
    flat = cx.emit("Reshape", pairs, cx.ints([g.channels * height, prod(g.sizes((g.size[1], g.out[1])))]))
    sums = cx.emit("Gemm", flat, _row_mask(cx, g), transB=1)
    return cx.emit("Reshape", sums, cx.ints([g.channels, 1, height, width]))


def _emit_rows_input(cx: Emitter, g: Geometry, dy: str, weight: str) -> str:
    """Rows of zeros between those of `dy` undo the stride; the width's stride is in the matrices."""
    high, wide = g.sizes(g.out)
    major = channel_major(cx, dy, 2)
    step, reach = g.stride[0], (g.kernel[0] - 1) * g.dilation[0]
    if step > 1:
        split = emit_reshape(cx, major, (), (g.channels, g.batch, high, 1, wide))
        spread = cx.emit("Pad", split, cx.ints([0] * 8 + [step - 1, 0]), mode="constant")
        major = emit_reshape(cx, spread, (), (g.channels, g.batch, high * step, wide))
    (begin, _), _ = g.fixed_pads or ((0, 0), (0, 0))
    tall = g.sizes(g.size)[0]
    end = reach + tall - (reach - begin) - high * step
    if (reach - begin, end) != (0, 0):
        major = cx.emit("Pad", major, cx.ints([0, 0, reach - begin, 0, 0, 0, end, 0]), mode="constant")
    parts = []
    for i, matrix in enumerate(_row_matrices(cx, g, weight)):
        start = reach - i * g.dilation[0]
        rows = cx.emit("Slice", major, cx.ints([start]), cx.ints([start + tall]), cx.ints([2]), cx.ints([1]))
        flat = cx.emit("Reshape", rows, cx.ints([g.channels, -1, wide]))
        parts.append(cx.emit("MatMul", flat, cx.emit("Transpose", matrix, perm=[0, 2, 1])))
    return _from_rows(cx, g, emit_sum(cx, parts), g.size)


def _row_moves(g: Geometry) -> Work:
    height = g.kernel[0]
    images = g.images * g.channels
    wide = g.sizes(g.size)[1]
    rows = copied(images * g.sizes(g.out)[0] * wide, g.area if g.stride[0] == 1 else wide)
    moves = copied(images * g.area, g.area) + copied(images * g.area, g.area) + copied(images * g.places, g.places)
    for _ in range(height):
        moves += rows
    return moves


def _rows_work(g: Geometry) -> Work:
    height = g.kernel[0]
    (_, wide), (high, across) = g.sizes(g.size), g.sizes(g.out)
    mask = products(g.channels * height, wide * across, g.kernel[1])
    each = products(g.images * high, across, wide, g.channels * height)
    adds = mapped(g.images * g.channels * g.places, height - 1)
    return mask + each + adds + _row_moves(g) + Work(nodes=2 * height + 5)


def _rows_input_work(g: Geometry) -> Work:
    height = g.kernel[0]
    (tall, wide), (_, across) = g.sizes(g.size), g.sizes(g.out)
    each = products(g.images * tall, wide, across, g.channels * height)
    adds = mapped(g.images * g.channels * g.area, height - 1)
    return each + adds + _row_moves(g) + Work(nodes=2 * height + 5)


def _rows_weight_work(g: Geometry) -> Work:
    height = g.kernel[0]
    (_, wide), (high, across) = g.sizes(g.size), g.sizes(g.out)
    mask = products(g.channels * height, g.kernel[1], wide * across)
    count = g.images * high
    each = products(wide, across, count, g.channels * height) + transposed_left(g.channels * height * count * wide)
    return mask + each + _row_moves(g) + Work(nodes=height + 6)


FORWARD = (Form("band", _band_applies, _band_work, _emit_band), Form("rows", _planar, _rows_work, _emit_rows))
INPUT = (
    Form("band", _band_applies, _band_input_work, _emit_band_input),
    Form("rows", _planar, _rows_input_work, _emit_rows_input),
)
WEIGHT = (
    Form("band", _band_applies, _band_weight_work, _emit_band_weight),
    Form("rows", _planar, _rows_weight_work, _emit_rows_weight),
)
