"""Decompositions: operators that onnxruntime-training does not differentiate, or not correctly, in operators that it
does. Each takes the context and a node, and returns the values that stand for the node's outputs.

Where nothing better is known an operator keeps its own form, through which no gradient passes, and a product of
netdsl's derivative with `x - x` is added, through which it does: `stop(f(x)) + stop(f'(x)) * (x - stop(x))` has the
value and the gradient of `f(x)` exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from netdsl.ir.dims import Dim, product
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import GradientContext, Primitive
from netdsl.ir.types import DType, NDArrayAny
from netdsl.ops import gradient_tools as g
from netdsl.ops.activation import Clip, HardSigmoid, Relu
from netdsl.ops.along import TakeAlong
from netdsl.ops.attention import Attention
from netdsl.ops.axis_matrix import transposed_along
from netdsl.ops.batch_norm import BatchNorm, spread
from netdsl.ops.batch_statistics import BatchNormTraining
from netdsl.ops.dense import MatMul
from netdsl.ops.einsum import Einsum, contraction
from netdsl.ops.einsum_equation import Equation
from netdsl.ops.gather import Gather
from netdsl.ops.global_pooling import AdaptiveAvgMatrix, AdaptiveAvgPool
from netdsl.ops.group_norm import GroupNorm, InstanceNorm, LocalResponseNorm
from netdsl.ops.indexing import Slice
from netdsl.ops.joining import Split
from netdsl.ops.masked_softmax import MaskedSoftmax
from netdsl.ops.nll import SoftmaxNll
from netdsl.ops.normalisation import LayerNorm
from netdsl.ops.padding import Pad
from netdsl.ops.pooling import AvgPool, AvgPoolMatrix, MaxPool
from netdsl.ops.rearrange import PixelShuffle, SpaceToDepth
from netdsl.ops.reduction import CumSum
from netdsl.ops.resize import Resize, ResizeMatrix
from netdsl.ops.roi import RoiAlign, RoiPool
from netdsl.ops.selection import Where
from netdsl.ops.smooth import LogSoftmax, Softmax
from netdsl.ops.unary import Sqrt
from netdsl.ops.unpooling import MaxPoolIndices
from netdsl.training.engines.onnxruntime_training.operators import EngineBatchNorm, MaskedRelu, StopGradient

Form = Callable[[GradientContext, Node], tuple[Value, ...]]
#: the score of a position that is barred: finite, so that a row without any other has no NaN
_BARRED = -1e30
_P = TypeVar("_P", bound=Primitive)


class Refused(Exception):
    """The engine cannot do this configuration; the message says why."""


def _op(node: Node, kind: type[_P]) -> _P:
    assert isinstance(node.op, kind)
    return node.op


def stop(cx: GradientContext, x: Value) -> Value:
    """`x` as a constant."""
    return cx.emit(StopGradient(), x)


def itself(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    return cx.emit_all(node.op, *node.inputs)


# Derivatives by netdsl ---------------------------------------------------------------------------------------------


class _All:
    """A context in which every gradient is wanted."""

    def __init__(self, cx: GradientContext) -> None:
        self.emit, self.emit_all, self.constant, self.dimension = cx.emit, cx.emit_all, cx.constant, cx.dimension

    def wants(self, value: Value) -> bool:
        floats: bool = value.dtype.is_float
        return floats


def pointwise(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    """An operator that works element by element, of broadcast operands."""
    shape = node.output.shape
    wide = tuple(g.expand_to(cx, v, shape) if cx.wants(v) else v for v in node.inputs)
    return _linearised(cx, Node(node.op, wide, node.outputs, node.path, node.place), node, lambda x: x)


def reduction(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    """An operator each of whose results depends on elements of its own."""
    axes: Any = getattr(node.op, "axes", tuple(range(2, node.inputs[0].rank)))
    keep = bool(getattr(node.op, "keep", True))
    return _linearised(cx, node, node, lambda x: g.total(cx, x, axes, keep))


def _linearised(cx: GradientContext, made: Node, asked: Node, collect: Callable[[Value], Value]) -> tuple[Value, ...]:
    exact = cx.emit(made.op, *made.inputs)
    again = Node(made.op, made.inputs, (exact,), made.path, made.place)
    slopes = made.op.gradient(_All(cx), again, g.ones_like(cx, exact))
    y = stop(cx, exact)
    for x, slope, original in zip(made.inputs, slopes, asked.inputs, strict=True):
        if slope is not None and cx.wants(original):
            y = g.add(cx, y, collect(g.mul(cx, stop(cx, slope), g.sub(cx, x, stop(cx, x)))))
    return (y,)


# Activations -------------------------------------------------------------------------------------------------------


def _hard_sigmoid(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    op = _op(node, HardSigmoid)
    return (cx.emit(Clip(0.0, 1.0), g.add(cx, g.mul(cx, node.inputs[0], op.alpha), op.beta)),)


def _hard_swish(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    (x,) = node.inputs
    return (g.mul(cx, x, cx.emit(Clip(0.0, 1.0), g.add(cx, g.mul(cx, x, 1 / 6), 0.5))),)


def _relu(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    (x,) = node.inputs
    return (cx.emit(MaskedRelu(), x, g.mask(cx, ">", x, 0.0)),)


def _prelu(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    x, weight = node.inputs
    slope = spread(cx, weight, x.rank) if weight.shape[0] != 1 else weight if x.rank else g.reshape(cx, weight, ())
    above, below = cx.emit(Relu(), x), cx.emit(Relu(), g.neg(cx, x))
    return (g.sub(cx, above, g.mul(cx, slope, below)),)


# Norms -------------------------------------------------------------------------------------------------------------


def _batch_norm(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    """By running statistics: the engine would differentiate ONNX's operator as if it used the batch's."""
    x, weight, bias, mean, var = node.inputs
    root = cx.emit(Sqrt(), g.add(cx, var, _op(node, BatchNorm).epsilon))
    scale = g.div(cx, weight, root)
    shift = g.sub(cx, bias, g.mul(cx, mean, scale))
    return (g.add(cx, g.mul(cx, x, spread(cx, scale, x.rank)), spread(cx, shift, x.rank)),)


def _batch_norm_training(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    x, weight, bias = node.inputs
    own = (g.mul(cx, stop(cx, weight), 0.0), g.mul(cx, stop(cx, bias), 0.0))
    return cx.emit_all(EngineBatchNorm(_op(node, BatchNormTraining).epsilon), x, weight, bias, *own)


def _normal(cx: GradientContext, x: Value, axes: Sequence[int], epsilon: float) -> Value:
    centred = g.sub(cx, x, g.mean(cx, x, axes, keep=True))
    variance = g.mean(cx, g.mul(cx, centred, centred), axes, keep=True)
    return g.div(cx, centred, cx.emit(Sqrt(), g.add(cx, variance, epsilon)))


def _grouped(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    x, *affine = node.inputs
    op = node.op
    assert isinstance(op, GroupNorm | InstanceNorm)
    groups = op.groups if isinstance(op, GroupNorm) else x.shape[1]
    each = product(x.shape[1:]) // groups if isinstance(groups, int) else product(x.shape[2:])
    rows = g.reshape(cx, x, (x.shape[0], groups, each))
    y = g.reshape(cx, _normal(cx, rows, (2,), op.epsilon), x.shape)
    if affine:
        y = g.add(cx, g.mul(cx, y, spread(cx, affine[0], x.rank)), spread(cx, affine[1], x.rank))
    return (y,)


def _layer_norm(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    x, *affine = node.inputs
    op = _op(node, LayerNorm)
    shape: list[Dim] = [x.shape[a] if a in op.axes else 1 for a in range(x.rank)]
    weight, bias = (g.reshape(cx, p, shape) for p in affine)
    return (g.add(cx, g.mul(cx, _normal(cx, x, op.axes, op.epsilon), weight), bias),)


def _layer_norm_training(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    """The statistics beside it are for netdsl's own gradient; here nothing reads them."""
    return (*_layer_norm(cx, node), *(stop(cx, v) for v in cx.emit_all(node.op, *node.inputs)[1:]))


