"""3×3 convolutions by Winograd's minimal filtering F(2×2, 3×3), and their gradients, as matrix products.

Four multiplications give two neighbouring results of a kernel of three: `A'((G w) * (B' x))`; in two axes 16 instead of
36. Source: Lavin and Gray 2015 (arXiv:1509.09308). Here tiles of two results are transformed all at once, by one
constant matrix for each axis, and for each of the 16 points one product over all tiles and images remains:

    V = [16, tiles*N, C]     U = [16, O, C]     M = V U' = [16, tiles*N, O]

A gradient is the transposed computation: the input's from `A dy` and U, the weight's from `A dy` and V. Its rounding
errors are those of the direct forms (larger tiles would save more, and lose digits).

Inside, positions come first, `[height, width, N*C]`, so that both axes are transformed by products with long rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from netdsl.ir.dims import product
from netdsl.ir.opdef import Emitter
from netdsl.ir.types import DType
from netdsl.ops.convolution_cost import Form, Geometry, Work, copied, products
from netdsl.ops.shape import emit_reshape

POINTS = 4  #: of a tile, along an axis
TILE = 2  #: results of a tile, along an axis
KEPT = 1 << 20  #: numbers that are kept from the forward for the backward
KERNEL = 1 << 21  #: numbers of a kernel's points; more would take more memory than the time is worth
_INPUT = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])  # B', points by positions
_KERNEL = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]]) / 2  # G, points by taps
_OUTPUT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])  # A', positions by points

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class _Side:
    """The input's or the result's side: its channels, its sizes, and for each axis the matrix `[points*tiles, size]`
    that takes positions to the points of all tiles."""

    channels: int
    sizes: tuple[int, int]
    matrices: tuple[Matrix, Matrix]


def _tiles(g: Geometry) -> tuple[int, int]:
    high, wide = g.sizes(g.out)
    return -(-high // TILE), -(-wide // TILE)


def _source(g: Geometry) -> _Side:
    """The side of the input, whose padding is left out of the matrices."""
    matrices = []
    for size, tiles, (begin, _) in zip(g.sizes(g.size), _tiles(g), g.fixed_pads or (), strict=True):
        matrix = np.zeros((POINTS, tiles, size + TILE * tiles + POINTS))
        for tile in range(tiles):
            matrix[:, tile, TILE * tile : TILE * tile + POINTS] = _INPUT
        matrices.append(matrix[:, :, begin : begin + size].reshape(-1, size))
    high, wide = g.sizes(g.size)
    return _Side(g.channels, (high, wide), (matrices[0], matrices[1]))


def _result(g: Geometry) -> _Side:
    matrices = []
    for size, tiles in zip(g.sizes(g.out), _tiles(g), strict=True):
        matrix = np.zeros((POINTS, tiles, TILE * tiles))
        for tile in range(tiles):
            matrix[:, tile, TILE * tile : TILE * (tile + 1)] = _OUTPUT.T
        matrices.append(matrix[:, :, :size].reshape(-1, size))
    high, wide = g.sizes(g.out)
    return _Side(g.outputs, (high, wide), (matrices[0], matrices[1]))


def _kernel_matrix() -> Matrix:
    """`[16, 9]`: the points, those of the width outside, by the taps, those of the height outside."""
    pairs: Matrix = np.einsum("wj,hi->whij", _KERNEL, _KERNEL)
    return pairs.reshape(POINTS**2, 9)


# Emission ------------------------------------------------------------------------------------------------------


def _constant(cx: Emitter, g: Geometry, matrix: Matrix) -> str:
    return cx.array(matrix.astype(g.dtype.numpy))


def _emit_turned(cx: Emitter, name: str, lead: tuple[int, ...] = ()) -> str:
    """Matrices `[*lead, rows, columns]`, transposed. A `lead` of one makes nodes that are not there already: what would
    have to be kept for long is computed again."""
    rank = len(lead)
    return cx.emit("Transpose", name, perm=[*range(rank), rank + 1, rank])


def _emit_points(cx: Emitter, g: Geometry, side: _Side, x: str, lead: tuple[int, ...] = ()) -> str:
    """`[N, C, H, W]` to `[16, tiles*N, C]`; `lead` as in `_emit_turned`."""
    (high, wide), (down, across) = side.sizes, _tiles(g)
    row = product((g.batch, side.channels))
    positions = _emit_turned(cx, emit_reshape(cx, x, (), (*lead, row, high * wide)), lead)
    positions = emit_reshape(cx, positions, (), (1, high, wide, row))
    by_width = _constant(cx, g, side.matrices[1].reshape(POINTS, 1, across, wide))
    points = cx.emit("MatMul", by_width, positions)
    flat = emit_reshape(cx, points, (), (POINTS, high, product((across, row))))
    points = cx.emit("MatMul", _constant(cx, g, side.matrices[0]), flat)
    return emit_reshape(cx, points, (), (POINTS**2, product((down * across, g.batch)), side.channels))


def _emit_positions(cx: Emitter, g: Geometry, side: _Side, points: str) -> str:
    """The transpose of `_emit_points`: `[16, tiles*N, C]` to `[N, C, H, W]`."""
    (high, wide), (down, across) = side.sizes, _tiles(g)
    row = product((g.batch, side.channels))
    flat = emit_reshape(cx, points, (), (POINTS, POINTS * down, product((across, row))))
    rows = cx.emit("MatMul", _constant(cx, g, side.matrices[0].T), flat)
    rows = cx.emit("Transpose", rows, perm=[1, 0, 2])
    rows = emit_reshape(cx, rows, (), (high, POINTS * across, row))
    positions = cx.emit("MatMul", _constant(cx, g, side.matrices[1].T), rows)
    maps = _emit_turned(cx, emit_reshape(cx, positions, (), (high * wide, row)))
    return emit_reshape(cx, maps, (), (g.batch, side.channels, high, wide))


def _emit_kernel(cx: Emitter, g: Geometry, weight: str, lead: tuple[int, ...] = ()) -> str:
    """`[16, O, C]`; `lead` as in `_emit_turned`."""
    flat = cx.emit("Reshape", weight, cx.ints([*lead, g.outputs * g.channels, g.taps]))
    points = cx.emit("MatMul", _constant(cx, g, _kernel_matrix()), _emit_turned(cx, flat, lead))
    return cx.emit("Reshape", points, cx.ints([POINTS**2, g.outputs, g.channels]))


def _emit_forward(cx: Emitter, g: Geometry, x: str, weight: str) -> str:
    points = _emit_points(cx, g, _source(g), x)
    kernel = _emit_turned(cx, _emit_kernel(cx, g, weight), (POINTS**2,))
    return _emit_positions(cx, g, _result(g), cx.emit("MatMul", points, kernel))


def _emit_input(cx: Emitter, g: Geometry, dy: str, weight: str) -> str:
    """The kernel's points, more numbers than the weight has, are not kept since the forward but computed again."""
    points = _emit_points(cx, g, _result(g), dy)
    return _emit_positions(cx, g, _source(g), cx.emit("MatMul", points, _emit_kernel(cx, g, weight, (1,))))


