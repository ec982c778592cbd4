"""Pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar, Self

import numpy as np

from netdsl.ir.arguments import BOOL, PADDING, PER_AXIS, TENSOR, PaddingValue, Pads, Param
from netdsl.ir.dims import Dim, dim_max
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Cost, Emitter, LayerContext, OpError, Primitive, ShapeError, require_float
from netdsl.ir.reach import Reach
from netdsl.ir.types import DType, NDArrayAny, TensorType, dtype_of
from netdsl.ops.precision import like, runs_in_float32, wide
from netdsl.ops.shape import emit_reshape
from netdsl.ops.spatial import (
    SamePads,
    axes_of,
    emit_spatial_pad,
    explicit_pads,
    onnx_window,
    pad_spatial,
    padded_type,
    same_amounts,
    spatial_rank,
    window_reach,
    window_sizes,
    windows,
)

WINDOW = (
    Param("x", TENSOR),
    Param("kernel", PER_AXIS),
    Param("stride", PER_AXIS, default_from="kernel"),
    Param("padding", PADDING, 0),
    Param("dilation", PER_AXIS, 1),
    Param("ceil", BOOL, False, doc="keep a last window that is not full"),
)


@dataclass(frozen=True)
class Pool(Primitive):
    """What pools share: a window that slides over the spatial axes of `[N, C, …]`, channel by channel."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: SamePads
    dilation: tuple[int, ...]
    ceil: bool = False

    @classmethod
    def call(
        cls,
        cx: LayerContext,
        x: Value,
        kernel: int | tuple[int, ...],
        stride: int | tuple[int, ...],
        padding: PaddingValue,
        dilation: int | tuple[int, ...],
        ceil: bool,
        **more: Any,
    ) -> Value | tuple[Value, ...]:
        outputs = cx.emit_all(cls.window(x.type, kernel, stride, padding, dilation, ceil, **more), x)
        return outputs[0] if len(outputs) == 1 else outputs

    @classmethod
    def window(
        cls,
        x: TensorType,
        kernel: int | tuple[int, ...],
        stride: int | tuple[int, ...],
        padding: PaddingValue,
        dilation: int | tuple[int, ...],
        ceil: bool,
        **more: Any,
    ) -> Self:
        """The operator for the arguments of a call. Raises OpError."""
        rank = spatial_rank(cls.name, x)
        sizes, strides = axes_of(cls.name, kernel, rank, "kernel"), axes_of(cls.name, stride, rank, "stride")
        dilations = axes_of(cls.name, dilation, rank, "dilation")
        pads = explicit_pads(cls.name, padding, x, sizes, strides, dilations)
        if pads != "same" and padding != "same":
            _check_padding(cls.name, pads, sizes, dilations)
        return cls(sizes, strides, pads, dilations, ceil and padding != "same", **more)

    def sizes(self, x: TensorType) -> tuple[Dim, ...]:
        """The output's spatial sizes."""
        return window_sizes(self.name, x, self.kernel, self.stride, self.padding, self.dilation, self.ceil)

    def infer(self, x: TensorType) -> TensorType | tuple[TensorType, ...]:
        spatial_rank(self.name, x)
        return x.with_shape((*x.shape[:2], *self.sizes(x)))

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        """A comparison or an addition for every tap but the first."""
        return Cost(other=outputs[0].size * (prod(self.kernel) - 1))

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return window_reach(self.kernel, self.stride, self.padding, self.dilation)

    def frame(self, x: TensorType) -> tuple[tuple[tuple[Dim, Dim], ...], tuple[tuple[Dim, Dim], ...]]:
        """(begin, end) per spatial axis: the padding asked for, and that which also fills the windows `ceil` adds."""
        pads: tuple[tuple[Dim, Dim], ...]
        pads = (
            same_amounts(x.shape[2:], self.kernel, self.stride, self.dilation)
            if self.padding == "same"
            else self.padding
        )
        if not self.ceil:
            return pads, pads
        full = []
        for i, size in enumerate(self.sizes(x)):
            needed = (size - 1) * self.stride[i] + (self.kernel[i] - 1) * self.dilation[i] + 1
            full.append((pads[i][0], dim_max(pads[i][1], needed - x.shape[2 + i] - pads[i][0])))
        return pads, tuple(full)

    def view(self, x: NDArrayAny, pads: Any, value: float) -> NDArrayAny:
        """Every window `[N, C, *out, *kernel]`, padding filled with `value`."""
        sizes: Any = self.sizes(TensorType(DType.float32, x.shape))
        found = windows(pad_spatial(x, pads, value), self.kernel, self.stride, self.dilation)
        return found[(slice(None), slice(None), *(slice(0, size) for size in sizes))]

    @property
    def taps(self) -> tuple[int, ...]:
        """The axes of `view` that run over a window."""
        return tuple(range(-len(self.kernel), 0))

    @property
    def fits(self) -> bool:
        """Whether the padding is known and smaller than the undilated kernel, as ONNX Runtime wants it."""
        return self.padding != "same" and all(max(p) < k for p, k in zip(self.padding, self.kernel, strict=True))

    def onnx(self, x: TensorType) -> dict[str, object]:
        """ONNX's attributes. `ceil` becomes padding where the sizes are known and the padding is below the kernel."""
        attributes = onnx_window(self.kernel, self.stride, self.padding, self.dilation)
        if self.ceil:
            full = self.frame(x)[1]
            known = all(isinstance(e, int) and e < k for (_, e), k in zip(full, self.kernel, strict=True))
            attributes["ceil_mode"] = int(not known)
            if known:
                attributes["pads"] = [p[0] for p in full] + [p[1] for p in full]
        return attributes


