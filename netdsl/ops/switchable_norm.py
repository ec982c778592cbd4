"""Switchable normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from netdsl.ir.arguments import EPSILON, INITIALIZERS, TENSOR, Float, Param
from netdsl.ir.graph import Node, Value
from netdsl.ir.initializer import ONES, ZEROS, Initializer
from netdsl.ir.opdef import (
    Cost,
    Emitter,
    GradientContext,
    LayerContext,
    Primitive,
    ShapeError,
    TrainingContext,
    require_float,
)
from netdsl.ir.reach import WHOLE, Reach
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops import gradient_tools as g
from netdsl.ops.batch_norm import move_statistics, spread
from netdsl.ops.group_norm import check_channels, per_channel
from netdsl.ops.indexing import Slice
from netdsl.ops.normalisation import emit_mean
from netdsl.ops.precision import like, runs_in_float32, wide
from netdsl.ops.smooth import Softmax
from netdsl.ops.spatial import input_channels, spatial_rank
from netdsl.ops.tape import formula_gradient


@dataclass(frozen=True)
class SwitchableNorm(Primitive):
    """Normalises by a learnt mixture of the statistics of instance, layer and batch norm:
    `weight * (x - mean) / sqrt(var + epsilon) + bias`.

    `mean` is the sum of the three means weighted by `softmax(mean_weight)`, `var` that of the variances by
    `softmax(var_weight)`, both `[3]` in that order. The batch's statistics are buffers as in `batch_norm`.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    frozen: bool = False

    name: ClassVar[str] = "switchable_norm"
    family: ClassVar[str] = "normalisation"
    reference: ClassVar[str] = "Luo et al. 2018 (arXiv:1806.10779)"
    signature: ClassVar[tuple[Param, ...]] = (
        Param("x", TENSOR),
        Param("momentum", Float("number from 0 to 1", low=0, high=1), 0.9),
        Param("epsilon", EPSILON, 1e-5),
        *INITIALIZERS,
    )

    @classmethod
    def call(
        cls,
        cx: LayerContext,
        x: Value,
        momentum: float,
        epsilon: float,
        weight_init: Initializer | None,
        bias_init: Initializer | None,
    ) -> Value:
        require_float(cls.name, x.type)
        spatial_rank(cls.name, x.type)
        channels, three = (input_channels(cls.name, x.type),), (3,)
        made = [
            cx.parameter("weight", channels, weight_init or ONES, dtype=x.dtype),
            cx.parameter("bias", channels, bias_init or ZEROS, dtype=x.dtype),
            cx.parameter("mean_weight", three, ONES, dtype=x.dtype),
            cx.parameter("var_weight", three, ONES, dtype=x.dtype),
            cx.parameter("running_mean", channels, ZEROS, dtype=x.dtype, buffer=True),
            cx.parameter("running_var", channels, ONES, dtype=x.dtype, buffer=True),
        ]
        return cx.emit(cls(momentum, epsilon, cx.frozen), x, *made)

    def infer(self, x: TensorType, *parameters: TensorType) -> TensorType:
        spatial_rank(self.name, x)
        weight, bias, mean_weight, var_weight, *running = parameters
        check_channels(self.name, x, [weight, bias, *running])
        for three in (mean_weight, var_weight):
            if three.shape != (3,):
                raise ShapeError(f"{self.name}: {three} should have the shape [3]")
        return x

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        """Mean, centre, square, mean of squares, centre by the mixture, scale, weight and bias."""
        return Cost(other=8 * outputs[0].size)

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return WHOLE

    def evaluate(self, x: NDArrayAny, *parameters: NDArrayAny) -> NDArrayAny:
        numbers: Any = wide(x)
        weight, bias, mean_weight, var_weight, running_mean, running_var = parameters
        spatial = tuple(range(2, x.ndim))
        mean = numbers.mean(axis=spatial, keepdims=True)
        variance = np.square(numbers - mean).mean(axis=spatial, keepdims=True)
        layer_mean = mean.mean(axis=1, keepdims=True)
        layer_var = (variance + np.square(mean)).mean(axis=1, keepdims=True) - np.square(layer_mean)
        means = (mean, layer_mean, per_channel(running_mean, x.ndim))
        variances = (variance, layer_var, per_channel(running_var, x.ndim))
        mixed_mean = sum(w * m for w, m in zip(_softmax(mean_weight), means, strict=True))
        mixed_var = sum(w * v for w, v in zip(_softmax(var_weight), variances, strict=True))
        normal = (numbers - mixed_mean) / np.sqrt(mixed_var + numbers.dtype.type(self.epsilon))
        return like(normal * per_channel(weight, x.ndim) + per_channel(bias, x.ndim), x)

    @runs_in_float32(DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, x: str, *parameters: str) -> str:
        input = node.inputs[0].type
        shape = cx.ints([-1, *[1] * (input.rank - 2)])
        weight, bias, running_mean, running_var = (cx.emit("Reshape", parameters[i], shape) for i in (0, 1, 4, 5))
        spatial = range(2, input.rank)
        mean = emit_mean(cx, x, spatial)
        centred = cx.emit("Sub", x, mean)
        variance = emit_mean(cx, cx.emit("Mul", centred, centred), spatial)
        layer_mean = emit_mean(cx, mean, [1])
        second = emit_mean(cx, cx.emit("Add", variance, cx.emit("Mul", mean, mean)), [1])
        layer_var = cx.emit("Sub", second, cx.emit("Mul", layer_mean, layer_mean))
        mixed_mean = _emit_mixture(cx, parameters[2], (mean, layer_mean, running_mean))
        mixed_var = _emit_mixture(cx, parameters[3], (variance, layer_var, running_var))
        root = cx.emit("Sqrt", cx.emit("Add", mixed_var, cx.scalar(self.epsilon, input.dtype)))
        normal = cx.emit("Div", cx.emit("Sub", x, mixed_mean), root)
        return cx.emit("Add", cx.emit("Mul", normal, weight), bias)

    def training(self, cx: TrainingContext, node: Node) -> tuple[Value, ...] | None:
        """Uses the batch's statistics and moves the running ones, unless the layer is frozen or none of its parameters
        is trained."""
        x, *parameters, mean, var = node.inputs
        if self.frozen or not any(cx.wants(p) for p in parameters):
            return None
        y, statistics = self._formula(cx, x, parameters, None)
        move_statistics(cx, x, self.momentum, (mean, var), statistics)
        return (y,)

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        def formula(tape: GradientContext, x: Value, *parameters: Value) -> Value:
            *trained, mean, var = parameters
            return self._formula(tape, x, trained, (mean, var))[0]

        return formula_gradient(cx, node, formula, dy)

    def _formula(
        self, cx: GradientContext, x: Value, parameters: Sequence[Value], running: tuple[Value, Value] | None
    ) -> tuple[Value, tuple[Value, Value]]:
        """The result, and the mean and variance `[C]` that stand for batch norm's: the running ones, or, if there are
        none, the batch's."""
        weight, bias, mean_weight, var_weight = parameters
        mean, var = _moments(cx, x, tuple(range(2, x.rank)))
        layer_mean, layer_var = _joined(cx, mean, var, 1)
        if running is None:
            batch_mean, batch_var = _joined(cx, mean, var, 0)
            running = g.reshape(cx, batch_mean, x.shape[1:2]), g.reshape(cx, batch_var, x.shape[1:2])
        else:
            batch_mean, batch_var = (spread(cx, v, x.rank) for v in running)
        mixed_mean = _mixture(cx, mean_weight, (mean, layer_mean, batch_mean))
        mixed_var = _mixture(cx, var_weight, (var, layer_var, batch_var))
        root = g.power(cx, g.add(cx, mixed_var, self.epsilon), -0.5)
        normal = g.mul(cx, g.sub(cx, x, mixed_mean), root)
        y = g.add(cx, g.mul(cx, normal, spread(cx, weight, x.rank)), spread(cx, bias, x.rank))
        return y, running


