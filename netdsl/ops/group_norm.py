"""Normalisation over the positions of channels: instance norm, group norm, local response norm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from netdsl.ir.arguments import BOOL, EPSILON, FLOAT, INITIALIZERS, POSITIVE, TENSOR, Param
from netdsl.ir.dims import Dim, product
from netdsl.ir.graph import Node, Value
from netdsl.ir.initializer import ONES, ZEROS, Initializer
from netdsl.ir.opdef import (
    Cost,
    Emitter,
    GradientContext,
    LayerContext,
    OpError,
    Primitive,
    ShapeError,
    require_float,
    require_rank,
    same_dtype,
)
from netdsl.ir.reach import POINTWISE, WHOLE, Reach
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops import gradient_tools as g
from netdsl.ops import pooling
from netdsl.ops.normalisation import normal_gradient, normalised
from netdsl.ops.precision import like, runs_in_float32, wide
from netdsl.ops.shape import emit_reshape
from netdsl.ops.spatial import input_channels, spatial_rank


def grouped_norm(x: NDArrayAny, groups: int, epsilon: float) -> Any:
    """`x` with mean 0 and variance 1 within each group of channels, as NumPy computes with it."""
    numbers = wide(x).reshape(x.shape[0], groups, -1)
    centred = numbers - numbers.mean(axis=2, keepdims=True)
    variance = np.square(centred).mean(axis=2, keepdims=True)
    return (centred / np.sqrt(variance + centred.dtype.type(epsilon))).reshape(x.shape)


def per_channel(parameter: NDArrayAny, rank: int) -> Any:
    """A `[C]` in the shape in which it broadcasts over `[N, C, …]`."""
    return wide(parameter).reshape(-1, *[1] * (rank - 2))


def check_channels(op: str, x: TensorType, parameters: Sequence[TensorType]) -> None:
    """Raises ShapeError unless every parameter is `[C]` of the input's element type."""
    same_dtype(op, x, *parameters)
    for parameter in parameters:
        if parameter.shape != x.shape[1:2]:
            raise ShapeError(f"{op}: {parameter} does not fit the channels (axis 1) of {x}")


@dataclass(frozen=True)
class InstanceNorm(Primitive):
    """Normalises each channel of each item over its positions: `(x - mean) / sqrt(var + epsilon)`.

    With `affine`, the result is scaled by `weight` and shifted by `bias`, both `[C]`.
    """

    epsilon: float = 1e-5

    name: ClassVar[str] = "instance_norm"
    family: ClassVar[str] = "normalisation"
    reference: ClassVar[str] = "Ulyanov et al. 2016 (arXiv:1607.08022); ONNX InstanceNormalization"
    signature: ClassVar[tuple[Param, ...]] = (
        Param("x", TENSOR),
        Param("affine", BOOL, False, doc="whether weight and bias are learnt"),
        Param("epsilon", EPSILON, 1e-5),
        *INITIALIZERS,
    )

    @classmethod
    def call(
        cls,
        cx: LayerContext,
        x: Value,
        affine: bool,
        epsilon: float,
        weight_init: Initializer | None,
        bias_init: Initializer | None,
    ) -> Value:
        require_float(cls.name, x.type)
        spatial_rank(cls.name, x.type)
        channels = (input_channels(cls.name, x.type),)
        if not affine:
            for name, init in (("weight_init", weight_init), ("bias_init", bias_init)):
                if init is not None:
                    message = f"instance_norm without weight and bias takes no '{name}'"
                    raise OpError(message, argument=name, help="give it weight and bias: affine=true")
            return cx.emit(cls(epsilon), x)
        weight = cx.parameter("weight", channels, weight_init or ONES, dtype=x.dtype)
        bias = cx.parameter("bias", channels, bias_init or ZEROS, dtype=x.dtype)
        return cx.emit(cls(epsilon), x, weight, bias)

    def infer(self, x: TensorType, *parameters: TensorType) -> TensorType:
        spatial_rank(self.name, x)
        check_channels(self.name, x, parameters)
        return x

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        """Mean, centre, square, mean of squares and scale; weight and bias, if any."""
        return Cost(other=(5 if len(inputs) == 1 else 7) * outputs[0].size)

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return WHOLE

    def evaluate(self, x: NDArrayAny, *parameters: NDArrayAny) -> NDArrayAny:
        y = grouped_norm(x, x.shape[1], self.epsilon)
        if parameters:
            weight, bias = (per_channel(p, x.ndim) for p in parameters)
            y = y * weight + bias
        return like(y, x)

    @runs_in_float32(DType.bfloat16, DType.float64)
    def lower(self, cx: Emitter, node: Node, x: str, *parameters: str) -> str:
        input = node.inputs[0].type
        if not parameters:
            parameters = unit_affine(cx, input_channels(self.name, input), input.dtype)
        return cx.emit("InstanceNormalization", x, *parameters, epsilon=self.epsilon)

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        x, *parameters = node.inputs
        return _grouped_gradient(cx, x, parameters, dy, input_channels(self.name, x.type), self.epsilon)


