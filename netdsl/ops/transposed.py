"""Transposed convolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product as positions
from math import prod
from typing import Any, ClassVar

import numpy as np

from netdsl.ir.arguments import (
    BOOL,
    INITIALIZERS,
    PADDING,
    PER_AXIS,
    PER_AXIS_0,
    POSITIVE,
    TENSOR,
    PaddingValue,
    Pads,
    Param,
)
from netdsl.ir.dims import Dim, bounds, to_text
from netdsl.ir.graph import Node, Value
from netdsl.ir.initializer import HE_NORMAL, ZEROS, Initializer
from netdsl.ir.opdef import (
    Cost,
    Emitter,
    GradientContext,
    LayerContext,
    OpError,
    Primitive,
    ShapeError,
    require_float,
    same_dtype,
)
from netdsl.ir.reach import Axis, Reach
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops import gradient_tools as g
from netdsl.ops.convolution import Conv, biased
from netdsl.ops.convolution_cost import choose, geometry
from netdsl.ops.convolution_forms import INPUT
from netdsl.ops.convolution_gradient import ConvWeightGradient
from netdsl.ops.precision import like, runs_in_float32, wide
from netdsl.ops.spatial import axes_of, explicit_pads, input_channels, onnx_window, spatial_rank


@dataclass(frozen=True)
class ConvTranspose(Primitive):
    """Transposed convolution, the gradient of `conv` by its input: `x` `[N, C, …]`,
    `weight` `[C, channels/groups, *kernel]`, `bias` `[channels]`.

    The output is `[N, channels, …]` with sizes `(in - 1)*stride - padding + dilation*(kernel - 1) + output_padding + 1`
    (`padding` of both sides together). `padding="same"` gives exactly `in * stride` (Keras).
    """

    stride: tuple[int, ...]
    padding: Pads
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    name: ClassVar[str] = "conv_transpose"
    family: ClassVar[str] = "convolution"
    reference: ClassVar[str] = "Zeiler et al. 2010; ONNX ConvTranspose"
    signature: ClassVar[tuple[Param, ...]] = (
        Param("x", TENSOR),
        Param("channels", POSITIVE, doc="number of output channels"),
        Param("kernel", PER_AXIS),
        Param("stride", PER_AXIS, 1),
        Param("padding", PADDING, 0),
        Param("output_padding", PER_AXIS_0, 0, doc="added to the end of the output"),
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
        output_padding: int | tuple[int, ...],
        dilation: int | tuple[int, ...],
        groups: int,
        bias: bool,
        weight_init: Initializer | None,
        bias_init: Initializer | None,
    ) -> Value:
        label = cls.name
        rank = spatial_rank(label, x.type)
        require_float(label, x.type)
        inputs = input_channels(label, x.type)
        if inputs % groups or channels % groups:
            message = f"{label}: groups={groups} must divide both the {inputs} input and the {channels} output channels"
            raise OpError(message, argument="groups")
        sizes, strides = axes_of(label, kernel, rank, "kernel"), axes_of(label, stride, rank, "stride")
        dilations = axes_of(label, dilation, rank, "dilation")
        extras = axes_of(label, output_padding, rank, "output_padding")
        op = _resolved(x.type, padding, sizes, strides, extras, dilations, groups)
        op.sizes(x.type, sizes)  # refuse before a parameter is made
        fan_in = max(inputs // groups * prod(sizes) // prod(strides), 1)
        fan_out = channels // groups * prod(sizes)
        init = (weight_init or HE_NORMAL).with_fans(fan_in, fan_out)
        operands = [x, cx.parameter("weight", (inputs, channels // groups, *sizes), init, dtype=x.dtype)]
        if bias:
            bias_initializer = (bias_init or ZEROS).with_fans(fan_in, fan_out)
            operands.append(cx.parameter("bias", (channels,), bias_initializer, dtype=x.dtype))
        return cx.emit(op, *operands)

    def sizes(self, x: TensorType, kernel: Sequence[int]) -> tuple[Dim, ...]:
        """The output's spatial sizes. Raises ShapeError where the padding leaves nothing."""
        sizes = []
        for i, (size, (begin, end)) in enumerate(zip(x.shape[2:], self.padding, strict=True)):
            extent = (kernel[i] - 1) * self.dilation[i] + 1
            out = (size - 1) * self.stride[i] + extent + self.output_padding[i] - begin - end
            high = bounds(out)[1]
            if high is not None and high < 1:
                raise ShapeError(
                    f"conv_transpose: a padding of {begin} and {end} leaves {to_text(out)} of axis {i + 2} of {x}",
                    argument="padding",
                    help="use less padding",
                )
            sizes.append(out)
        return tuple(sizes)

    def infer(self, x: TensorType, weight: TensorType, bias: TensorType | None = None) -> TensorType:
        same_dtype("conv_transpose", x, weight, *([bias] if bias else []))
        if (
            spatial_rank("conv_transpose", x) != len(self.stride)
            or weight.rank != x.rank
            or x.shape[1] != weight.shape[0]
        ):
            raise ShapeError(f"conv_transpose: weight {weight} does not fit {x}")
        channels = weight.shape[1] * self.groups
        if bias and bias.shape != (channels,):
            raise ShapeError(f"conv_transpose: bias {bias} does not fit weight {weight} with {self.groups} groups")
        return x.with_shape((x.shape[0], channels, *self.sizes(x, _kernel(weight))))

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        taps = prod(_kernel(inputs[1])) * int(inputs[1].shape[1])  # type: ignore[arg-type]  # an integer, like all of a weight
        return Cost(macs=inputs[0].size * taps, other=outputs[0].size if len(inputs) > 2 else 0)

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        axes = []
        for k, s, d, (begin, _) in zip(_kernel(inputs[1]), self.stride, self.dilation, self.padding, strict=True):
            extent = (k - 1) * d + 1
            axes.append(Axis(-(-extent // s), Fraction(1, s), Fraction(begin - extent + 1, s)))
        return Reach(tuple(axes))

    def evaluate(self, x: NDArrayAny, weight: NDArrayAny, bias: NDArrayAny | None = None) -> NDArrayAny:
        kernel, groups = weight.shape[2:], self.groups
        spatial = x.shape[2:]
        frame = [
            (n - 1) * s + (k - 1) * d + 1
            for n, s, k, d in zip(spatial, self.stride, kernel, self.dilation, strict=True)
        ]
        rest = [max(o - p[1], 0) for o, p in zip(self.output_padding, self.padding, strict=True)]
        weights = wide(weight).reshape(groups, -1, *weight.shape[1:])
        grouped = wide(x).reshape(x.shape[0], groups, -1, *spatial)
        out = np.zeros(
            (x.shape[0], groups, weight.shape[1], *(f + r for f, r in zip(frame, rest, strict=True))), grouped.dtype
        )
        for tap in positions(*map(range, kernel)):
            part = np.einsum("ngi...,gio->ngo...", grouped, weights[(..., *tap)], optimize=True)
            where = (
                slice(t * d, t * d + (n - 1) * s + 1, s)
                for t, d, n, s in zip(tap, self.dilation, spatial, self.stride, strict=True)
            )
            places: Any = (..., *where)
            out[places] += part
        sizes: Any = self.sizes(TensorType(DType.float32, x.shape), kernel)
        out = out.reshape(x.shape[0], -1, *out.shape[3:])
        inside: Any = (..., *(slice(p[0], p[0] + n) for p, n in zip(self.padding, sizes, strict=True)))
        cut = out[inside]
        return like(cut if bias is None else cut + wide(bias).reshape(-1, *[1] * len(kernel)), x)

    @runs_in_float32(DType.bfloat16, DType.float64)
    def lower(self, cx: Emitter, node: Node, *inputs: str) -> str:
        x, weight, *bias = inputs
        if not cx.is_constant(weight):
            types = node.output.type, node.inputs[1].type, node.inputs[0].type
            where = geometry(*types, self.stride, self.padding, self.dilation, self.groups, cx.target)
            form = choose(INPUT, where, cx.target)
            if form.name != "native":
                return biased(cx, form.emit(cx, where, x, weight), bias, len(self.stride))
        attributes = onnx_window(_kernel(node.inputs[1].type), self.stride, self.padding, self.dilation)
        if any(self.output_padding):
            attributes["output_padding"] = list(self.output_padding)
        return cx.emit("ConvTranspose", *inputs, group=self.groups, **attributes)

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        """A convolution of the result's gradient by the same weight, and that convolution's weight gradient."""
        x, weight, *bias = node.inputs
        window = (self.stride, self.padding, self.dilation, self.groups)
        dx = cx.emit(Conv(*window), dy, weight) if cx.wants(x) else None
        dw = cx.emit(ConvWeightGradient(*window, _kernel(weight.type)), dy, x) if cx.wants(weight) else None
        return dx, dw, *(g.total(cx, dy, [0, *range(2, x.rank)]) if cx.wants(b) else None for b in bias)


def _kernel(weight: TensorType) -> tuple[int, ...]:
    return tuple(int(k) for k in weight.shape[2:])  # type: ignore[arg-type]  # parameters' shapes are integers


def _resolved(
    x: TensorType,
    padding: PaddingValue,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    extra: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> ConvTranspose:
    """The operator with explicit padding. Raises OpError."""
    if padding == "same":
        if any(extra):
            raise OpError(
                'conv_transpose: padding="same" gives in * stride and takes no output_padding',
                argument="output_padding",
                help="leave output_padding out, or give the padding in numbers",
            )
        surplus = [(k - 1) * d + 1 - s for k, s, d in zip(kernel, stride, dilation, strict=True)]
        pads = tuple((max(a, 0) // 2, max(a, 0) - max(a, 0) // 2) for a in surplus)
        return ConvTranspose(stride, pads, tuple(max(-a, 0) for a in surplus), dilation, groups)
    given = explicit_pads("conv_transpose", padding, x, kernel, stride, dilation)
    assert given != "same"
    # Padding cuts from the end what output_padding adds to it, so only the rest of one of them remains.
    pads = tuple((begin, max(end - o, 0)) for (begin, end), o in zip(given, extra, strict=True))
    extra = tuple(max(o - end, 0) for (_, end), o in zip(given, extra, strict=True))
    for i, (o, s) in enumerate(zip(extra, stride, strict=True)):
        if o >= s:
            raise OpError(
                f"conv_transpose: output_padding of spatial axis {i} must be smaller than padding and stride together, "
                f"{given[i][1] + s}",
                argument="output_padding",
                help="pad the result instead: pad(x, padding)",
            )
    return ConvTranspose(stride, pads, extra, dilation, groups)