def _moments(cx: GradientContext, x: Value, axes: tuple[int, ...]) -> tuple[Value, Value]:
    """Mean and variance over axes, which stay with size 1."""
    mean = g.mean(cx, x, axes, keep=True)
    centred = g.sub(cx, x, mean)
    return mean, g.mean(cx, g.mul(cx, centred, centred), axes, keep=True)


def _joined(cx: GradientContext, mean: Value, var: Value, axis: int) -> tuple[Value, Value]:
    """Mean and variance over one more axis, from those of its parts, which are of equal size."""
    joint, spread_of_means = _moments(cx, mean, (axis,))
    return joint, g.add(cx, g.mean(cx, var, (axis,), keep=True), spread_of_means)


def _mixture(cx: GradientContext, logits: Value, statistics: tuple[Value, Value, Value]) -> Value:
    shares = cx.emit(Softmax(0), logits)
    parts = [
        g.mul(cx, cx.emit(Slice((i,), (i + 1,), (0,), (1,)), shares), statistic)
        for i, statistic in enumerate(statistics)
    ]
    return g.add(cx, g.add(cx, parts[0], parts[1]), parts[2])


def _softmax(logits: NDArrayAny) -> Any:
    powers = np.exp(wide(logits) - wide(logits).max())
    return powers / powers.sum()


def _emit_mixture(cx: Emitter, logits: str, statistics: tuple[str, str, str]) -> str:
    outputs = {"num_outputs": 3} if cx.opset >= 18 else {}
    shares = cx.emit_all("Split", 3, cx.emit("Softmax", logits, axis=0), axis=0, **outputs)
    first, second, third = (cx.emit("Mul", w, s) for w, s in zip(shares, statistics, strict=True))
    return cx.emit("Add", cx.emit("Add", first, second), third)