def _emit_weight(cx: Emitter, g: Geometry, x: str, dy: str) -> str:
    grads = _emit_points(cx, g, _result(g), dy)
    points = _emit_points(cx, g, _source(g), x, () if _keeps(g) else (1,))
    kernel = cx.emit("MatMul", _emit_turned(cx, grads, (POINTS**2,)), points)
    flat = cx.emit("Reshape", kernel, cx.ints([POINTS**2, g.outputs * g.channels]))
    taps = cx.emit("MatMul", _emit_turned(cx, flat), _constant(cx, g, _kernel_matrix()))
    return cx.emit("Reshape", taps, cx.ints([g.outputs, g.channels, *g.kernel]))


# Cost ----------------------------------------------------------------------------------------------------------


def _transform_work(g: Geometry, side: _Side) -> Work:
    """Of one side, in either direction."""
    (high, wide), (down, across) = side.sizes, _tiles(g)
    row = g.images * side.channels
    each = products(across, row, wide, POINTS * high) + products(POINTS * down, across * row, high, POINTS)
    written = (POINTS * high + POINTS**2 * down) * across * row
    return each + copied(high * wide * row, wide * high) + Work(written=written, nodes=3)


def _kernel_work(g: Geometry) -> Work:
    pairs = g.outputs * g.channels
    return products(POINTS**2, pairs, g.taps) + Work(written=POINTS**2 * pairs, nodes=1)


def _product_work(g: Geometry, m: int, n: int, k: int) -> Work:
    return products(m, n, k, POINTS**2) + Work(nodes=1)


def _keeps(g: Geometry) -> bool:
    """Whether the points of the input stay in memory until the backward; larger ones are computed again."""
    return POINTS**2 * _rows(g) * g.channels <= KEPT


def _rows(g: Geometry) -> int:
    down, across = _tiles(g)
    return down * across * g.images


def _both_work(g: Geometry) -> Work:
    return _transform_work(g, _source(g)) + _transform_work(g, _result(g)) + _kernel_work(g)


def _forward_work(g: Geometry) -> Work:
    return _both_work(g) + _product_work(g, _rows(g), g.outputs, g.channels)


def _input_work(g: Geometry) -> Work:
    return _both_work(g) + _product_work(g, _rows(g), g.channels, g.outputs)


def _weight_work(g: Geometry) -> Work:
    taps = products(g.outputs * g.channels, g.taps, POINTS**2)
    sides = _transform_work(g, _source(g)) + _transform_work(g, _result(g))
    return sides + taps + _product_work(g, g.outputs, g.channels, _rows(g)) + Work(nodes=2)


def _weight_given(g: Geometry) -> dict[str, Work]:
    """The points of both sides are the other quantities' own."""
    kept = {"forward": _transform_work(g, _source(g))} if _keeps(g) else {}
    return {**kept, "input": _transform_work(g, _result(g))}


def _applies(g: Geometry) -> bool:
    """Plain 3×3 convolutions of pictures of known size. float16 would lose digits."""
    plain = g.kernel == (3, 3) and {*g.stride, *g.dilation} == {1} and g.groups == 1
    few = POINTS**2 * g.outputs * g.channels <= KERNEL
    return plain and few and g.static and g.dtype is DType.float32


FORWARD = (Form("winograd", _applies, _forward_work, _emit_forward),)
INPUT = (Form("winograd", _applies, _input_work, _emit_input),)
WEIGHT = (Form("winograd", _applies, _weight_work, _emit_weight, _weight_given),)
