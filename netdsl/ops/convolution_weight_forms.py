"""The ONNX forms of a convolution's gradient for its weight: products of the result's gradient with the parts of the
input under each element of the kernel, over all positions and images."""

from __future__ import annotations

from itertools import product as positions

from netdsl.ir.dims import Dim, product
from netdsl.ir.opdef import Emitter
from netdsl.ops import (
    convolution_bands,
    convolution_blocked_weight,
    convolution_columns,
    convolution_tiles,
    convolution_weight_pictures,
    convolution_winograd,
)
from netdsl.ops.convolution_bands import channel_major, gradient_rows
from netdsl.ops.convolution_cost import Form, Geometry, Work, copied, mapped, pairs, products
from netdsl.ops.convolution_forms import emit_taps, major, taps_work
from netdsl.ops.convolution_weight_pictures import channels_last, emit_unfolded, unfolding_work
from netdsl.ops.shape import emit_reshape
from netdsl.ops.spatial import emit_spatial_pad


def _dense(g: Geometry) -> bool:
    return g.groups == 1


def _any(g: Geometry) -> bool:
    return True


def _split_groups(cx: Emitter, g: Geometry, name: str, channels: int, each: int, last: tuple[Dim, ...]) -> str:
    """`[N, channels, …]` as `[N, groups, each, *last]`; without groups the axis is left out."""
    lead = (g.batch, each) if g.groups == 1 else (g.batch, g.groups, each)
    return emit_reshape(cx, name, (g.batch, channels), (*lead, *last))


def _image_columns(cx: Emitter, g: Geometry, x: str) -> str:
    """`[N, (groups,) taps*inputs, places]`, taps outermost."""
    padded = emit_spatial_pad(cx, x, g.input, g.pads, 0)
    last = (product(g.out),)
    flat = [_split_groups(cx, g, p, g.channels, g.inputs_per_group, last) for p in emit_taps(cx, g, padded)]
    return flat[0] if len(flat) == 1 else cx.emit("Concat", *flat, axis=2 if g.groups > 1 else 1)


def _image_gradients(cx: Emitter, g: Geometry, dy: str) -> str:
    """`[N, (groups,) outputs, places]`."""
    return _split_groups(cx, g, dy, g.outputs, g.outputs_per_group, (product(g.out),))


def _emit_batched(cx: Emitter, g: Geometry, x: str, dy: str) -> str:
    """For each image the products of its gradient with a column matrix, summed over the images."""
    perm = [0, 1, 3, 2] if g.groups > 1 else [0, 2, 1]
    columns = cx.emit("Transpose", _image_columns(cx, g, x), perm=perm)
    each = cx.emit("MatMul", _image_gradients(cx, g, dy), columns)
    return emit_unfolded(cx, g, cx.emit("ReduceSum", each, cx.ints([0]), keepdims=0))


def _emit_batched_left(cx: Emitter, g: Geometry, x: str, dy: str) -> str:
    """As `batched`, the column matrix the left operand: for fewer outputs than columns, as a product copies its right
    operand."""
    grads = cx.emit("Transpose", _image_gradients(cx, g, dy), perm=[0, 2, 1])
    each = cx.emit("MatMul", _image_columns(cx, g, x), grads)
    total = cx.emit("ReduceSum", each, cx.ints([0]), keepdims=0)
    return emit_unfolded(cx, g, cx.emit("Transpose", total, perm=[1, 0]))


def _batched_work(g: Geometry) -> Work:
    each = pairs(g.outputs_per_group, g.taps * g.inputs_per_group, g.places, g.images * g.groups)
    return each + _batched_moves(g)


def _batched_left_work(g: Geometry) -> Work:
    each = pairs(g.taps * g.channels, g.outputs, g.places, g.images)
    return each + _batched_moves(g) + copied(g.taps * g.channels * g.outputs, 2)


def _batched_moves(g: Geometry) -> Work:
    joined = copied(g.images * g.channels * g.taps * g.places, g.places) if g.taps > 1 else Work()
    results = mapped(g.images * g.outputs * g.taps * g.inputs_per_group)
    return taps_work(g) + joined + results + unfolding_work(g) + Work(nodes=4)


def _emit_tapwise(cx: Emitter, g: Geometry, x: str, dy: str) -> str:
    """A product over all images for each element of the kernel."""
    padded = emit_spatial_pad(cx, channel_major(cx, x, g.rank), major(g), g.pads, 0)
    grads = gradient_rows(cx, g, dy)
    parts = []
    for part in emit_taps(cx, g, padded):
        flat = cx.emit("Reshape", part, cx.ints([g.channels, -1]))
        parts.append(cx.emit("MatMul", grads, cx.emit("Transpose", flat, perm=[1, 0])))
    return emit_unfolded(cx, g, parts[0] if len(parts) == 1 else cx.emit("Concat", *parts, axis=1))