def _grouped_gradient(
    cx: GradientContext, x: Value, parameters: Sequence[Value], dy: Value, groups: int, epsilon: float
) -> Sequence[Value | None]:
    """The gradients for `x`, weight and bias, if there are any, of a norm over groups of channels."""
    rows = (x.shape[0], groups, product(x.shape[1:]) // groups)
    normal, root = normalised(cx, g.reshape(cx, x, rows), (2,), epsilon)
    scaled, sums = dy, []
    if parameters:
        weight = parameters[0]
        scaled = g.mul(cx, dy, g.reshape(cx, weight, (*weight.shape, *[1] * (x.rank - 2))))
        axes = [0, *range(2, x.rank)]
        sums = [g.total(cx, g.mul(cx, dy, g.reshape(cx, normal, x.shape)), axes), g.total(cx, dy, axes)]
    dx = normal_gradient(cx, g.reshape(cx, scaled, rows), normal, root, (2,)) if cx.wants(x) else None
    return None if dx is None else g.reshape(cx, dx, x.shape), *sums


def unit_affine(cx: Emitter, count: int, dtype: DType) -> tuple[str, str]:
    """A weight of ones and a bias of zeros."""
    return cx.array(np.ones(count).astype(dtype.numpy)), cx.array(np.zeros(count).astype(dtype.numpy))


@dataclass(frozen=True)
class GroupNorm(Primitive):
    """Normalises each group of channels of each item over the group's channels and positions:
    `weight * (x - mean) / sqrt(var + epsilon) + bias`, `weight` and `bias` `[C]`."""

    groups: int
    epsilon: float = 1e-5

    name: ClassVar[str] = "group_norm"
    family: ClassVar[str] = "normalisation"
    reference: ClassVar[str] = "Wu & He 2018 (arXiv:1803.08494); ONNX GroupNormalization"
    signature: ClassVar[tuple[Param, ...]] = (
        Param("x", TENSOR),
        Param("groups", POSITIVE),
        Param("epsilon", EPSILON, 1e-5),
        *INITIALIZERS,
    )

    @classmethod
    def call(
        cls,
        cx: LayerContext,
        x: Value,
        groups: int,
        epsilon: float,
        weight_init: Initializer | None,
        bias_init: Initializer | None,
    ) -> Value:
        require_float(cls.name, x.type)
        require_rank(cls.name, x.type, 2)
        channels = input_channels(cls.name, x.type)
        if channels % groups:
            raise OpError(
                f"group_norm: groups={groups} must divide the {channels} channels of {x.type}", argument="groups"
            )
        weight = cx.parameter("weight", (channels,), weight_init or ONES, dtype=x.dtype)
        bias = cx.parameter("bias", (channels,), bias_init or ZEROS, dtype=x.dtype)
        return cx.emit(cls(groups, epsilon), x, weight, bias)

    def infer(self, x: TensorType, *parameters: TensorType) -> TensorType:
        require_rank(self.name, x, 2)
        check_channels(self.name, x, parameters)
        return x

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        """Mean, centre, square, mean of squares, scale, weight and bias."""
        return Cost(other=7 * outputs[0].size)

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return WHOLE

    def evaluate(self, x: NDArrayAny, weight: NDArrayAny, bias: NDArrayAny) -> NDArrayAny:
        normal = grouped_norm(x, self.groups, self.epsilon)
        return like(normal * per_channel(weight, x.ndim) + per_channel(bias, x.ndim), x)

    @runs_in_float32(DType.bfloat16, DType.float64)
    def lower(self, cx: Emitter, node: Node, x: str, weight: str, bias: str) -> str:
        input = node.inputs[0].type
        if cx.opset >= 21 and input.rank > 2:
            return cx.emit("GroupNormalization", x, weight, bias, num_groups=self.groups, epsilon=self.epsilon)
        # Before opset 21 the operator was absent or scaled by group: each group is one channel of an instance norm.
        each = product((input_channels(self.name, input), *input.shape[2:]))
        rows: tuple[Dim, ...] = (input.shape[0], self.groups, each // self.groups)
        units = unit_affine(cx, self.groups, input.dtype)
        flat = emit_reshape(cx, x, input.shape, rows)
        normal = cx.emit("InstanceNormalization", flat, *units, epsilon=self.epsilon)
        back = emit_reshape(cx, normal, rows, input.shape)
        shape = cx.ints([-1, *[1] * (input.rank - 2)])
        scaled = cx.emit("Mul", back, cx.emit("Reshape", weight, shape))
        return cx.emit("Add", scaled, cx.emit("Reshape", bias, shape))

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        x, *parameters = node.inputs
        return _grouped_gradient(cx, x, parameters, dy, self.groups, self.epsilon)


@dataclass(frozen=True)
class LocalResponseNorm(Primitive):
    """`x / (k + alpha * mean(x**2))**beta`, the mean over `size` neighbouring channels; absent ones count as zeros."""

    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0

    name: ClassVar[str] = "local_response_norm"
    family: ClassVar[str] = "normalisation"
    reference: ClassVar[str] = "Krizhevsky et al. 2012; ONNX LRN"
    signature: ClassVar[tuple[Param, ...]] = (
        Param("x", TENSOR),
        Param("size", POSITIVE, doc="number of channels"),
        Param("alpha", FLOAT, 1e-4),
        Param("beta", FLOAT, 0.75),
        Param("k", FLOAT, 1.0),
    )

    def infer(self, x: TensorType) -> TensorType:
        require_float(self.name, x)
        spatial_rank(self.name, x)
        return x

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        """The square, the additions of a window, then scale, shift, power and division."""
        return Cost(other=(self.size + 4) * outputs[0].size)

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return POINTWISE

    def evaluate(self, x: NDArrayAny) -> NDArrayAny:
        numbers = wide(x)
        around = [(0, 0), (self.size // 2, (self.size - 1) // 2), *[(0, 0)] * (x.ndim - 2)]
        squares = np.pad(np.square(numbers), around)
        means = np.lib.stride_tricks.sliding_window_view(squares, self.size, axis=1).mean(axis=-1)
        return like(numbers / (self.k + self.alpha * means) ** self.beta, x)

    @runs_in_float32(DType.bfloat16, DType.float64)
    def lower(self, cx: Emitter, node: Node, x: str) -> str:
        input = node.inputs[0].type
        if input.rank == 4 and self.size % 2:
            attributes = {"size": self.size, "alpha": self.alpha, "beta": self.beta, "bias": self.k}
            return cx.emit("LRN", x, **attributes)
        # ONNX Runtime's LRN takes pictures and odd sizes alone: the channels become an axis of an average pool.
        flat = (input.shape[0], 1, input.shape[1], product(input.shape[2:]))
        squares = emit_reshape(cx, cx.emit("Mul", x, x), input.shape, flat)
        window = {"kernel_shape": [self.size, 1], "pads": [self.size // 2, 0, (self.size - 1) // 2, 0]}
        pooled = cx.emit("AveragePool", squares, **window, count_include_pad=1)
        means = emit_reshape(cx, pooled, flat, input.shape)
        scaled = cx.emit(
            "Add", cx.emit("Mul", means, cx.scalar(self.alpha, input.dtype)), cx.scalar(self.k, input.dtype)
        )
        return cx.emit("Div", x, cx.emit("Pow", scaled, cx.scalar(self.beta, input.dtype)))

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        """`dy * s**-beta - 2*alpha*beta * x * mean(dy * x * s**(-beta - 1))` with `s = k + alpha * mean(x**2)`, the
        second mean over the channels whose windows hold the channel."""
        (x,) = node.inputs
        before, after = self.size // 2, (self.size - 1) // 2
        means = self._means(cx, g.mul(cx, x, x), before, after)
        base = g.add(cx, g.mul(cx, means, self.alpha), self.k)
        scaled = g.mul(cx, dy, g.power(cx, base, -self.beta))
        back = self._means(cx, g.div(cx, g.mul(cx, scaled, x), base), after, before)
        return (g.sub(cx, scaled, g.mul(cx, g.mul(cx, x, back), 2 * self.alpha * self.beta)),)

    def _means(self, cx: GradientContext, x: Value, before: int, after: int) -> Value:
        """Means over neighbouring channels."""
        flat = g.reshape(cx, x, (x.shape[0], 1, x.shape[1], product(x.shape[2:])))
        window = pooling.AvgPool((self.size, 1), (1, 1), ((before, after), (0, 0)), (1, 1))
        return g.reshape(cx, cx.emit(window, flat), x.shape)
