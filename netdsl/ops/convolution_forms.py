"""The ONNX forms of convolutions whose weights are no constants: ONNX's own Conv and ConvTranspose, and products over
the whole batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product as positions
from math import prod

from netdsl.ir.dims import Dim, product
from netdsl.ir.opdef import Emitter
from netdsl.ir.types import TensorType
from netdsl.ops import convolution_bands
from netdsl.ops.convolution_bands import channel_major
from netdsl.ops.convolution_cost import Form, Geometry, Work, copied, mapped, products, window_attributes
from netdsl.ops.shape import emit_reshape
from netdsl.ops.spatial import emit_spatial_pad

BACKWARD = -(2**63 - 1)  #: the end of a Slice that runs to the first element


# Taps: the input under each element of the kernel ----------------------------------------------------------------


def taps_of(g: Geometry) -> Iterator[tuple[int, ...]]:
    """Every position of the kernel, row by row."""
    return positions(*map(range, g.kernel))


def emit_taps(cx: Emitter, g: Geometry, padded: str) -> list[str]:
    """For each element of the kernel the part `[…, …, *out]` of a padded tensor that lies under it."""
    if g.pointwise:
        return [padded]
    axes, steps = cx.ints(range(2, 2 + g.rank)), cx.ints(g.stride)
    parts = []
    for tap in taps_of(g):
        starts = [t * d for t, d in zip(tap, g.dilation, strict=True)]
        ends: list[Dim] = [a + (n - 1) * s + 1 for a, n, s in zip(starts, g.out, g.stride, strict=True)]
        parts.append(cx.emit("Slice", padded, cx.ints(starts), cx.shape(ends), axes, steps))
    return parts


def taps_work(g: Geometry, axis_run: int = 1) -> Work:
    """The slices of `emit_taps`."""
    numbers = g.images * g.channels * g.places
    run = axis_run if g.stride[-1] > 1 else axis_run * g.sizes(g.out)[-1]
    work = copied(g.images * g.channels * g.area, g.sizes(g.size)[-1]) if g.padded else Work()
    if not g.pointwise:
        each = copied(numbers, run)
        for _ in range(g.taps):
            work += each
    return work


# Merged: one product for all images ----------------------------------------------------------------------------


def _dense(g: Geometry) -> bool:
    return g.groups == 1


def _emit_columns(cx: Emitter, g: Geometry, x: str) -> str:
    """`[taps*C, N*places]`, taps outermost."""
    padded = emit_spatial_pad(cx, channel_major(cx, x, g.rank), _major(g), g.pads, 0)
    parts = emit_taps(cx, g, padded)
    joined = parts[0] if len(parts) == 1 else cx.emit("Concat", *parts, axis=0)
    return cx.emit("Reshape", joined, cx.ints([g.taps * g.channels, -1]))


def _major(g: Geometry) -> TensorType:
    return g.input.with_shape((g.channels, g.batch, *g.size))


def _emit_merged(cx: Emitter, g: Geometry, x: str, weight: str) -> str:
    last = [0, *range(2, 2 + g.rank), 1]
    order = weight if g.taps == 1 else cx.emit("Transpose", weight, perm=last)
    flat = cx.emit("Reshape", order, cx.ints([g.outputs, g.taps * g.channels]))
    y = cx.emit("MatMul", flat, _emit_columns(cx, g, x))
    return channel_major(cx, emit_reshape(cx, y, (), (g.outputs, g.batch, *g.out)), g.rank)


def _merged_work(g: Geometry) -> Work:
    work = copied(g.images * g.channels * g.area, g.area) + taps_work(g)
    if g.taps > 1:
        work += copied(g.images * g.channels * g.places * g.taps, g.places)
        work += copied(g.outputs * g.channels * g.taps, 1)
    work += products(g.outputs, g.images * g.places, g.channels * g.taps)
    return work + copied(g.images * g.outputs * g.places, g.places) + Work(nodes=3)


# ONNX's own ----------------------------------------------------------------------------------------------------


def _emit_native(cx: Emitter, g: Geometry, x: str, weight: str) -> str:
    if g.fixed_pads is None:
        x = emit_spatial_pad(cx, x, g.input, g.pads, 0)
        g = replace(g, pads=((0, 0),) * g.rank)
    return cx.emit("Conv", x, weight, **window_attributes(g))


def _native_work(g: Geometry) -> Work:
    calls = g.images * g.groups
    k = g.inputs_per_group * g.taps
    columns = 0 if g.pointwise else calls * k * g.places
    return replace(products(g.outputs_per_group, g.places, k, calls), products=0, columns=columns, calls=calls, nodes=1)


def _emit_transposed(cx: Emitter, g: Geometry, dy: str, weight: str) -> str:
    attributes = window_attributes(replace(g, pads=g.fixed_pads or ((0, 0),) * g.rank))
    if g.static:
        extra = [
            n - ((p - 1) * s + (k - 1) * d + 1 - sum(pad))
            for n, p, s, k, d, pad in zip(
                g.sizes(g.size), g.sizes(g.out), g.stride, g.kernel, g.dilation, g.fixed_pads or (), strict=True
            )
        ]
        if any(extra):
            attributes["output_padding"] = extra
        return cx.emit("ConvTranspose", dy, weight, **attributes)
    # The part that no window reaches depends on a symbol: the whole frame, then cut and padded to size.
    attributes["pads"] = [0] * (2 * g.rank)
    full = cx.emit("ConvTranspose", dy, weight, **attributes)
    frame = [(p - 1) * s + (k - 1) * d + 1 for p, s, k, d in zip(g.out, g.stride, g.kernel, g.dilation, strict=True)]
    begins = [-a for a, _ in g.pads]
    ends = [n - f - b for n, f, b in zip(g.size, frame, begins, strict=True)]
    return cx.emit("Pad", full, cx.shape([0, 0, *begins, 0, 0, *ends]), mode="constant")


def _transposed_work(g: Geometry) -> Work:
    calls = g.images * g.groups
    k = g.inputs_per_group * g.taps
    work = products(k, g.places, g.outputs_per_group, calls)
    return replace(work, products=0, columns=calls * k * g.places, calls=calls, nodes=1)


# The input's gradient as a convolution, at stride 1 ---------------------------------------------------------------


def _turns(g: Geometry) -> bool:
    """Whether the input's gradient is a convolution with the kernel turned round."""
    return set(g.stride) == {1} and g.static and (g.groups == 1 or g.depthwise) and min(_turned_pads(g)) >= 0


