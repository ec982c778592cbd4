"""Convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import numpy as np

from netdsl.ir.arguments import BOOL, INITIALIZERS, PADDING, PER_AXIS, POSITIVE, TENSOR, PaddingValue, Param
from netdsl.ir.graph import Node, Value
from netdsl.ir.initializer import HE_NORMAL, ZEROS, Initializer
from netdsl.ir.opdef import (
    Cost,
    Emitter,
    GradientContext,
    LayerContext,
    Operator,
    OpError,
    Primitive,
    ShapeError,
    require_float,
    same_dtype,
)
from netdsl.ir.reach import Reach
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops import convolution_gradient as backward
from netdsl.ops import gradient_tools as g
from netdsl.ops.convolution_cost import choose, geometry
from netdsl.ops.convolution_forms import FORWARD
from netdsl.ops.precision import like, runs_in_float32, wide
from netdsl.ops.spatial import (
    SamePads,
    axes_of,
    concrete_pads,
    emit_spatial_pad,
    explicit_pads,
    input_channels,
    onnx_window,
    pad_spatial,
    same_amounts,
    spatial_rank,
    window_reach,
    window_sizes,
    windows,
)


@dataclass(frozen=True)
class Conv(Primitive):
    """Convolution over 1 to 3 spatial axes: `x` `[N, C, …]`, `weight` `[channels, C/groups, *kernel]`,
    `bias` `[channels]`.

    The output is `[N, channels, …]` with sizes `(in + padding - dilation*(kernel - 1) - 1) // stride + 1`.
    """

    stride: tuple[int, ...]
    padding: SamePads
    dilation: tuple[int, ...]
    groups: int = 1

    name: ClassVar[str] = "conv"
    family: ClassVar[str] = "convolution"
    reference: ClassVar[str] = "ONNX Conv"
    signature: ClassVar[tuple[Param, ...]] = (
        Param("x", TENSOR),
        Param("channels", POSITIVE, doc="number of output channels"),
        Param("kernel", PER_AXIS),
        Param("stride", PER_AXIS, 1),
        Param("padding", PADDING, 0),
        Param("dilation", PER_AXIS, 1),
        Param("groups", POSITIVE, 1),
        Param("bias", BOOL, True),
        *INITIALIZERS,
    )

    @classmethod
    def call(
        cls,
        cx: LayerContext,
        x: Value,
        channels: int,
        kernel: int | tuple[int, ...],
        stride: int | tuple[int, ...],
        padding: PaddingValue,
        dilation: int | tuple[int, ...],
        groups: int,
        bias: bool,
        weight_init: Initializer | None,
        bias_init: Initializer | None,
        label: str = "conv",
    ) -> Value:
        rank = spatial_rank(label, x.type)
        require_float(label, x.type)
        inputs = input_channels(label, x.type)
        if inputs % groups or channels % groups:
            message = f"{label}: groups={groups} must divide both the {inputs} input and the {channels} output channels"
            raise OpError(message, argument="groups")
        sizes, strides = axes_of(label, kernel, rank, "kernel"), axes_of(label, stride, rank, "stride")
        dilations = axes_of(label, dilation, rank, "dilation")
        pads = explicit_pads(label, padding, x.type, sizes, strides, dilations)
        window_sizes(label, x.type, sizes, strides, pads, dilations)  # refuse before a parameter is made
        fan_in, fan_out = inputs // groups * prod(sizes), channels // groups * prod(sizes)
        init = (weight_init or HE_NORMAL).with_fans(fan_in, fan_out)
        operands = [x, cx.parameter("weight", (channels, inputs // groups, *sizes), init, dtype=x.dtype)]
        if bias:
            bias_initializer = (bias_init or ZEROS).with_fans(fan_in, fan_out)
            operands.append(cx.parameter("bias", (channels,), bias_initializer, dtype=x.dtype))
        return cx.emit(cls(strides, pads, dilations, groups), *operands)

    def infer(self, x: TensorType, weight: TensorType, bias: TensorType | None = None) -> TensorType:
        same_dtype("conv", x, weight, *([bias] if bias else []))
        if input_channels("conv", x) != self.groups * int(weight.shape[1]):  # type: ignore[arg-type]
            raise ShapeError(f"conv: weight {weight} with {self.groups} groups does not fit {x}")
        sizes = window_sizes("conv", x, self._kernel(weight), self.stride, self.padding, self.dilation)
        return x.with_shape((x.shape[0], weight.shape[0], *sizes))

    @staticmethod
    def _kernel(weight: TensorType) -> tuple[int, ...]:
        return tuple(int(k) for k in weight.shape[2:])  # type: ignore[arg-type]  # parameters' shapes are integers

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        taps = prod(self._kernel(inputs[1])) * int(inputs[1].shape[1])  # type: ignore[arg-type]
        return Cost(macs=outputs[0].size * taps, other=outputs[0].size if len(inputs) > 2 else 0)

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return window_reach(self._kernel(inputs[1]), self.stride, self.padding, self.dilation)

    def evaluate(self, x: NDArrayAny, weight: NDArrayAny, bias: NDArrayAny | None = None) -> NDArrayAny:
        kernel = weight.shape[2:]
        pads = concrete_pads(self.padding, x.shape[2:], kernel, self.stride, self.dilation)
        view = windows(pad_spatial(wide(x), pads), kernel, self.stride, self.dilation)
        rank, groups = len(kernel), self.groups
        batch, _, *sizes = view.shape[: 2 + rank]
        grouped: Any = view.reshape(batch, groups, -1, *view.shape[2:])
        kernels = wide(weight).reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
        axes = "abcdef"[: 2 * rank]
        out, taps = axes[:rank], axes[rank:]
        y = np.einsum(f"ngi{out}{taps},goi{taps}->ngo{out}", grouped, kernels, optimize=True)
        y = y.reshape(batch, weight.shape[0], *sizes)
        return like(y if bias is None else y + wide(bias).reshape(-1, *[1] * rank), x)

    @runs_in_float32(DType.bfloat16, DType.float64)
    def lower(self, cx: Emitter, node: Node, x: str, *parameters: str) -> str:
        input = node.inputs[0].type
        kernel = self._kernel(node.inputs[1].type)
        if not cx.is_constant(parameters[0]):
            where = geometry(input, node.inputs[1].type, node.output.type, *self._window, self.groups, cx.target)
            form = choose(FORWARD, where, cx.target)
            if form.name != "native":
                return biased(cx, form.emit(cx, where, x, parameters[0]), parameters[1:], len(kernel))
        padding = self.padding
        if padding == "same" and any(d > 1 for d in self.dilation):  # ONNX Runtime's auto_pad takes no dilation
            x = emit_spatial_pad(cx, x, input, same_amounts(input.shape[2:], kernel, self.stride, self.dilation), 0)
            padding = ((0, 0),) * len(kernel)
        window = onnx_window(kernel, self.stride, padding, self.dilation)
        return cx.emit("Conv", x, *parameters, group=self.groups, **window)

    @property
    def _window(self) -> tuple[tuple[int, ...], SamePads, tuple[int, ...]]:
        return self.stride, self.padding, self.dilation

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        x, weight, *bias = node.inputs
        axes = [0, *range(2, x.rank)]
        sums = [g.total(cx, dy, axes) if cx.wants(b) else None for b in bias]
        dx = backward.input_gradient(cx, self, x, weight, dy)
        return dx, backward.weight_gradient(cx, self, x, weight, dy), *sums


def biased(cx: Emitter, y: str, bias: Sequence[str], rank: int) -> str:
    """`y` with the bias, if there is one."""
    for name in bias:
        y = cx.emit("Add", y, cx.emit("Reshape", name, cx.ints([-1, *[1] * rank])))
    return y


class DepthwiseConv(Operator):
    """Convolution of each channel by itself, a `conv` with as many groups as channels:
    `weight` `[C*multiplier, 1, *kernel]`."""

    name: ClassVar[str] = "depthwise_conv"
    family: ClassVar[str] = "convolution"
    reference: ClassVar[str] = "Howard et al. 2017 (arXiv:1704.04861); ONNX Conv with group = C"
    signature: ClassVar[tuple[Param, ...]] = (
        Param("x", TENSOR),
        Param("kernel", PER_AXIS),
        Param("multiplier", POSITIVE, 1, doc="output channels per input channel"),
        Param("stride", PER_AXIS, 1),
        Param("padding", PADDING, 0),
        Param("dilation", PER_AXIS, 1),
        Param("bias", BOOL, True),
        *INITIALIZERS,
    )

    @classmethod
    def call(cls, cx: LayerContext, x: Value, multiplier: int, **arguments: Any) -> Value:
        spatial_rank(cls.name, x.type)
        channels = input_channels(cls.name, x.type)
        return Conv.call(cx, x, channels=channels * multiplier, groups=channels, label=cls.name, **arguments)
