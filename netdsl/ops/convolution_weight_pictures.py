"""Gradients of convolutions for their weights that are convolutions themselves: of pictures whose channels are the
images, with the result's gradient as the kernel. Stride and dilation change places.

The products' sums go over all images and positions, and ONNX Runtime makes the column matrix in its cache alone."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from netdsl.ir.opdef import Emitter
from netdsl.ops.convolution_bands import channel_major
from netdsl.ops.convolution_blocked import emit_last, last_applies, last_work
from netdsl.ops.convolution_cost import Form, Geometry, Work, copied, products
from netdsl.ops.convolution_forms import within_conv
from netdsl.ops.shape import emit_reshape


def _swaps(g: Geometry) -> bool:
    return g.groups == 1 and g.fixed_pads is not None


def ends_of(g: Geometry) -> list[int]:
    """The padding behind each axis without what lies behind the last window, and below 0 where a stride leaves input
    positions there; of symbolic sizes, all padding."""
    if not g.static:
        return [end for _, end in g.fixed_pads or ()]
    axes = zip(g.sizes(g.size), g.sizes(g.out), g.kernel, g.stride, g.dilation, g.fixed_pads or (), strict=True)
    return [(out - 1) * s + (k - 1) * d + 1 - size - begin for size, out, k, s, d, (begin, _) in axes]


def _pads(g: Geometry) -> list[tuple[int, int]]:
    return [(begin, max(end, 0)) for (begin, _), end in zip(g.fixed_pads or (), ends_of(g), strict=True)]


def _found(g: Geometry) -> list[int]:
    """The kernel's sizes and, behind its end, what the positions that a stride leaves give."""
    return [k + max(-end, 0) // d for k, d, end in zip(g.kernel, g.dilation, ends_of(g), strict=True)]


def _emit_cut(cx: Emitter, g: Geometry, name: str, first: int, last: int = 1) -> str:
    """The kernel's part of a result whose spatial axes start at `first`. `last`: numbers per position of the last."""
    if g.static and _found(g) == list(g.kernel):
        return name
    ends = [*g.kernel[:-1], g.kernel[-1] * last]
    return cx.emit("Slice", name, cx.ints([0] * g.rank), cx.ints(ends), cx.ints(range(first, first + g.rank)))


def channels_last(cx: Emitter, g: Geometry, x: str) -> str:
    """`[N, *size, C]`."""
    if last_applies(g) and cx.target.threads > 1:  # one thread is as fast with a Transpose
        return emit_last(cx, g, x)
    return cx.emit("Transpose", x, perm=[0, *range(2, 2 + g.rank), 1])


def emit_unfolded(cx: Emitter, g: Geometry, name: str) -> str:
    """`[O, *kernel, C]`, in whatever shape, in the weight's own order. The taps are one axis: ONNX Runtime has a fast
    way for one that moves by one place, and goes number by number where it passes several."""
    shape = cx.ints([g.outputs, g.inputs_per_group, *g.kernel])
    if g.taps == 1 or g.inputs_per_group == 1:
        return cx.emit("Reshape", name, shape)
    split = cx.emit("Reshape", name, cx.ints([g.outputs, g.taps, g.inputs_per_group]))
    return cx.emit("Reshape", cx.emit("Transpose", split, perm=[0, 2, 1]), shape)


def unfolding_work(g: Geometry) -> Work:
    """A weight's gradient `[O, *kernel, C]` transposed to its own order."""
    numbers = g.outputs * g.inputs_per_group * g.taps
    return Work() if g.taps == 1 or g.inputs_per_group == 1 else copied(numbers, 2)


# Channels as images ---------------------------------------------------------------------------------------------


def _emit_swapped(cx: Emitter, g: Geometry, x: str, dy: str) -> str:
    """A picture for each channel."""
    pads = _pads(g)
    y = cx.emit(
        "Conv",
        channel_major(cx, x, g.rank),
        channel_major(cx, dy, g.rank),
        pads=[a for a, _ in pads] + [b for _, b in pads],
        strides=list(g.dilation),
        dilations=list(g.stride),
    )
    return cx.emit("Transpose", _emit_cut(cx, g, y, 2), perm=[1, 0, *range(2, 2 + g.rank)])


def _swapped_work(g: Geometry) -> Work:
    moves = copied(g.images * g.channels * g.area, g.area) + copied(g.images * g.outputs * g.places, g.places)
    found, k = _found(g), g.images * g.places
    columns = g.channels * k * prod(found)
    each = within_conv(products(g.outputs, prod(found), k, g.channels), g.outputs)
    return moves + replace(each, columns=columns, lines=columns / found[-1], calls=g.channels) + Work(nodes=2)


# Channels within the last axis ----------------------------------------------------------------------------------


def _widens(g: Geometry) -> bool:
    return _swaps(g) and g.static and (g.dilation[-1] == 1 or g.kernel[-1] == 1)


def _emit_wide(cx: Emitter, g: Geometry, x: str, dy: str) -> str:
    """One picture, the channels within its last axis. ONNX Runtime copies what lies under the kernel in runs of all
    channels."""
    *high, last = g.sizes(g.size)
    picture = cx.emit("Reshape", channels_last(cx, g, x), cx.ints([1, -1, *high, last * g.channels]))
    pads = _pads(g)
    pads[-1] = (pads[-1][0] * g.channels, pads[-1][1] * g.channels)
    y = cx.emit(
        "Conv",
        picture,
        channel_major(cx, dy, g.rank),
        pads=[a for a, _ in pads] + [b for _, b in pads],
        strides=[*g.dilation[:-1], 1],
        dilations=[*g.stride[:-1], g.stride[-1] * g.channels],
    )
    return emit_unfolded(cx, g, _emit_cut(cx, g, y, 2, g.channels))


def _wide_work(g: Geometry) -> Work:
    found, k = _found(g), g.images * g.places
    columns = k * prod(found) * g.channels
    turned = last_work(g) if last_applies(g) else copied(g.images * g.channels * g.area, 1)
    moves = turned + copied(g.images * g.outputs * g.places, g.places)
    each = within_conv(products(g.outputs, prod(found) * g.channels, k), g.outputs)
    each = replace(each, columns=columns, lines=columns / (found[-1] * g.channels), calls=1)
    return moves + each + unfolding_work(g) + Work(nodes=2)


# Channels as the first axis -------------------------------------------------------------------------------------


def _stacks(g: Geometry) -> bool:
    return _swaps(g) and g.static and g.rank < 3


def _emit_volume(cx: Emitter, g: Geometry, x: str, dy: str) -> str:
    """One picture, the channels its first axis. The result is in the weight's order, so that nothing large is
    transposed, but ONNX Runtime copies what lies under the kernel number by number."""
    pads = _pads(g)
    y = cx.emit(
        "Conv",
        cx.emit("Reshape", x, cx.ints([1, -1, g.channels, *g.sizes(g.size)])),
        emit_reshape(cx, channel_major(cx, dy, g.rank), (), (g.outputs, g.batch, 1, *g.out)),
        pads=[0, *(a for a, _ in pads), 0, *(b for _, b in pads)],
        strides=[1, *g.dilation],
        dilations=[1, *g.stride],
    )
    return cx.emit("Reshape", _emit_cut(cx, g, y, 3), cx.ints([g.outputs, g.channels, *g.kernel]))


def _volume_work(g: Geometry) -> Work:
    found, k = _found(g), g.images * g.places
    columns = k * prod(found) * g.channels
    each = within_conv(products(g.outputs, prod(found) * g.channels, k), g.outputs)
    work = replace(each, columns=columns, lines=columns / 2, calls=1, nodes=1)
    return copied(g.images * g.outputs * g.places, g.places) + work


WEIGHT = (
    Form("swapped", _swaps, _swapped_work, _emit_swapped),
    Form("wide", _widens, _wide_work, _emit_wide),
    Form("volume", _stacks, _volume_work, _emit_volume),
)
