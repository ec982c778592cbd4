"""Batch norm while it is trained: by the batch's own statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from netdsl.ir.dims import Dim, product
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Cost, Emitter, GradientContext, Primitive
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops import gradient_tools as g
from netdsl.ops.batch_rows import by_rows, emit_row_affine, emit_row_means, emit_row_products, emit_rows
from netdsl.ops.normalisation import emit_mean
from netdsl.ops.precision import like, runs_in_float32, wide
from netdsl.ops.spatial import input_channels


@dataclass(frozen=True)
class _Trained(Primitive):
    """What both directions share. The ONNX forms begin with the same nodes, so that the batch's mean and the centred
    input are computed once for both, and the input itself need not be kept."""

    epsilon: float = 1e-5

    family: ClassVar[str] = "internal"


def _emit_affine(cx: Emitter, x: TensorType, name: str, scale: str = "", shift: str = "", mean: str = "") -> str:
    """`scale * (x - mean) + shift` for each channel; what is absent changes nothing. ONNX Runtime's CPU kernel of
    BatchNormalization does this in one pass, and faster than it broadcasts."""
    if cx.target.device == "cpu":
        zeros, ones = (cx.array(np.full(input_channels("batch_norm", x), v, x.dtype.numpy)) for v in (0, 1))
        operands = scale or ones, shift or zeros, mean or zeros, ones
        return cx.emit("BatchNormalization", name, *operands, epsilon=0.0)
    shape = cx.ints([-1, *[1] * (x.rank - 2)])
    for op, parameter in (("Sub", mean), ("Mul", scale), ("Add", shift)):
        if parameter:
            name = cx.emit(op, name, cx.emit("Reshape", parameter, shape))
    return name


def _axes(rank: int) -> tuple[int, ...]:
    return (0, *range(2, rank))


def _emit_mean(cx: Emitter, name: str, rank: int) -> str:
    """The mean of each channel, `[C]`: over positions, then over the batch."""
    if rank > 2:
        name = emit_mean(cx, name, range(2, rank))
    return cx.emit("Reshape", emit_mean(cx, name, [0]), cx.ints([-1]))


def _emit_by_rows(cx: Emitter, x: TensorType, epsilon: float, name: str, weight: str, bias: str) -> tuple[str, ...]:
    rows = emit_rows(cx, x, name, epsilon)
    scale = cx.emit("Mul", rows.scale, weight)
    shift = cx.emit("Add", cx.emit("Mul", rows.shift, weight), bias)
    y = emit_row_affine(cx, x, rows.normal, scale, shift)
    variance = cx.emit("Sub", rows.variance, cx.scalar(epsilon, x.dtype))
    return y, *(cx.emit("Reshape", part, cx.ints([-1])) for part in (rows.mean, variance))


def _emit_gradient_by_rows(
    cx: Emitter, x: TensorType, epsilon: float, name: str, weight: str, dy: str
) -> tuple[str, str, str, str]:
    """`dy + b*x̂ + c` for each channel, the means of `dy*x̂` and `dy`, and the scale, all three `[C]`."""
    rows = emit_rows(cx, x, name, epsilon)
    means, products = emit_row_means(cx, x, dy), emit_row_products(cx, x, dy, rows.normal)
    shift = emit_mean(cx, means, [0])
    parts = (cx.emit("Mul", *pair) for pair in ((rows.scale, products), (rows.shift, means)))
    slope = emit_mean(cx, cx.emit("Add", *parts), [0])
    b, c = (cx.emit("Neg", part) for part in (slope, shift))
    row_shift = cx.emit("Add", cx.emit("Mul", rows.shift, b), c)
    inner = emit_row_affine(cx, x, rows.normal, cx.emit("Mul", rows.scale, b), row_shift)
    vectors = slope, shift, cx.emit("Mul", rows.root, weight)
    slope, shift, scale = (cx.emit("Reshape", vector, cx.ints([-1])) for vector in vectors)
    return cx.emit("Add", dy, inner), slope, shift, scale


@dataclass(frozen=True)
class BatchNormTraining(_Trained):
    """`batch_norm` by the statistics of the batch: returns the result, the mean and the (biased) variance, `[C]`.
    Counts mean, centre, square, mean of squares, scale and shift."""

    name: ClassVar[str] = "batch_norm_training"
    reference: ClassVar[str] = "Ioffe & Szegedy 2015 (arXiv:1502.03167), algorithm 1; ONNX BatchNormalization"

    def infer(self, x: TensorType, weight: TensorType, bias: TensorType) -> tuple[TensorType, ...]:
        return x, weight, weight

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        return Cost(other=6 * inputs[0].size)

    def evaluate(self, x: NDArrayAny, weight: NDArrayAny, bias: NDArrayAny) -> tuple[NDArrayAny, ...]:
        numbers, shape = wide(x), (-1, *[1] * (x.ndim - 2))
        mean = numbers.mean(axis=_axes(x.ndim))
        centred = numbers - mean.reshape(shape)
        var = np.square(centred).mean(axis=_axes(x.ndim))
        scale = wide(weight) / np.sqrt(var + numbers.dtype.type(self.epsilon))
        y = centred * scale.reshape(shape) + wide(bias).reshape(shape)
        return like(y, x), like(mean, x), like(var, x)

    @runs_in_float32(DType.float16, DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, x: str, weight: str, bias: str) -> tuple[str, ...]:
        input = node.inputs[0].type
        if by_rows(cx, input):
            return _emit_by_rows(cx, input, self.epsilon, x, weight, bias)
        mean = _emit_mean(cx, x, input.rank)
        centred = _emit_affine(cx, input, x, mean=mean)
        var = _emit_mean(cx, cx.emit("Mul", centred, centred), input.rank)
        zeros = cx.array(np.zeros(int(node.inputs[1].shape[0]), input.dtype.numpy))  # type: ignore[arg-type]  # channels
        y = cx.emit("BatchNormalization", centred, weight, bias, zeros, var, epsilon=self.epsilon)
        return y, mean, var

    def gradient(
        self, cx: GradientContext, node: Node, dy: Value | None, dmean: Value | None, dvar: Value | None
    ) -> Sequence[Value | None]:
        x, weight, _ = node.inputs
        _, mean, var = node.outputs
        dx = dweight = dbias = None
        count: Dim = product([x.shape[a] for a in _axes(x.rank)])
        shape = (weight.shape[0], *[1] * (x.rank - 2))
        if dy is not None:
            inner, dweight, dbias, scale = cx.emit_all(BatchNormGradient(self.epsilon), x, weight, mean, var, dy)
            dx = g.mul(cx, inner, g.reshape(cx, scale, shape))
        parts = [dx]
        if dmean is not None:
            parts.append(g.expand_to(cx, g.reshape(cx, g.divided(cx, dmean, count), shape), x.shape))
        if dvar is not None:
            centred = g.sub(cx, x, g.reshape(cx, mean, shape))
            parts.append(g.mul(cx, centred, g.reshape(cx, g.divided(cx, g.mul(cx, dvar, 2), count), shape)))
        known = [p for p in parts if p is not None]
        total = known[0]
        for part in known[1:]:
            total = g.add(cx, total, part)
        return total, dweight, dbias


@dataclass(frozen=True)
class BatchNormGradient(_Trained):
    """The gradients of `batch_norm` by batch statistics, from `x`, `weight`, the batch's mean and variance, and the
    result's gradient: `inner`, like `x`, and for each channel those for `weight` and `bias`, and the `scale` by which
    `inner` is the gradient for `x`. What follows may take the scale elsewhere. Counts 8 operations per element."""

    name: ClassVar[str] = "batch_norm_gradient"
    reference: ClassVar[str] = "Ioffe & Szegedy 2015 (arXiv:1502.03167), section 3; ONNX BatchNormalization"
    differentiable: ClassVar[bool] = False

    def infer(
        self, x: TensorType, weight: TensorType, mean: TensorType, var: TensorType, dy: TensorType
    ) -> tuple[TensorType, ...]:
        return x, weight, weight, weight

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        return Cost(other=8 * inputs[0].size)

    def evaluate(self, x: NDArrayAny, *operands: NDArrayAny) -> tuple[NDArrayAny, ...]:
        numbers: Any = wide(x)
        weight, mean, var, dy = (wide(o) for o in operands)
        axes, shape = _axes(x.ndim), (-1, *[1] * (x.ndim - 2))
        centred = numbers - mean.reshape(shape)
        root = 1 / np.sqrt(var + numbers.dtype.type(self.epsilon))
        dbias, slope = dy.sum(axis=axes), (dy * centred).sum(axis=axes)
        count = numbers.size // numbers.shape[1]
        inner = dy - (dbias / count).reshape(shape) - centred * (root**2 * slope / count).reshape(shape)
        return like(inner, x), like(slope * root, x), like(dbias, x), like(weight * root, x)

    @runs_in_float32(DType.float16, DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, x: str, weight: str, mean: str, var: str, dy: str) -> tuple[str, ...]:
        """`inner = dy + b*centred + c` for each channel; sums over positions first, then over the batch."""
        input = node.inputs[0].type
        count = self._count(cx, input)
        if by_rows(cx, input):
            inner, slope, shift, scale = _emit_gradient_by_rows(cx, input, self.epsilon, x, weight, dy)
            return inner, cx.emit("Mul", slope, count), cx.emit("Mul", shift, count), scale
        centred = _emit_affine(cx, input, x, mean=mean)
        mean_dy = _emit_mean(cx, dy, input.rank)
        mean_slope = _emit_mean(cx, cx.emit("Mul", dy, centred), input.rank)
        root = cx.emit("Sqrt", cx.emit("Add", var, cx.scalar(self.epsilon, input.dtype)))
        normal_slope = cx.emit("Div", mean_slope, root)
        b, c = cx.emit("Neg", cx.emit("Div", normal_slope, root)), cx.emit("Neg", mean_dy)
        inner = cx.emit("Add", dy, _emit_affine(cx, input, centred, b, c))
        sums = (cx.emit("Mul", part, count) for part in (normal_slope, mean_dy))
        return inner, *sums, cx.emit("Div", weight, root)

    @staticmethod
    def _count(cx: Emitter, x: TensorType) -> str:
        count = product([x.shape[a] for a in _axes(x.rank)])
        if isinstance(count, int):
            return cx.scalar(count, x.dtype)
        return cx.emit("Cast", cx.shape([count]), to=cx.onnx_type(x.dtype))
