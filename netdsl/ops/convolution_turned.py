"""The input's gradient of a convolution of stride 1 as a convolution with the kernel turned round, and the reverse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from netdsl.ir.opdef import Emitter
from netdsl.ops.convolution_cost import CACHED, Geometry, Work, copied, products


def turns(g: Geometry) -> bool:
    """Whether the input's gradient is a convolution with the kernel turned round."""
    return set(g.stride) == {1} and g.static and (g.groups == 1 or g.depthwise) and min(_turned_pads(g)) >= 0


def _turned_pads(g: Geometry) -> list[int]:
    """Those of a convolution of the result's size back to the input's, whatever of it no window reaches."""
    axes = zip(g.kernel, g.dilation, g.sizes(g.size), g.sizes(g.out), g.fixed_pads or (), strict=True)
    return [p for k, d, size, out, (begin, _) in axes for p in ((k - 1) * d - begin, size - out + begin)]


def turned(g: Geometry) -> Geometry:
    """The convolution that gives the input's gradient, from the result's."""
    pads = iter(_turned_pads(g))
    pairs = tuple((next(pads), next(pads)) for _ in g.kernel)
    return replace(g, channels=g.outputs, outputs=g.channels, size=g.out, out=g.size, pads=pairs)


def emit_turned_weight(cx: Emitter, g: Geometry, weight: str) -> str:
    """The weight with its kernels turned round, for groups of one channel or one group. A product with a permutation
    turns them: ONNX Runtime's backward Slice and Gather copy number by number."""
    flat = cx.emit("Reshape", weight, cx.ints([g.outputs, g.inputs_per_group, g.taps]))
    if not g.depthwise:
        flat = cx.emit("Transpose", flat, perm=[1, 0, 2])
    if g.taps > 1:
        flat = cx.emit("MatMul", flat, cx.array(np.eye(g.taps)[::-1].astype(g.dtype.numpy)))
    lead = (g.channels, 1) if g.depthwise else (g.channels, g.outputs)
    return cx.emit("Reshape", flat, cx.ints([*lead, *g.kernel]))


def turning_work(g: Geometry) -> Work:
    """The rows of a transposed weight are short, and lie far apart where no cache holds it."""
    numbers = g.outputs * g.inputs_per_group * g.taps
    if g.taps == 1:
        return copied(numbers, 1) + Work(nodes=1)
    each = products(g.outputs * g.inputs_per_group, g.taps, g.taps)
    return each + copied(numbers * (1 if numbers <= CACHED else 3), 1) + Work(nodes=2)