def _turned_pads(g: Geometry) -> list[int]:
    reach = [(k - 1) * d for k, d in zip(g.kernel, g.dilation, strict=True)]
    return [r - p for r, pair in zip(reach, g.fixed_pads or (), strict=True) for p in pair]


def _turned(g: Geometry) -> Geometry:
    pads = iter(_turned_pads(g))
    pairs = tuple((next(pads), next(pads)) for _ in g.kernel)
    return replace(g, channels=g.outputs, outputs=g.channels, size=g.out, out=g.size, pads=pairs)


def _emit_turned_weight(cx: Emitter, g: Geometry, weight: str) -> str:
    if g.taps > 1:
        axes = [a for a, k in enumerate(g.kernel, start=2) if k > 1]
        backward = cx.ints([-1] * len(axes))
        weight = cx.emit("Slice", weight, backward, cx.ints([BACKWARD] * len(axes)), cx.ints(axes), backward)
    return weight if g.depthwise else cx.emit("Transpose", weight, perm=[1, 0, *range(2, 2 + g.rank)])


def _emit_turned(cx: Emitter, g: Geometry, dy: str, weight: str) -> str:
    return _emit_native(cx, _turned(g), dy, _emit_turned_weight(cx, g, weight))


def _turning_work(g: Geometry) -> Work:
    return copied(g.outputs * g.inputs_per_group * g.taps, 1) + Work(nodes=1)


def _emit_merged_input(cx: Emitter, g: Geometry, dy: str, weight: str) -> str:
    return _emit_merged(cx, _turned(g), dy, _emit_turned_weight(cx, g, weight))


def _any(g: Geometry) -> bool:
    return True


# The weight's gradient ------------------------------------------------------------------------------------------


def _split_groups(cx: Emitter, g: Geometry, name: str, channels: int, each: int, last: tuple[Dim, ...]) -> str:
    """`[N, channels, …]` as `[N, groups, each, *last]`; without groups the axis is left out."""
    lead = (g.batch, each) if g.groups == 1 else (g.batch, g.groups, each)
    return emit_reshape(cx, name, (g.batch, channels), (*lead, *last))


def _emit_batched(cx: Emitter, g: Geometry, x: str, dy: str) -> str:
    """For each image the products of its gradient with a column matrix, summed over the images."""
    padded = emit_spatial_pad(cx, x, g.input, g.pads, 0)
    places = product(g.out)
    flat = [_split_groups(cx, g, p, g.channels, g.inputs_per_group, (places,)) for p in emit_taps(cx, g, padded)]
    axis = 2 if g.groups > 1 else 1
    columns = flat[0] if len(flat) == 1 else cx.emit("Concat", *flat, axis=axis)
    perm = [*range(axis), axis + 1, axis]
    grads = _split_groups(cx, g, dy, g.outputs, g.outputs_per_group, (places,))
    each = cx.emit("MatMul", grads, cx.emit("Transpose", columns, perm=perm))
    total = cx.emit("ReduceSum", each, cx.ints([0]), keepdims=0)
    return _unfolded(cx, g, total)


