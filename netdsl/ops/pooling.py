"""Pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from netdsl.ir.arguments import BOOL, Param
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Cost, Emitter, GradientContext, Primitive, ShapeError, require_float
from netdsl.ir.types import DType, NDArrayAny, TensorType, dtype_of
from netdsl.ops import gradient_tools as g
from netdsl.ops import resize
from netdsl.ops.axis_matrix import AxisMatrix, transposed_along
from netdsl.ops.pool import WINDOW, Pool, difference, lowest, no_pads
from netdsl.ops.pooling_gradient import MaxPoolGradient
from netdsl.ops.precision import like, runs_in_float32, wide
from netdsl.ops.shape import emit_reshape
from netdsl.ops.spatial import SamePads, emit_spatial_pad, onnx_window, pad_spatial, padded_type, window_sizes, windows


@dataclass(frozen=True)
class MaxPool(Pool):
    """The largest value of each window; padding never wins.

    Sizes are `(in + padding - dilation*(kernel - 1) - 1) // stride + 1`, rounded up with `ceil`, where a last window
    must start inside the input or the padding before it.
    """

    name: ClassVar[str] = "max_pool"
    family: ClassVar[str] = "pooling"
    reference: ClassVar[str] = "ONNX MaxPool"
    signature: ClassVar[tuple[Param, ...]] = WINDOW

    def infer(self, x: TensorType) -> TensorType | tuple[TensorType, ...]:
        if not (x.dtype.is_float or x.dtype in (DType.int8, DType.uint8)):
            raise ShapeError(
                f"{self.name} needs floats, int8 or uint8, found {x}", help="convert it first: cast(x, float32)"
            )
        return super().infer(x)

    def evaluate(self, x: NDArrayAny) -> NDArrayAny | tuple[NDArrayAny, ...]:
        _, full = self.frame(TensorType(DType.float32, x.shape))
        return like(self.view(wide(x), full, lowest(dtype_of(x))).max(axis=self.taps), x)

    @runs_in_float32(DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, x: str) -> str | tuple[str, ...]:
        input = node.inputs[0].type
        if self.fits:
            return cx.emit("MaxPool", x, **self.onnx(input))
        padded = emit_spatial_pad(cx, x, input, self.frame(input)[1], lowest(input.dtype))
        return cx.emit("MaxPool", padded, **onnx_window(self.kernel, self.stride, no_pads(self.kernel), self.dilation))

    def gradient(self, cx: GradientContext, node: Node, dy: Value, *_: None) -> Sequence[Value | None]:
        backward = MaxPoolGradient(self.kernel, self.stride, self.padding, self.dilation, self.ceil)
        return (cx.emit(backward, node.inputs[0], node.outputs[0], dy),)


@dataclass(frozen=True)
class AvgPool(Pool):
    """The mean of each window; `count_include_pad`: whether padding counts as zeros or not at all.

    Sizes are those of `max_pool`.
    """

    count_include_pad: bool = True

    name: ClassVar[str] = "avg_pool"
    family: ClassVar[str] = "pooling"
    reference: ClassVar[str] = "ONNX AveragePool"
    signature: ClassVar[tuple[Param, ...]] = (*WINDOW, Param("count_include_pad", BOOL, True))

    def infer(self, x: TensorType) -> TensorType | tuple[TensorType, ...]:
        require_float("avg_pool", x)
        return super().infer(x)

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        """The additions of a window and one division."""
        return Cost(other=outputs[0].size * prod(self.kernel))

    def evaluate(self, x: NDArrayAny) -> NDArrayAny:
        numbers = wide(x)
        pads, full = self.frame(TensorType(DType.float32, x.shape))
        total = self.view(numbers, full, 0).sum(axis=self.taps)
        ones = np.ones((1, 1, *x.shape[2:]), numbers.dtype)
        rest = full
        if self.count_include_pad:  # what `ceil` adds beyond the padding never counts
            ones, rest = pad_spatial(ones, pads, 1), difference(full, pads)
        counted = windows(pad_spatial(ones, rest), self.kernel, self.stride, self.dilation)
        counted = counted[(slice(None), slice(None), *(slice(0, size) for size in total.shape[2:]))]
        return like(total / counted.sum(axis=self.taps), x)

    @runs_in_float32(DType.bfloat16, DType.float64)
    def lower(self, cx: Emitter, node: Node, x: str) -> str:
        input = node.inputs[0].type
        padded = any(p != (0, 0) for p in self.padding)
        # What ceil_mode adds to the count differs between runtimes and from PyTorch's: left to the general form.
        if not self.fits or (cx.opset < 19 and self._dilated) or (self.ceil and self.count_include_pad and padded):
            return self._general(cx, input, x)
        include = self.count_include_pad and not self.ceil
        attributes = self.onnx(input)
        if not self._dilated:
            del attributes["dilations"]
        return cx.emit("AveragePool", x, **attributes, count_include_pad=int(include))

    @property
    def _dilated(self) -> bool:
        return any(d > 1 for d in self.dilation)

    def _general(self, cx: Emitter, input: TensorType, x: str) -> str:
        """The mean over windows of an explicitly padded tensor, divided by the share of the window that counts."""
        pads, full = self.frame(input)
        y = self._mean(cx, padded_type(input, full), emit_spatial_pad(cx, x, input, full, 0))
        if self.count_include_pad and full == pads:
            return y
        inside = input.with_shape((1, 1, *input.shape[2:]))
        rest = full
        if self.count_include_pad:
            inside, rest = padded_type(inside, pads), difference(full, pads)
        ones = cx.emit("Expand", cx.scalar(1, input.dtype), cx.shape(inside.shape))
        share = self._mean(cx, padded_type(inside, rest), emit_spatial_pad(cx, ones, inside, rest, 0))
        return cx.emit("Div", y, share)

    def _mean(self, cx: Emitter, input: TensorType, x: str) -> str:
        window = onnx_window(self.kernel, self.stride, no_pads(self.kernel), self.dilation)
        if not self._dilated:
            del window["dilations"]
            return cx.emit("AveragePool", x, **window)
        # AveragePool had no dilations before opset 19, and ONNX Runtime moves a Pad before it into its attributes even
        # where it then refuses them: a convolution of each channel by itself, with equal weights.
        lone = (input.shape[0] * input.shape[1], 1, *input.shape[2:])
        weight = cx.array(np.full((1, 1, *self.kernel), 1 / prod(self.kernel)).astype(input.dtype.numpy))
        y = cx.emit("Conv", emit_reshape(cx, x, input.shape, lone), weight, **window)
        sizes = window_sizes(self.name, input, self.kernel, self.stride, no_pads(self.kernel), self.dilation)
        return emit_reshape(cx, y, (*lone[:2], *sizes), (*input.shape[:2], *sizes))

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        (x,) = node.inputs
        sizes = [dim * step for dim, step in zip(dy.shape[2:], self.stride, strict=True)]
        unpadded = not self._dilated and self.frame(x.type)[1] == no_pads(self.kernel)
        if unpadded and self.kernel == self.stride and sizes == list(x.shape[2:]):
            share = g.mul(cx, dy, 1 / prod(self.kernel))
            return (cx.emit(resize.Resize(tuple((k, 1) for k in self.kernel), (), "nearest", "asymmetric"), share),)
        for i in range(x.rank - 2):
            one = slice(i, i + 1)
            padding = self.padding if self.padding == "same" else self.padding[one]
            window = (self.kernel[one], self.stride[one], padding, self.dilation[one], self.ceil)
            matrix = AvgPoolMatrix(x.shape[2 + i], x.dtype, *window, self.count_include_pad)
            dy = transposed_along(cx, dy, 2 + i, cx.emit(matrix))
        return (dy,)


@dataclass(frozen=True)
class AvgPoolMatrix(AxisMatrix):
    """What `avg_pool` multiplies one spatial axis with, `[out, in]`: a window's share is the product of its axes'."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: SamePads
    dilation: tuple[int, ...]
    ceil: bool
    count_include_pad: bool

    name: ClassVar[str] = "avg_pool_matrix"
    reference: ClassVar[str] = "ONNX AveragePool, EyeLike"

    @property
    def operator(self) -> Primitive:
        window = (self.kernel, self.stride, self.padding, self.dilation, self.ceil)
        return AvgPool(*window, self.count_include_pad)
