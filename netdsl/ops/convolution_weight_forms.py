"""The ONNX forms of a convolution's gradient for its weight: products of the result's gradient with the parts of the
input under each element of the kernel, over all positions and images."""

from __future__ import annotations

from dataclasses import replace
from itertools import product as positions

from netdsl.ir.dims import Dim, product
from netdsl.ir.opdef import Emitter
from netdsl.ops import convolution_bands, convolution_tiles
from netdsl.ops.convolution_bands import channel_major
from netdsl.ops.convolution_cost import Form, Geometry, Work, copied, mapped, products
from netdsl.ops.convolution_forms import emit_taps, major, taps_work, within_conv
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
    padded = emit_spatial_pad(cx, channel_major(cx, x, g.rank), major(g), g.pads, 0)
    grads = _rows_of_gradient(cx, g, dy)
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
    each = within_conv(products(g.outputs, g.taps, k, g.channels), g.outputs)
    columns = g.channels * k * g.taps
    lines = columns / max(g.kernel[-1], 1)
    return moves + replace(each, columns=columns, lines=lines, calls=g.channels) + Work(nodes=3)


# Channels within the last axis ---------------------------------------------------------------------------------


def _widens(g: Geometry) -> bool:
    return _swaps(g) and g.static and (g.dilation[-1] == 1 or g.kernel[-1] == 1)


def _emit_wide(cx: Emitter, g: Geometry, x: str, dy: str) -> str:
    """One picture, the images its channels and the channels within its last axis, is convolved with the result's
    gradient. ONNX Runtime copies what lies under the kernel into its cache alone, in runs of all channels."""
    *high, last = g.sizes(g.size)
    axes = range(2, 2 + g.rank)
    picture = cx.emit("Reshape", _channels_last(cx, g, x), cx.ints([1, -1, *high, last * g.channels]))
    pads = [(a, b) for a, b in g.fixed_pads or ()]
    pads[-1] = (pads[-1][0] * g.channels, pads[-1][1] * g.channels)
    y = cx.emit(
        "Conv",
        picture,
        channel_major(cx, dy, g.rank),
        pads=[a for a, _ in pads] + [b for _, b in pads],
        strides=[*g.dilation[:-1], 1],
        dilations=[*g.stride[:-1], g.stride[-1] * g.channels],
    )
    if _remainder(g):  # positions behind the last window's
        y = cx.emit(
            "Slice", y, cx.ints([0] * g.rank), cx.ints([*g.kernel[:-1], g.kernel[-1] * g.channels]), cx.ints(axes)
        )
    split = cx.emit("Reshape", y, cx.ints([g.outputs, *g.kernel, g.channels]))
    return cx.emit("Transpose", split, perm=[0, 1 + g.rank, *range(1, 1 + g.rank)])


def _remainder(g: Geometry) -> bool:
    """Whether a stride leaves input positions behind the last window."""
    axes = zip(g.sizes(g.size), g.sizes(g.out), g.kernel, g.stride, g.dilation, g.fixed_pads or (), strict=True)
    return any(size + sum(pad) - (k - 1) * d - 1 != (out - 1) * s for size, out, k, s, d, pad in axes)


def _wide_work(g: Geometry) -> Work:
    run = g.kernel[-1] * g.channels
    k = g.images * g.places
    columns = k * g.taps * g.channels
    moves = copied(g.images * g.channels * g.area, 1) + copied(g.images * g.outputs * g.places, g.places)
    each = within_conv(products(g.outputs, g.taps * g.channels, k), g.outputs)
    return moves + replace(each, columns=columns, lines=columns / run, calls=1) + Work(nodes=3)


# Channels last: the parts under the kernel are long runs ---------------------------------------------------------


def _channels_last(cx: Emitter, g: Geometry, x: str) -> str:
    """`[N, *size, C]`."""
    return cx.emit("Transpose", x, perm=[0, *range(2, 2 + g.rank), 1])


def _last(cx: Emitter, g: Geometry, x: str) -> str:
    """`[N, *padded size, C]`."""
    turned = _channels_last(cx, g, x)
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


def _rows_of_gradient(cx: Emitter, g: Geometry, dy: str) -> str:
    """`[O, N*places]`."""
    return cx.emit("Reshape", channel_major(cx, dy, g.rank), cx.ints([g.outputs, -1]))


def _emit_last(cx: Emitter, g: Geometry, x: str, dy: str) -> str:
    grads, last = _rows_of_gradient(cx, g, dy), _last(cx, g, x)
    parts = []
    for tap in positions(*map(range, g.kernel)):
        part = last if g.pointwise else _slice(cx, g, last, range(1, 1 + g.rank), tap)
        parts.append(cx.emit("MatMul", grads, cx.emit("Reshape", part, cx.ints([-1, g.channels]))))
    return _unfolded(cx, g, parts[0] if len(parts) == 1 else cx.emit("Concat", *parts, axis=1))


def _last_moves(g: Geometry) -> Work:
    numbers = g.images * g.channels * g.area
    work = copied(numbers, 4) + copied(g.images * g.outputs * g.places, g.places) + Work(nodes=2)
    return work + copied(numbers, g.channels * g.sizes(g.size)[-1]) if g.padded else work


def _last_work(g: Geometry) -> Work:
    run = g.channels * (g.sizes(g.out)[-1] if g.stride[-1] == 1 else 1)
    work = _last_moves(g) + products(g.outputs, g.channels, g.images * g.places, g.taps) + Work(nodes=g.taps)
    for _ in range(0 if g.pointwise else g.taps):
        work += copied(g.images * g.channels * g.places, run)
    return work


def _emit_joined(cx: Emitter, g: Geometry, x: str, dy: str) -> str:
    """As `last`, with the taps of the last axis side by side: for few channels."""
    grads, last = _rows_of_gradient(cx, g, dy), _last(cx, g, x)
    across = [_slice(cx, g, last, range(g.rank, g.rank + 1), (tap,)) for tap in range(g.kernel[-1])]
    wide = cx.emit("Concat", *across, axis=1 + g.rank)
    parts = []
    for tap in positions(*map(range, g.kernel[:-1])):
        part = _slice(cx, g, wide, range(1, g.rank), tap) if tap else wide
        rows = cx.emit("Reshape", part, cx.ints([-1, g.kernel[-1] * g.channels]))
        parts.append(cx.emit("MatMul", grads, rows))
    return _unfolded(cx, g, parts[0] if len(parts) == 1 else cx.emit("Concat", *parts, axis=1))


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
    Form("tapwise", _dense, _tapwise_work, _emit_tapwise),
    Form("joined", lambda g: g.groups == 1 and g.kernel[-1] > 1, _joined_work, _emit_joined),
    Form("swapped", _swaps, _swapped_work, _emit_swapped),
    Form("wide", _widens, _wide_work, _emit_wide),
    *convolution_bands.WEIGHT,
    *convolution_tiles.WEIGHT,
)