def _local_response_norm(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    """The sum over a window of channels is a product with a matrix of bands."""
    (x,) = node.inputs
    op, channels = _op(node, LocalResponseNorm), x.shape[1]
    if not isinstance(channels, int):
        raise Refused("with a symbolic number of channels")
    offset = np.arange(channels)[None] - np.arange(channels)[:, None]
    band = ((offset >= -(op.size // 2)) & (offset <= (op.size - 1) // 2)) / op.size
    means = _along(cx, g.mul(cx, x, x), 1, cx.constant(band, x.dtype))
    base = g.add(cx, g.mul(cx, means, op.alpha), op.k)
    return (g.div(cx, x, g.power(cx, base, op.beta)),)


# Axes --------------------------------------------------------------------------------------------------------------


def _along(cx: GradientContext, x: Value, axis: int, matrix: Value) -> Value:
    """`x` multiplied along an axis by a matrix `[out, in]`."""
    return transposed_along(cx, x, axis, g.transpose(cx, matrix, (1, 0)))


def _avg_pool(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    op, (x,) = _op(node, AvgPool), node.inputs
    fits = all(d == s * k for d, s, k in zip(x.shape[2:], node.output.shape[2:], op.kernel, strict=True))
    if fits and op.kernel == op.stride and set(op.dilation) == {1}:
        cut = [d for s, k in zip(node.output.shape[2:], op.kernel, strict=True) for d in (s, k)]
        blocks = g.reshape(cx, x, (*x.shape[:2], *cut))
        return (g.mean(cx, blocks, range(3, blocks.rank, 2)),)
    if op.ceil and not all(isinstance(d, int) for d in x.shape[2:]):
        raise Refused("with ceil=true over axes of symbolic size")
    for i in range(x.rank - 2):
        one = slice(i, i + 1)
        padding = op.padding if op.padding == "same" else op.padding[one]
        window = (op.kernel[one], op.stride[one], padding, op.dilation[one], op.ceil)
        matrix = AvgPoolMatrix(x.shape[2 + i], x.dtype, *window, op.count_include_pad)
        x = _along(cx, x, 2 + i, cx.emit(matrix))
    return (x,)


def _max_pool(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    """Over axes of symbolic size the engine's gradient crashes: there the largest elements are gathered."""
    x = node.inputs[0]
    if all(isinstance(d, int) for d in x.shape[2:]):
        return itself(cx, node)
    op = _op(node, MaxPool)
    if op.ceil:
        raise Refused("with ceil=true over axes of symbolic size")
    if not op.fits and (op.padding != "same" or any(d > 1 for d in op.dilation)):
        raise Refused("with this padding and dilation over axes of symbolic size")
    places = MaxPoolIndices(op.kernel, op.stride, op.padding, op.dilation, op.ceil)
    _, indices = cx.emit_all(places, stop(cx, x))
    flat, picked = (g.reshape(cx, v, (*v.shape[:2], product(v.shape[2:]))) for v in (x, indices))
    y = g.reshape(cx, cx.emit(TakeAlong(2), flat, picked), node.outputs[0].shape)
    return (y, indices) if len(node.outputs) == 2 else (y,)


def _adaptive_avg_pool(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    (x,) = node.inputs
    for axis, size in enumerate(_op(node, AdaptiveAvgPool).size, start=2):
        if x.shape[axis] != size:
            x = _along(cx, x, axis, cx.emit(AdaptiveAvgMatrix(x.shape[axis], x.dtype, size)))
    return (x,)


def _resize(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    op, (x,) = _op(node, Resize), node.inputs
    if op.mode == "nearest" and op.align != "corners" and op.scale and all(m == 1 for _, m in op.scale):
        cut: list[Dim] = [d for size in x.shape[2:] for d in (size, 1)]
        repeated: list[Dim] = [d for size, (n, _) in zip(x.shape[2:], op.scale, strict=True) for d in (size, n)]
        blocks = g.expand_to(cx, g.reshape(cx, x, (*x.shape[:2], *cut)), (*x.shape[:2], *repeated))
        return (g.reshape(cx, blocks, node.output.shape),)
    for i in range(x.rank - 2):
        scale, size = (op.scale[i : i + 1], ()) if op.scale else ((), op.size[i : i + 1])
        matrix = ResizeMatrix(node.inputs[0].shape[2 + i], x.dtype, scale, size, op.mode, op.align)
        x = _along(cx, x, 2 + i, cx.emit(matrix))
    return (x,)


def _pad(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    """A border that mirrors or repeats is picked from the axis."""
    op, (x,) = _op(node, Pad), node.inputs
    if op.mode == "constant":
        return itself(cx, node)
    for axis, pair in enumerate(op.padding, start=2):
        size = x.shape[axis]
        if not any(pair):
            continue
        if not isinstance(size, int):
            raise Refused(f"with mode={op.mode!r} on a symbolic axis")
        places: NDArrayAny = np.pad(np.arange(size), pair, mode="reflect" if op.mode == "reflect" else "edge")
        x = cx.emit(Gather(axis), x, cx.constant(places, DType.int64))
    return (x,)


def _cumsum(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    op, (x,) = _op(node, CumSum), node.inputs
    axis = op.axis % x.rank
    size = x.shape[axis]
    if not isinstance(size, int):
        raise Refused("along a symbolic axis")
    ones = np.ones((size, size))
    return (_along(cx, x, axis, cx.constant(np.triu(ones) if op.reverse else np.tril(ones), x.dtype)),)


def _slice(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    """A slice that runs backwards picks instead."""
    op, (x,) = _op(node, Slice), node.inputs
    if all(step > 0 for step in op.steps):
        return itself(cx, node)
    for start, end, axis, step in zip(op.starts, op.ends, op.axes, op.steps, strict=True):
        if step > 0:
            x = cx.emit(Slice((start,), (end,), (axis,), (step,)), x)
        elif isinstance(start, int) and isinstance(end, int):
            x = cx.emit(Gather(axis), x, cx.constant(np.arange(start, end, step), DType.int64))
        else:
            raise Refused("with a negative step on a symbolic axis")
    return (x,)


def _split(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    """In slices: the engine's gradient of a Split whose parts are not all used has another shape."""
    op, (x,) = _op(node, Split), node.inputs
    ends: list[Dim] = [0]
    for size in op.sizes:
        ends.append(ends[-1] + size)
    return tuple(cx.emit(Slice((a,), (b,), (op.axis % x.rank,), (1,)), x) for a, b in pairwise(ends))


def _pixel_shuffle(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    (x,), r, after = node.inputs, _op(node, PixelShuffle).factor, node.output.shape
    cut = g.reshape(cx, x, (x.shape[0], after[1], r, r, *x.shape[2:]))
    return (g.reshape(cx, g.transpose(cx, cut, (0, 1, 4, 2, 5, 3)), after),)


def _space_to_depth(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    (x,), r, after = node.inputs, _op(node, SpaceToDepth).factor, node.output.shape
    cut = g.reshape(cx, x, (*x.shape[:2], after[2], r, after[3], r))
    return (g.reshape(cx, g.transpose(cx, cut, (0, 1, 3, 5, 2, 4)), after),)


# Attention ---------------------------------------------------------------------------------------------------------


def _masked_softmax(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    scores, allowed = node.inputs
    barred = g.expand_to(cx, cx.constant(_BARRED, scores.dtype), scores.shape)
    shares = cx.emit(Softmax(scores.rank - 1), g.where(cx, allowed, scores, barred))
    return (g.mul(cx, shares, g.cast(cx, allowed, scores.dtype)),)


class _Formed(_All):
    """A context in which a masked softmax is emitted in its form."""

    def __init__(self, cx: GradientContext) -> None:
        super().__init__(cx)
        self._cx = cx
        self.emit = self._emit

    def _emit(self, op: Primitive, *inputs: Value) -> Value:
        if isinstance(op, MaskedSoftmax):
            return _masked_softmax(self._cx, Node(op, inputs, (), op.name))[0]
        return self._cx.emit(op, *inputs)


def _attention(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    return (_op(node, Attention).formula(_Formed(cx), *node.inputs),)


# Others ------------------------------------------------------------------------------------------------------------


def _matmul(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    """Vectors are matrices of one row or column."""
    a, b = node.inputs
    if a.rank > 1 and b.rank > 1:
        return itself(cx, node)
    left = g.unsqueeze(cx, a, (0,)) if a.rank == 1 else a
    right = g.unsqueeze(cx, b, (1,)) if b.rank == 1 else b
    return (g.reshape(cx, cx.emit(MatMul(), left, right), node.output.shape),)


def _einsum(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    return (contraction(cx, Equation.of(_op(node, Einsum).equation), node.inputs),)


def _roi_align(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    """As the product with what the bins take of rows and columns, of each box's own copy of its picture."""
    x, boxes, indices = node.inputs
    op = _op(node, RoiAlign)
    rows, columns = (cx.emit(op.matrix(axis, x.shape[2 + axis]), boxes) for axis in (0, 1))
    pictures = cx.emit(Gather(0), x, indices)
    down = cx.emit(MatMul(), g.unsqueeze(cx, rows, (1,)), pictures)
    turned = g.unsqueeze(cx, g.transpose(cx, columns, (0, 2, 1)), (1,))
    return (cx.emit(MatMul(), down, turned),)


def _roi_pool(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    """The largest values picked at their positions; 0 where a bin has none."""
    x, boxes, indices = node.inputs
    places = cx.emit(_op(node, RoiPool).positions(), stop(cx, x), boxes, indices)
    lines = g.reshape(cx, g.transpose(cx, x, (0, 2, 3, 1)), (product((x.shape[0], *x.shape[2:])), x.shape[1]))
    flat = g.reshape(cx, places, (product(places.shape[:-1]), x.shape[1]))
    found = cx.emit(TakeAlong(0), lines, g.where(cx, g.compare(cx, ">=", flat, 0), flat, 0))
    values = g.mul(cx, found, g.mask(cx, ">=", flat, 0, x.dtype))
    return (g.transpose(cx, g.reshape(cx, values, places.shape), (0, 3, 1, 2)),)


def _where(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    """Of operands that are broadcast already: the engine does not sum their gradients."""
    condition, *choices = node.inputs
    return (cx.emit(Where(), condition, *(g.expand_to(cx, v, node.output.shape) for v in choices)),)


def _softmax_nll(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    logits, ids = node.inputs
    axis = _op(node, SoftmaxNll).axis
    logs = cx.emit(LogSoftmax(axis), logits)
    picked = cx.emit(TakeAlong(axis), logs, g.unsqueeze(cx, ids, (axis,)))
    return g.neg(cx, g.reshape(cx, picked, node.outputs[0].shape)), logs


FORMS: Mapping[str, Form] = {
    "adaptive_avg_pool": _adaptive_avg_pool,
    "attention": _attention,
    "avg_pool": _avg_pool,
    "batch_norm": _batch_norm,
    "batch_norm_training": _batch_norm_training,
    "cumsum": _cumsum,
    "einsum": _einsum,
    "group_norm": _grouped,
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": _hard_swish,
    "instance_norm": _grouped,
    "layer_norm": _layer_norm,
    "layer_norm_training": _layer_norm_training,
    "local_response_norm": _local_response_norm,
    "masked_softmax": _masked_softmax,
    "matmul": _matmul,
    "max_pool": _max_pool,
    "max_pool_indices": _max_pool,
    "pad": _pad,
    "pixel_shuffle": _pixel_shuffle,
    "prelu": _prelu,
    "relu": _relu,
    "resize": _resize,
    "roi_align": _roi_align,
    "roi_pool": _roi_pool,
    "slice": _slice,
    "softmax_nll": _softmax_nll,
    "space_to_depth": _space_to_depth,
    "split": _split,
    "where": _where,
    **dict.fromkeys(("elu", "selu", "mish", "softplus", "softsign", "pow", "mod"), pointwise),
    **dict.fromkeys(("floor", "ceil", "round", "sign", "floor_div"), pointwise),
    **dict.fromkeys(("max", "min", "prod", "norm", "global_max_pool"), reduction),
}
