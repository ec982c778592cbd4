"""Batch normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from netdsl.ir.arguments import EPSILON, TENSOR, Float, Param
from netdsl.ir.graph import Node, Value
from netdsl.ir.initializer import ONES, ZEROS
from netdsl.ir.opdef import Cost, Emitter, LayerContext, Primitive, ShapeError, require_float, require_rank, same_dtype
from netdsl.ir.types import DType, NDArrayAny, TensorType
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
    )

    @classmethod
    def call(cls, cx: LayerContext, x: Value, momentum: float, epsilon: float) -> Value:
        require_float("batch_norm", x.type)
        require_rank("batch_norm", x.type, 2)
        shape = (input_channels("batch_norm", x.type),)
        weight = cx.parameter("weight", shape, ONES, dtype=x.dtype)
        bias = cx.parameter("bias", shape, ZEROS, dtype=x.dtype)
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
