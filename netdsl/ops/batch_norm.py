"""Batch normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from netdsl.ir.arguments import EPSILON, INITIALIZERS, TENSOR, Float, Param
from netdsl.ir.dims import product
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
    require_rank,
    same_dtype,
)
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops import gradient_tools as g
from netdsl.ops.batch_statistics import BatchNormTraining
from netdsl.ops.precision import like, runs_in_float32, wide
from netdsl.ops.spatial import input_channels


@dataclass(frozen=True)
class BatchNorm(Primitive):
    """Normalises each channel (axis 1) by statistics of the data: `weight * (x - mean) / sqrt(var + epsilon) + bias`.

    When the model runs, `mean` and `var` are the buffers `running_mean` and `running_var`; in training they are the
    batch's, and the buffers follow as `momentum * old + (1 - momentum) * batch`. All four are `[C]`. `frozen`: the
    layer keeps its running statistics in training too.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5
    frozen: bool = False

    name: ClassVar[str] = "batch_norm"
    family: ClassVar[str] = "normalisation"
    reference: ClassVar[str] = "Ioffe & Szegedy 2015 (arXiv:1502.03167); ONNX BatchNormalization"
    signature: ClassVar[tuple[Param, ...]] = (
        Param("x", TENSOR),
        Param(
            "momentum",
            Float("number from 0 to 1", low=0, high=1),
            0.9,
            doc="share of the old running value that is kept",
        ),
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
        require_float("batch_norm", x.type)
        require_rank("batch_norm", x.type, 2)
        shape = (input_channels("batch_norm", x.type),)
        weight = cx.parameter("weight", shape, weight_init or ONES, dtype=x.dtype)
        bias = cx.parameter("bias", shape, bias_init or ZEROS, dtype=x.dtype)
        mean = cx.parameter("running_mean", shape, ZEROS, dtype=x.dtype, buffer=True)
        variance = cx.parameter("running_var", shape, ONES, dtype=x.dtype, buffer=True)
        return cx.emit(cls(momentum, epsilon, cx.frozen), x, weight, bias, mean, variance)

    def infer(self, x: TensorType, *statistics: TensorType) -> TensorType:
        same_dtype("batch_norm", x, *statistics)
        require_rank("batch_norm", x, 2)
        for s in statistics:
            if s.shape != x.shape[1:2]:
                raise ShapeError(f"batch_norm: {s} does not fit the channels (axis 1) of {x}")
        return x

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        """A multiplication and an addition per element: scale and shift are computed once per channel."""
        return Cost(other=2 * outputs[0].size)

    def evaluate(
        self, x: NDArrayAny, weight: NDArrayAny, bias: NDArrayAny, running_mean: NDArrayAny, running_var: NDArrayAny
    ) -> NDArrayAny:
        shape = (-1, *[1] * (x.ndim - 2))
        scale = wide(weight) / np.sqrt(wide(running_var) + wide(x).dtype.type(self.epsilon))
        shift = wide(bias) - wide(running_mean) * scale
        return like(wide(x) * scale.reshape(shape) + shift.reshape(shape), x)

    @runs_in_float32(DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, *inputs: str) -> str:
        return cx.emit("BatchNormalization", *inputs, epsilon=self.epsilon, momentum=self.momentum)

    def training(self, cx: TrainingContext, node: Node) -> tuple[Value, ...] | None:
        """Normalises by the batch's statistics and moves the running ones, unless the layer is frozen or none of its
        parameters is trained."""
        x, weight, bias, mean, var = node.inputs
        if self.frozen or not (cx.wants(weight) or cx.wants(bias)):
            return None
        y, batch_mean, batch_var = cx.emit_all(BatchNormTraining(self.epsilon), x, weight, bias)
        move_statistics(cx, x, self.momentum, (mean, var), (batch_mean, batch_var))
        return (y,)

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        x, weight, _, mean, var = node.inputs
        axes = [0, *range(2, x.rank)]
        root = g.power(cx, g.add(cx, var, self.epsilon), -0.5)
        shift = g.total(cx, dy, axes)
        centred = g.sub(cx, x, spread(cx, mean, x.rank))
        slope = g.mul(cx, g.total(cx, g.mul(cx, dy, centred), axes), root)
        scale = g.mul(cx, weight, root)
        grads: list[Value | None] = [None] * 5
        if cx.wants(x):
            grads[0] = g.mul(cx, dy, spread(cx, scale, x.rank))
        grads[1], grads[2] = slope, shift
        if cx.wants(mean):
            grads[3] = g.neg(cx, g.mul(cx, scale, shift))
        if cx.wants(var):
            grads[4] = g.mul(cx, g.mul(cx, g.mul(cx, slope, -0.5), weight), g.power(cx, root, 2))
        return grads


def spread(cx: GradientContext, parameter: Value, rank: int) -> Value:
    """A `[C]` in the shape in which it broadcasts over `[N, C, …]`."""
    return g.reshape(cx, parameter, (parameter.shape[0], *[1] * (rank - 2)))


def move_statistics(
    cx: TrainingContext, x: Value, momentum: float, buffers: tuple[Value, Value], batch: tuple[Value, Value]
) -> None:
    """Sets the buffers of mean and variance to `momentum * old + (1 - momentum) * batch`. The batch's variance becomes
    the unbiased estimate, as in PyTorch."""
    mean, var = batch
    count = product([x.shape[0], *x.shape[2:]])
    unbiased = g.divided(cx, g.mul(cx, var, g.count(cx, x.type, [0, *range(2, x.rank)])), count - 1)
    for buffer, new in zip(buffers, (mean, unbiased), strict=True):
        old = g.mul(cx, cx.current(buffer), momentum)
        cx.update(buffer, g.add(cx, old, g.mul(cx, new, 1 - momentum)))
