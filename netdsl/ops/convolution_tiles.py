"""The weight's gradient of a depthwise convolution of pictures, from tiles of rows.

A tile is some rows of the result, with the input rows under them. One product for each channel takes the tiles of all
images and gives the sums of the products of every number of a tile with every number under it,
`[rows*Q, tiles] @ [tiles, rows under them * W]`. A constant 0/1 mask adds those of one element of the kernel. Tiles
that reach into the padding have fewer rows under them, and products of their own: so nothing is padded.

Rows are gathered from where they lie, which brings the channels to the front at once, and which ONNX Runtime's threads
share. Slices of a transposed and padded input are made by one thread, one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from netdsl.ir.opdef import Emitter
from netdsl.ir.types import DType
from netdsl.ops.convolution_bands import BAND_LIMIT
from netdsl.ops.convolution_cost import Form, Geometry, Work, emit_sum, gathered, products, transposed_left

ROWS = 2  #: rows of a tile: more of them gather fewer rows twice, but multiply more that no element of a kernel joins


@dataclass(frozen=True)
class _Tiles:
    """Tiles of `high` rows that have the same input rows under them: `numbers`, counted from the top of a picture;
    `offsets`: the rows, from the first that such a tile has, or would have but for the padding."""

    high: int
    numbers: tuple[int, ...]
    offsets: tuple[int, ...]


def _tiles(g: Geometry) -> Iterator[_Tiles]:
    rows, size = g.sizes(g.out)[0], g.sizes(g.size)[0]
    high = ROWS if rows % ROWS == 0 else 1
    used = sorted({r * g.stride[0] + t * g.dilation[0] for r in range(high) for t in range(g.kernel[0])})
    alike: dict[tuple[int, ...], list[int]] = {}
    for number in range(rows // high):
        start = _start(g, high * number)
        alike.setdefault(tuple(u for u in used if 0 <= start + u < size), []).append(number)
    return (_Tiles(high, tuple(numbers), offsets) for offsets, numbers in alike.items() if offsets)


def _start(g: Geometry, row: int) -> int:
    """The first input row under a row of the result."""
    return row * g.stride[0] - (g.fixed_pads or ((0, 0),))[0][0]


def _applies(g: Geometry) -> bool:
    if not (g.depthwise and g.rank == 2 and g.static):
        return False
    pairs = [tiles.high * len(tiles.offsets) * g.sizes(g.size)[1] * g.sizes(g.out)[1] for tiles in _tiles(g)]
    return 0 < g.taps * max(pairs, default=0) <= BAND_LIMIT


def _gather(cx: Emitter, g: Geometry, x: str, width: int, rows: NDArray[np.int64], height: int) -> str:
    """Of `x` `[N, C, height, width]` the rows `[tiles, n]` of each picture, `[C, N*tiles, n*width]`."""
    zero, one, step = (cx.scalar(v, DType.int64) for v in (0, 1, g.channels * height))
    images = cx.emit("Mul", cx.emit("Range", zero, cx.emit("Squeeze", cx.shape([g.batch])), one), step)
    places = np.arange(g.channels).reshape(-1, 1, 1, 1) * height + rows
    indices = cx.emit("Add", cx.array(places.astype(np.int64)), cx.emit("Reshape", images, cx.ints([1, -1, 1, 1])))
    found = cx.emit("Gather", cx.emit("Reshape", x, cx.ints([-1, width])), indices, axis=0)
    return cx.emit("Reshape", found, cx.ints([g.channels, -1, rows.shape[1] * width]))


def _mask(g: Geometry, tiles: _Tiles) -> NDArray[np.bool_]:
    """`[taps, rows*Q * rows under them*W]`: which pairs an element of the kernel joins."""
    (_, wide), (_, across) = g.sizes(g.size), g.sizes(g.out)
    _, (begin, _) = g.fixed_pads or ((0, 0), (0, 0))
    tap, row, under = np.ix_(range(g.kernel[0]), range(tiles.high), tiles.offsets)
    rows = under == row * g.stride[0] + tap * g.dilation[0]
    tap, to, place = np.ogrid[: g.kernel[1], :across, :wide]
    columns = place == to * g.stride[1] + tap * g.dilation[1] - begin
    mask: NDArray[np.bool_] = np.einsum("iru,jqw->ijrquw", rows, columns).reshape(g.taps, -1)
    return mask


def _emit_sums(cx: Emitter, g: Geometry, tiles: _Tiles, x: str, dy: str) -> str:
    """`[C, taps]`."""
    (height, wide), (rows, across) = g.sizes(g.size), g.sizes(g.out)
    numbers = np.asarray(tiles.numbers)[:, None]
    under = np.asarray([_start(g, tiles.high * n) for n in tiles.numbers])[:, None] + np.asarray(tiles.offsets)
    left = _gather(cx, g, dy, tiles.high * across, numbers, rows // tiles.high)
    pairs = cx.emit("MatMul", cx.emit("Transpose", left, perm=[0, 2, 1]), _gather(cx, g, x, wide, under, height))
    mask = _mask(g, tiles)
    flat = cx.emit("Reshape", pairs, cx.ints([g.channels, mask.shape[1]]))
    return cx.emit("Gemm", flat, cx.array(mask.astype(g.dtype.numpy)), transB=1)


def _emit(cx: Emitter, g: Geometry, x: str, dy: str) -> str:
    total = emit_sum(cx, [_emit_sums(cx, g, tiles, x, dy) for tiles in _tiles(g)])
    return cx.emit("Reshape", total, cx.ints([g.channels, 1, *g.kernel]))


def _work(g: Geometry) -> Work:
    (_, wide), (_, across), work = g.sizes(g.size), g.sizes(g.out), Work()
    for tiles in _tiles(g):
        left, right = tiles.high * across, len(tiles.offsets) * wide
        count = g.images * len(tiles.numbers)
        work += gathered(g.channels * count * right, wide) + gathered(g.channels * count * left, left)
        work += products(left, right, count, g.channels) + transposed_left(g.channels * count * left)
        work += products(g.channels, g.taps, left * right) + Work(nodes=10)
    return work


WEIGHT = (Form("tiled", _applies, _work, _emit),)
