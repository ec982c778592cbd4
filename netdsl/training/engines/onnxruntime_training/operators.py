"""Primitives of this engine's graphs: forms whose ONNX operators onnxruntime-training differentiates correctly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from netdsl.ir.graph import Node
from netdsl.ir.opdef import Emitter, Primitive
from netdsl.ir.types import NDArrayAny, TensorType
from netdsl.ops.batch_statistics import BatchNormTraining
from netdsl.ops.convolution import Conv
from netdsl.ops.spatial import emit_spatial_pad, onnx_window, same_amounts


@dataclass(frozen=True)
class EngineConv(Conv):
    """`conv` as ONNX Conv with explicit pads: with `auto_pad` the engine's gradient is wrong."""

    name: ClassVar[str] = "engine_conv"
    family: ClassVar[str] = "internal"

    def lower(self, cx: Emitter, node: Node, x: str, *parameters: str) -> str:
        input, kernel = node.inputs[0].type, [int(d) for d in node.inputs[1].shape[2:] if isinstance(d, int)]
        padding = self.padding
        if padding == "same":
            x = emit_spatial_pad(cx, x, input, same_amounts(input.shape[2:], kernel, self.stride, self.dilation), 0)
            padding = ((0, 0),) * len(kernel)
        window = onnx_window(kernel, self.stride, padding, self.dilation)
        return cx.emit("Conv", x, *parameters, group=self.groups, **window)


@dataclass(frozen=True)
class EngineBatchNorm(Primitive):
    """`batch_norm_training` as ONNX BatchNormalization in training mode.

    The runtime writes its running statistics over the inputs `mean` and `var`, which must therefore be tensors that
    nothing else reads; with momentum 0 what it writes is the batch's mean and (biased) variance.
    """

    epsilon: float = 1e-5

    name: ClassVar[str] = "engine_batch_norm"
    family: ClassVar[str] = "internal"
    reference: ClassVar[str] = "ONNX BatchNormalization, training_mode=1"

    def infer(
        self, x: TensorType, weight: TensorType, bias: TensorType, mean: TensorType, var: TensorType
    ) -> tuple[TensorType, ...]:
        return x, weight, weight

    def evaluate(self, x: NDArrayAny, weight: NDArrayAny, bias: NDArrayAny, *_: NDArrayAny) -> tuple[NDArrayAny, ...]:
        return BatchNormTraining(self.epsilon).evaluate(x, weight, bias)

    def lower(self, cx: Emitter, node: Node, *inputs: str) -> tuple[str, ...]:
        return cx.emit_all("BatchNormalization", 3, *inputs, epsilon=self.epsilon, momentum=0.0, training_mode=1)


@dataclass(frozen=True)
class MaskedRelu(Primitive):
    """`relu` as the product of `x` with the mask of its positive elements, whose gradient the engine computes several
    times as fast as that of ONNX Relu. Once it is differentiated, Relu takes the product's place: of -inf that is 0,
    where the product is NaN."""

    name: ClassVar[str] = "masked_relu"
    family: ClassVar[str] = "internal"
    reference: ClassVar[str] = "ONNX Mul"

    def infer(self, x: TensorType, mask: TensorType) -> TensorType:
        return x

    def evaluate(self, x: NDArrayAny, mask: NDArrayAny) -> NDArrayAny:
        return np.where(mask != 0, x, np.zeros((), x.dtype))

    def lower(self, cx: Emitter, node: Node, x: str, mask: str) -> str:
        return cx.emit("Mul", x, mask)


@dataclass(frozen=True)
class StopGradient(Primitive):
    """The identity, through which no gradient passes. The engine has no such operator: the model is cut here before it
    is differentiated, and joined again afterwards."""

    name: ClassVar[str] = "stop_gradient"
    family: ClassVar[str] = "internal"
    foldable: ClassVar[bool] = False

    def evaluate(self, x: NDArrayAny) -> NDArrayAny:
        return x

    def lower(self, cx: Emitter, node: Node, x: str) -> str:
        return cx.emit("Identity", x)
