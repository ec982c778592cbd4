"""The gradients of convolutions, for the input and for the weight: each the other's and the convolution's derivative.

Which ONNX form they take, and a convolution whose weight is trained, `convolution_cost` picks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product as positions
from math import prod
from typing import Any, ClassVar

import numpy as np

from netdsl.ir.dims import Dim
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Cost, Emitter, GradientContext, Primitive, ShapeError, same_dtype
from netdsl.ir.reach import WHOLE, Reach
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops import convolution
from netdsl.ops.convolution_cost import choose, geometry, whole
from netdsl.ops.convolution_forms import FORWARD, INPUT
from netdsl.ops.convolution_weight_forms import WEIGHT
from netdsl.ops.precision import like, runs_in_float32, wide
from netdsl.ops.spatial import SamePads, concrete_pads, pad_spatial, windows


@dataclass(frozen=True)
class _Gradient(Primitive):
    """The attributes are those of the convolution."""

    stride: tuple[int, ...]
    padding: SamePads
    dilation: tuple[int, ...]
    groups: int

    family: ClassVar[str] = "internal"

    @property
    def _conv(self) -> Primitive:
        return convolution.Conv(self.stride, self.padding, self.dilation, self.groups)

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return WHOLE


@dataclass(frozen=True)
class ConvWeightGradient(_Gradient):
    """The gradient of `conv` for its weight `[O, C/groups, *kernel]`, from the input and the result's gradient."""

    kernel: tuple[int, ...]

    name: ClassVar[str] = "conv_weight_gradient"
    reference: ClassVar[str] = "ONNX MatMul, Conv"

    def infer(self, x: TensorType, dy: TensorType) -> TensorType:
        same_dtype(self.name, x, dy)
        return x.with_shape((dy.shape[1], whole(x.shape[1]) // self.groups, *self.kernel))

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        return Cost(macs=inputs[1].size * prod(self.kernel) * outputs[0].shape[1])

    def evaluate(self, x: NDArrayAny, dy: NDArrayAny) -> NDArrayAny:
        rank, groups = len(self.kernel), self.groups
        pads = concrete_pads(self.padding, x.shape[2:], self.kernel, self.stride, self.dilation)
        view = windows(pad_spatial(wide(x), pads), self.kernel, self.stride, self.dilation)
        grouped: Any = view.reshape(view.shape[0], groups, -1, *view.shape[2:])
        grads = wide(dy).reshape(dy.shape[0], groups, -1, *dy.shape[2:])
        axes = "abcdef"[: 2 * rank]
        out, taps = axes[:rank], axes[rank:]
        dw = np.einsum(f"ngi{out}{taps},ngo{out}->goi{taps}", grouped, grads, optimize=True)
        return like(dw.reshape(dy.shape[1], -1, *self.kernel), x)

    @runs_in_float32(DType.bfloat16, DType.float64)
    def lower(self, cx: Emitter, node: Node, x: str, dy: str) -> str:
        types = node.inputs[0].type, node.output.type, node.inputs[1].type
        g = geometry(*types, self.stride, self.padding, self.dilation, self.groups, cx.target)
        others = {"forward": choose(FORWARD, g, cx.target), "input": choose(INPUT, g, cx.target)}
        return choose(WEIGHT, g, cx.target, others).emit(cx, g, x, dy)

    def gradient(self, cx: GradientContext, node: Node, dw: Value) -> Sequence[Value | None]:
        x, dy = node.inputs
        return input_gradient(cx, self, x, dw, dy), cx.emit(self._conv, x, dw) if cx.wants(dy) else None


@dataclass(frozen=True)
class ConvInputGradient(_Gradient):
    """The gradient of `conv` for its input `[N, C, *size]`, from the result's gradient and the weight."""

    size: tuple[Dim, ...]

    name: ClassVar[str] = "conv_input_gradient"
    reference: ClassVar[str] = "ONNX ConvTranspose, Conv, MatMul"

    def infer(self, dy: TensorType, weight: TensorType) -> TensorType:
        same_dtype(self.name, dy, weight)
        if dy.shape[1] != weight.shape[0]:
            raise ShapeError(f"{self.name}: the gradient {dy} does not fit the weight {weight}")
        return dy.with_shape((dy.shape[0], weight.shape[1] * self.groups, *self.size))

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        dy, weight = inputs
        return Cost(macs=dy.size * prod(whole(d) for d in weight.shape[1:]))

    def evaluate(self, dy: NDArrayAny, weight: NDArrayAny) -> NDArrayAny:
        kernel, groups = weight.shape[2:], self.groups
        size: Any = self.size
        pads = concrete_pads(self.padding, size, kernel, self.stride, self.dilation)
        grads = wide(dy).reshape(dy.shape[0], groups, -1, *dy.shape[2:])
        kernels = wide(weight).reshape(groups, -1, *weight.shape[1:])
        frame = [n + sum(p) for n, p in zip(size, pads, strict=True)]
        out = np.zeros((dy.shape[0], groups, weight.shape[1], *frame), grads.dtype)
        for tap in positions(*map(range, kernel)):
            part = np.einsum("ngo...,goi->ngi...", grads, kernels[(..., *tap)], optimize=True)
            where = (
                slice(t * d, t * d + (n - 1) * s + 1, s)
                for t, d, n, s in zip(tap, self.dilation, dy.shape[2:], self.stride, strict=True)
            )
            places: Any = (..., *where)
            out[places] += part
        inside: Any = (..., *(slice(p[0], p[0] + n) for p, n in zip(pads, size, strict=True)))
        return like(out.reshape(dy.shape[0], -1, *frame)[inside], dy)

    @runs_in_float32(DType.bfloat16, DType.float64)
    def lower(self, cx: Emitter, node: Node, dy: str, weight: str) -> str:
        types = node.output.type, node.inputs[1].type, node.inputs[0].type
        g = geometry(*types, self.stride, self.padding, self.dilation, self.groups, cx.target)
        return choose(INPUT, g, cx.target).emit(cx, g, dy, weight)

    def gradient(self, cx: GradientContext, node: Node, dx: Value) -> Sequence[Value | None]:
        dy, weight = node.inputs
        return cx.emit(self._conv, dx, weight) if cx.wants(dy) else None, weight_gradient(cx, self, dx, weight, dy)


_Convolution = Any  # of Conv and both gradients: stride, padding, dilation, groups


def input_gradient(cx: GradientContext, op: _Convolution, x: Value, weight: Value, dy: Value) -> Value | None:
    """The gradient of a convolution for its input, if that is wanted."""
    if not cx.wants(x):
        return None
    return cx.emit(ConvInputGradient(op.stride, op.padding, op.dilation, op.groups, x.shape[2:]), dy, weight)


def weight_gradient(cx: GradientContext, op: _Convolution, x: Value, weight: Value, dy: Value) -> Value | None:
    """The gradient of a convolution for its weight, if that is wanted."""
    if not cx.wants(weight):
        return None
    kernel = tuple(whole(k) for k in weight.shape[2:])
    return cx.emit(ConvWeightGradient(op.stride, op.padding, op.dilation, op.groups, kernel), x, dy)
