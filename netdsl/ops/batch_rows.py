"""Batch norm while it is trained, by rows: the ONNX form for a CPU. A row is one channel of one image.

LayerNormalization makes every row `t = (x - mean_nc) / deviation_nc` and gives out both statistics, which takes fewer
passes over the input than its means, its differences and their squares. A channel's statistics follow from those of
its rows without a difference of large numbers:

    mean_c = mean over n of mean_nc
    var_c + epsilon = mean over n of (deviation_nc ** 2 + (mean_nc - mean_c) ** 2)

with `deviation_nc ** 2 = var_nc + epsilon`, and the normalised input is `x̂ = s * t + u`,
`s = deviation_nc / root_c`, `u = (mean_nc - mean_c) / root_c`, where `root_c` is the root of the second line.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from netdsl.ir.dims import product
from netdsl.ir.opdef import Emitter
from netdsl.ir.types import DType, TensorType
from netdsl.ops.normalisation import emit_mean
from netdsl.ops.shape import emit_reshape

LEAST = 64  #: positions of a row from which on this form is the faster one
DOTS = 256  #: positions from which on a product of matrices sums products faster than a mean of their product


@dataclass(frozen=True)
class Rows:
    """What both directions need, by the names of tensors: `normal` is `t` `[N, C, …]`; `scale` and `shift` are `s` and
    `u` `[N, C]`; `mean`, `variance` (with epsilon) and `root`, the reciprocal of its square root, are `[1, C]`."""

    normal: str
    scale: str
    shift: str
    mean: str
    variance: str
    root: str


def by_rows(cx: Emitter, x: TensorType) -> bool:
    """Whether this form is to be taken: LayerNormalization gives out float32 statistics, and needs the row's size."""
    sizes = [d for d in x.shape[2:] if isinstance(d, int)]
    return cx.target.device == "cpu" and x.dtype is DType.float32 and len(sizes) == x.rank - 2 and prod(sizes) >= LEAST


def emit_rows(cx: Emitter, x: TensorType, name: str, epsilon: float) -> Rows:
    """The statistics of an input `[N, C, …]`. The same nodes in both directions, so emitted once."""
    ones = cx.array(np.ones([int(d) for d in x.shape[2:] if isinstance(d, int)], np.float32))
    normal, *kept = cx.emit_all("LayerNormalization", 3, name, ones, axis=2, epsilon=epsilon)
    means, inverse = (emit_reshape(cx, k, (*x.shape[:2], *[1] * (x.rank - 2)), x.shape[:2]) for k in kept)
    mean = emit_mean(cx, means, [0])
    offset, deviation = cx.emit("Sub", means, mean), cx.emit("Reciprocal", inverse)
    squares = (cx.emit("Mul", part, part) for part in (deviation, offset))
    variance = emit_mean(cx, cx.emit("Add", *squares), [0])
    root = cx.emit("Reciprocal", cx.emit("Sqrt", variance))
    scale, shift = (cx.emit("Mul", part, root) for part in (deviation, offset))
    return Rows(normal, scale, shift, mean, variance, root)


def emit_row_affine(cx: Emitter, x: TensorType, name: str, scale: str, shift: str) -> str:
    """`scale * x + shift`, both `[N, C]`: batch norm in inference form with a channel for each row, one pass. ONNX
    Runtime does that on one thread; where there are more, they are faster in two."""
    if cx.target.threads > 1:
        factor, term = (
            emit_reshape(cx, part, x.shape[:2], (*x.shape[:2], *[1] * (x.rank - 2))) for part in (scale, shift)
        )
        return cx.emit("Add", cx.emit("Mul", name, factor), term)
    rows = product(x.shape[:2])
    vectors = [emit_reshape(cx, part, (), (rows,)) for part in (scale, shift)]
    zeros, ones = (cx.emit("Expand", cx.array(np.full(1, v, np.float32)), cx.shape([rows])) for v in (0, 1))
    flat = emit_reshape(cx, name, (), (1, rows, *x.shape[2:]))
    return emit_reshape(cx, cx.emit("BatchNormalization", flat, *vectors, zeros, ones, epsilon=0.0), (), x.shape)


def emit_row_means(cx: Emitter, x: TensorType, name: str) -> str:
    """The mean of every row, `[N, C]`."""
    means = emit_mean(cx, name, range(2, x.rank))
    return emit_reshape(cx, means, (*x.shape[:2], *[1] * (x.rank - 2)), x.shape[:2])


def emit_row_products(cx: Emitter, x: TensorType, a: str, b: str) -> str:
    """The mean of `a * b` over every row, `[N, C]`."""
    places = prod(int(d) for d in x.shape[2:] if isinstance(d, int))
    if places < DOTS:
        return emit_row_means(cx, x, cx.emit("Mul", a, b))
    left, right = (emit_reshape(cx, part, (), (product(x.shape[:2]), 1, places)) for part in (a, b))
    sums = cx.emit("MatMul", left, cx.emit("Transpose", right, perm=[0, 2, 1]))
    return cx.emit("Mul", emit_reshape(cx, sums, (), x.shape[:2]), cx.scalar(1 / places, x.dtype))