def _unfolded(cx: Emitter, g: Geometry, name: str) -> str:
    """`[(groups,) outputs, taps*inputs]`, taps outermost, as the weight's shape."""
    shape = (g.outputs, g.inputs_per_group, *g.kernel)
    if g.taps == 1 or g.inputs_per_group == 1:
        return cx.emit("Reshape", name, cx.ints(shape))
    split = cx.emit("Reshape", name, cx.ints([g.outputs, *g.kernel, g.inputs_per_group]))
    return cx.emit("Transpose", split, perm=[0, 1 + g.rank, *range(1, 1 + g.rank)])


def _batched_work(g: Geometry) -> Work:
    columns = g.taps * g.inputs_per_group
    results = g.images * g.outputs * columns
    joined = copied(g.images * g.channels * g.taps * g.places, g.places) if g.taps > 1 else Work()
    each = products(g.outputs_per_group, columns, g.places, g.images * g.groups)
    return taps_work(g) + joined + each + mapped(results) + Work(nodes=4)


def _emit_tapwise(cx: Emitter, g: Geometry, x: str, dy: str) -> str:
    """A product over all images for each element of the kernel."""
    padded = emit_spatial_pad(cx, channel_major(cx, x, g.rank), _major(g), g.pads, 0)
    grads = cx.emit("Reshape", channel_major(cx, dy, g.rank), cx.ints([g.outputs, -1]))
    parts = []
    for part in emit_taps(cx, g, padded):
        flat = cx.emit("Reshape", part, cx.ints([g.channels, -1]))
        parts.append(cx.emit("MatMul", grads, cx.emit("Transpose", flat, perm=[1, 0])))
    return _unfolded(cx, g, parts[0] if len(parts) == 1 else cx.emit("Concat", *parts, axis=1))


def _tapwise_work(g: Geometry) -> Work:
    moves = copied(g.images * g.channels * g.area, g.area) + copied(g.images * g.outputs * g.places, g.places)
    each = products(g.outputs, g.channels, g.images * g.places, g.taps)
    return moves + taps_work(g) + each + Work(nodes=2 * g.taps + 2)


def _swaps(g: Geometry) -> bool:
    return g.groups == 1 and g.fixed_pads is not None


def _emit_swapped(cx: Emitter, g: Geometry, x: str, dy: str) -> str:
    """A convolution of the input with the result's gradient, images as channels: stride and dilation change places."""
    pads = g.fixed_pads
    assert pads is not None
    y = cx.emit(
        "Conv",
        channel_major(cx, x, g.rank),
        channel_major(cx, dy, g.rank),
        pads=[a for a, _ in pads] + [b for _, b in pads],
        strides=list(g.dilation),
        dilations=list(g.stride),
    )
    axes = range(2, 2 + g.rank)
    cut = cx.emit("Slice", y, cx.ints([0] * g.rank), cx.ints(g.kernel), cx.ints(axes))
    return cx.emit("Transpose", cut, perm=[1, 0, *axes])


def _swapped_work(g: Geometry) -> Work:
    moves = copied(g.images * g.channels * g.area, g.area) + copied(g.images * g.outputs * g.places, g.places)
    k = g.images * g.places
    each = products(g.outputs, g.taps, k, g.channels)
    return moves + replace(each, columns=g.channels * k * g.taps, products=0, calls=g.channels) + Work(nodes=3)


def weight_size(g: Geometry) -> int:
    """Numbers of the weight."""
    return prod((g.outputs, g.inputs_per_group, *g.kernel))


def _small(g: Geometry) -> bool:
    """Whether column matrices of the whole batch stay within half a gigabyte."""
    return g.images * g.channels * g.taps * g.places <= 1 << 27


FORWARD = (
    Form("native", _any, _native_work, _emit_native),
    Form("merged", lambda g: _dense(g) and _small(g), _merged_work, _emit_merged),
    *convolution_bands.FORWARD,
)
INPUT = (
    Form("native", _any, _transposed_work, _emit_transposed),
    Form("turned", _turns, lambda g: _native_work(_turned(g)) + _turning_work(g), _emit_turned),
    Form(
        "merged",
        lambda g: _dense(g) and _turns(g) and _small(g),
        lambda g: _merged_work(_turned(g)) + _turning_work(g),
        _emit_merged_input,
    ),
    *convolution_bands.INPUT,
)
WEIGHT = (
    Form("tapwise", _dense, _tapwise_work, _emit_tapwise),
    Form("batched", _any, _batched_work, _emit_batched),
    Form("swapped", _swaps, _swapped_work, _emit_swapped),
    *convolution_bands.WEIGHT,
)