def _tapwise_work(g: Geometry) -> Work:
    moves = copied(g.images * g.channels * g.area, g.area) + copied(g.images * g.outputs * g.places, g.places)
    each = pairs(g.outputs, g.channels, g.images * g.places, g.taps)
    return moves + taps_work(g) + each + unfolding_work(g) + Work(nodes=2 * g.taps + 2)


# Channels last: the parts under the kernel are long runs ---------------------------------------------------------


def _last(cx: Emitter, g: Geometry, x: str) -> str:
    """`[N, *padded size, C]`."""
    turned = channels_last(cx, g, x)
    if not g.padded:
        return turned
    pads = cx.shape([0, *(a for a, _ in g.pads), 0, 0, *(b for _, b in g.pads), 0])
    return cx.emit("Pad", turned, pads, cx.scalar(0, g.dtype), mode="constant")


def _slice(cx: Emitter, g: Geometry, name: str, axes: range, tap: tuple[int, ...]) -> str:
    """The part under a tap along some of the axes, which count from 1."""
    starts = [t * g.dilation[a - 1] for a, t in zip(axes, tap, strict=True)]
    ends: list[Dim] = [s + (g.out[a - 1] - 1) * g.stride[a - 1] + 1 for a, s in zip(axes, starts, strict=True)]
    steps = cx.ints([g.stride[a - 1] for a in axes])
    return cx.emit("Slice", name, cx.ints(starts), cx.shape(ends), cx.ints(axes), steps)


def _emit_last(cx: Emitter, g: Geometry, x: str, dy: str) -> str:
    grads, last = gradient_rows(cx, g, dy), _last(cx, g, x)
    parts = []
    for tap in positions(*map(range, g.kernel)):
        part = last if g.pointwise else _slice(cx, g, last, range(1, 1 + g.rank), tap)
        parts.append(cx.emit("MatMul", grads, cx.emit("Reshape", part, cx.ints([-1, g.channels]))))
    return emit_unfolded(cx, g, parts[0] if len(parts) == 1 else cx.emit("Concat", *parts, axis=1))


def _last_moves(g: Geometry) -> Work:
    numbers = g.images * g.channels * g.area
    work = copied(numbers, 4) + copied(g.images * g.outputs * g.places, g.places) + unfolding_work(g) + Work(nodes=2)
    return work + copied(numbers, g.channels * g.sizes(g.size)[-1]) if g.padded else work


def _last_work(g: Geometry) -> Work:
    run = g.channels * (g.sizes(g.out)[-1] if g.stride[-1] == 1 else 1)
    work = _last_moves(g) + products(g.outputs, g.channels, g.images * g.places, g.taps) + Work(nodes=g.taps)
    for _ in range(0 if g.pointwise else g.taps):
        work += copied(g.images * g.channels * g.places, run)
    return work


def _emit_joined(cx: Emitter, g: Geometry, x: str, dy: str) -> str:
    """As `last`, with the taps of the last axis side by side: for few channels."""
    grads, last = gradient_rows(cx, g, dy), _last(cx, g, x)
    across = [_slice(cx, g, last, range(g.rank, g.rank + 1), (tap,)) for tap in range(g.kernel[-1])]
    wide = cx.emit("Concat", *across, axis=1 + g.rank)
    parts = []
    for tap in positions(*map(range, g.kernel[:-1])):
        part = _slice(cx, g, wide, range(1, g.rank), tap) if tap else wide
        rows = cx.emit("Reshape", part, cx.ints([-1, g.kernel[-1] * g.channels]))
        parts.append(cx.emit("MatMul", grads, rows))
    return emit_unfolded(cx, g, parts[0] if len(parts) == 1 else cx.emit("Concat", *parts, axis=1))


def _joined_work(g: Geometry) -> Work:
    last, rows = g.kernel[-1], g.taps // g.kernel[-1]
    tall = g.images * g.channels * g.area * g.sizes(g.out)[-1] // max(g.sizes(g.size)[-1], 1)
    run = g.channels * (g.sizes(g.out)[-1] if g.stride[-1] == 1 else 1)
    work = _last_moves(g) + products(g.outputs, g.channels * last, g.images * g.places, rows)
    for _ in range(last):
        work += copied(tall, run) + copied(tall, g.channels)
    for _ in range(rows if rows > 1 else 0):
        work += copied(g.images * g.channels * g.places * last, g.channels * last * g.sizes(g.out)[-1])
    return work + Work(nodes=rows)


WEIGHT = (
    Form("last", _dense, _last_work, _emit_last),
    Form("batched", _any, _batched_work, _emit_batched),
    Form("batched_left", _dense, _batched_left_work, _emit_batched_left),
    Form("tapwise", _dense, _tapwise_work, _emit_tapwise),
    Form("joined", lambda g: g.groups == 1 and g.kernel[-1] > 1, _joined_work, _emit_joined),
    *convolution_weight_pictures.WEIGHT,
    *convolution_bands.WEIGHT,
    *convolution_columns.WEIGHT,
    *convolution_winograd.WEIGHT,
    *convolution_tiles.WEIGHT,
    *convolution_blocked_weight.WEIGHT,
)
