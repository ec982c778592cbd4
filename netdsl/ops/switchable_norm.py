"""Switchable normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from netdsl.ir.arguments import EPSILON, TENSOR, Float, Param
from netdsl.ir.graph import Node, Value
from netdsl.ir.initializer import ONES, ZEROS
from netdsl.ir.opdef import Cost, Emitter, LayerContext, Primitive, ShapeError, require_float
from netdsl.ir.reach import WHOLE, Reach
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops.group_norm import check_channels, per_channel
from netdsl.ops.normalisation import emit_mean
from netdsl.ops.precision import like, runs_in_float32, wide
from netdsl.ops.spatial import input_channels, spatial_rank


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
    )

    @classmethod
    def call(cls, cx: LayerContext, x: Value, momentum: float, epsilon: float) -> Value:
        require_float(cls.name, x.type)
        spatial_rank(cls.name, x.type)
        channels, three = (input_channels(cls.name, x.type),), (3,)
        made = [
            cx.parameter("weight", channels, ONES, dtype=x.dtype),
            cx.parameter("bias", channels, ZEROS, dtype=x.dtype),
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


def _softmax(logits: NDArrayAny) -> Any:
    powers = np.exp(wide(logits) - wide(logits).max())
    return powers / powers.sum()


def _emit_mixture(cx: Emitter, logits: str, statistics: tuple[str, str, str]) -> str:
    outputs = {"num_outputs": 3} if cx.opset >= 18 else {}
    shares = cx.emit_all("Split", 3, cx.emit("Softmax", logits, axis=0), axis=0, **outputs)
    first, second, third = (cx.emit("Mul", w, s) for w, s in zip(shares, statistics, strict=True))
    return cx.emit("Add", cx.emit("Add", first, second), third)
