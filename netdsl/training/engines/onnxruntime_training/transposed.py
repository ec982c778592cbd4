"""Convolutions of this engine: `conv` with explicit pads, and by it `conv_transpose`, which has no gradient."""

from __future__ import annotations

from math import prod

import numpy as np

from netdsl.ir.dims import Dim
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import GradientContext
from netdsl.ir.types import DType
from netdsl.ops import gradient_tools as g
from netdsl.ops.convolution import Conv
from netdsl.ops.gather import Gather
from netdsl.ops.indexing import Slice
from netdsl.ops.joining import Concat
from netdsl.ops.transposed import ConvTranspose
from netdsl.training.engines.onnxruntime_training.operators import EngineConv


def conv(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    op = node.op
    assert isinstance(op, Conv)
    return (cx.emit(EngineConv(op.stride, op.padding, op.dilation, op.groups), *node.inputs),)


def conv_transpose(cx: GradientContext, node: Node) -> tuple[Value, ...]:
    """A product with the kernel and a rearrangement where windows do not meet; else zeros between the positions, and a
    convolution with the mirrored kernel."""
    op, (x, weight, *bias) = node.op, node.inputs
    assert isinstance(op, ConvTranspose)
    kernel = tuple(int(k) for k in weight.shape[2:] if isinstance(k, int))
    apart = kernel == op.stride and set(op.dilation) == {1} and op.groups == 1
    if apart and not any(map(any, op.padding)) and not any(op.output_padding):
        y = _blocks(cx, x, weight, kernel, node.output.shape)
    else:
        y = _spread_out(cx, op, x, weight, kernel)
    if bias:
        y = g.add(cx, y, g.reshape(cx, bias[0], (bias[0].shape[0], *[1] * len(kernel))))
    return (y,)


def _blocks(cx: GradientContext, x: Value, weight: Value, kernel: tuple[int, ...], after: tuple[Dim, ...]) -> Value:
    """Every position becomes a block of its own."""
    rank, channels = len(kernel), weight.shape[1]
    rows = g.transpose(cx, g.reshape(cx, weight, (weight.shape[0], channels * prod(kernel))), (1, 0))
    point = g.reshape(cx, rows, (*rows.shape, *[1] * rank))
    ones = (1,) * rank
    y = cx.emit(EngineConv(ones, ((0, 0),) * rank, ones), x, point)
    cut = g.reshape(cx, y, (x.shape[0], channels, *kernel, *x.shape[2:]))
    order = [0, 1, *(a for i in range(rank) for a in (2 + rank + i, 2 + i))]
    return g.reshape(cx, g.transpose(cx, cut, order), after)


def _spread_out(cx: GradientContext, op: ConvTranspose, x: Value, weight: Value, kernel: tuple[int, ...]) -> Value:
    pads = []
    for i, step in enumerate(op.stride):
        reach = op.dilation[i] * (kernel[i] - 1)
        begin, end = op.padding[i]
        x = _zeros_between(cx, x, 2 + i, step)
        before, after = reach - begin, reach - end + op.output_padding[i] - (step - 1)
        x = _cut(cx, x, 2 + i, max(-before, 0), max(-after, 0))
        pads.append((max(before, 0), max(after, 0)))
    ones = (1,) * len(kernel)
    return cx.emit(EngineConv(ones, tuple(pads), op.dilation, op.groups), x, _mirrored(cx, weight, kernel, op.groups))


def _zeros_between(cx: GradientContext, x: Value, axis: int, step: int) -> Value:
    """`step - 1` zeros after every position of an axis."""
    if step == 1:
        return x
    apart = g.unsqueeze(cx, x, (axis + 1,))
    gap = (*apart.shape[: axis + 1], step - 1, *apart.shape[axis + 2 :])
    zeros = g.expand_to(cx, cx.constant(0, x.dtype), gap)
    joined = cx.emit(Concat(axis + 1), apart, zeros)
    return g.reshape(cx, joined, (*x.shape[:axis], x.shape[axis] * step, *x.shape[axis + 1 :]))


def _cut(cx: GradientContext, x: Value, axis: int, begin: int, end: int) -> Value:
    if not begin and not end:
        return x
    return cx.emit(Slice((begin,), (x.shape[axis] - end,), (axis,), (1,)), x)


def _mirrored(cx: GradientContext, weight: Value, kernel: tuple[int, ...], groups: int) -> Value:
    """`[C, O/groups, …]` as the kernel `[O, C/groups, …]` of the convolution that it is the transpose of."""
    inputs, outputs = weight.shape[0], weight.shape[1]
    assert isinstance(inputs, int)
    grouped = g.reshape(cx, weight, (groups, inputs // groups, outputs, *kernel))
    turned = g.transpose(cx, grouped, (0, 2, 1, *range(3, grouped.rank)))
    flat = g.reshape(cx, turned, (outputs * groups, inputs // groups, *kernel))
    for axis, size in enumerate(kernel, start=2):
        if size > 1:
            flat = cx.emit(Gather(axis), flat, cx.constant(np.arange(size)[::-1], DType.int64))
    return flat