def _check_padding(op: str, pads: Pads, kernel: Sequence[int], dilation: Sequence[int]) -> None:
    for amount, size, step in zip(pads, kernel, dilation, strict=True):
        extent = (size - 1) * step + 1
        if max(amount) >= extent:
            raise OpError(
                f"{op}: a padding of {max(amount)} must be smaller than the kernel, {extent}: "
                "a window would hold nothing else",
                argument="padding",
                help="pad the tensor itself: pad(x, padding)",
            )


def _none(axes: Sequence[Any]) -> Pads:
    return ((0, 0),) * len(axes)


def lowest(dtype: DType) -> float:
    """What the maximum of a window starts from."""
    if dtype.is_float:
        return -np.inf
    return 0 if dtype is DType.uint8 else -128


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
        return cx.emit("MaxPool", padded, **onnx_window(self.kernel, self.stride, _none(self.kernel), self.dilation))


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
            ones, rest = pad_spatial(ones, pads, 1), _difference(full, pads)
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
            inside, rest = padded_type(inside, pads), _difference(full, pads)
        ones = cx.emit("Expand", cx.scalar(1, input.dtype), cx.shape(inside.shape))
        share = self._mean(cx, padded_type(inside, rest), emit_spatial_pad(cx, ones, inside, rest, 0))
        return cx.emit("Div", y, share)

    def _mean(self, cx: Emitter, input: TensorType, x: str) -> str:
        window = onnx_window(self.kernel, self.stride, _none(self.kernel), self.dilation)
        if not self._dilated:
            del window["dilations"]
            return cx.emit("AveragePool", x, **window)
        # AveragePool had no dilations before opset 19, and ONNX Runtime moves a Pad before it into its attributes even
        # where it then refuses them: a convolution of each channel by itself, with equal weights.
        lone = (input.shape[0] * input.shape[1], 1, *input.shape[2:])
        weight = cx.array(np.full((1, 1, *self.kernel), 1 / prod(self.kernel)).astype(input.dtype.numpy))
        y = cx.emit("Conv", emit_reshape(cx, x, input.shape, lone), weight, **window)
        sizes = window_sizes(self.name, input, self.kernel, self.stride, _none(self.kernel), self.dilation)
        return emit_reshape(cx, y, (*lone[:2], *sizes), (*input.shape[:2], *sizes))


AnyPads = Sequence[tuple[Dim, Dim]]


def _difference(full: AnyPads, pads: AnyPads) -> tuple[tuple[Dim, Dim], ...]:
    return tuple((a - c, b - d) for (a, b), (c, d) in zip(full, pads, strict=True))
