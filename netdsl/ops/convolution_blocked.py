"""Convolutions in the layout that ONNX Runtime computes in on a CPU: channels in blocks, `[N, C/block, H, W, block]`.

ONNX Runtime brings a convolution into it by itself where the weight is a constant, by operators of its own
(`com.microsoft.nchwc`). A weight that is trained is an input, and such a convolution stays a product with a column
matrix for each image. These forms write what ONNX Runtime would have written. They are no standard ONNX, so they are
taken only for a session that netdsl opens itself, on a runtime that has them (`Target.block`): no file holds them.

The layout keeps the shape `[N, C, H, W]`, with C a multiple of the block; numbers that fill up a block are zeros.
"""

from __future__ import annotations

from netdsl.ir.dims import product
from netdsl.ir.opdef import Emitter
from netdsl.ir.types import DType
from netdsl.ops.convolution_cost import HELD, Form, Geometry, Work, copied, window_attributes
from netdsl.ops.convolution_turned import emit_turned_weight, turned, turning_work, turns
from netdsl.ops.shape import emit_reshape

DOMAIN = "com.microsoft.nchwc"
UNIT = 4  #: channels that the operators go by
KEPT = 1 << 20  #: numbers of an input that are kept from the forward for the backward
KERNELS = 4  #: blocks of outputs that they compute at a time


def has_blocks(g: Geometry) -> bool:
    """Whether there are operators of the layout for it: for pictures in float32."""
    return g.block > 0 and g.rank == 2 and g.dtype is DType.float32


def _applies(g: Geometry) -> bool:
    """Where channels are full units. Fewer input channels than a block are read as they are."""
    if not has_blocks(g) or g.fixed_pads is None or g.outputs % UNIT:
        return False
    return g.depthwise or (g.groups == 1 and (g.channels < g.block or g.channels % UNIT == 0))


def _filled(g: Geometry, channels: int) -> int:
    return -(-channels // g.block) * g.block


def _reads_plain(g: Geometry) -> bool:
    return not g.depthwise and g.channels < g.block


def emit_blocked(cx: Emitter, x: str) -> str:
    """A picture, or what looks like one, in blocks of its second axis."""
    return cx.emit(f"{DOMAIN}::ReorderInput", x)


def kept_or_again(cx: Emitter, g: Geometry, x: str) -> str:
    """The input, for the backward. That in blocks is kept since the forward unless it is large: then this is another
    tensor with the same numbers, so that its node is not there already."""
    kept = g.images * g.channels * g.area <= KEPT
    return x if kept else emit_reshape(cx, x, (), (g.batch, g.channels, 1, product(g.size)))


def last_applies(g: Geometry) -> bool:
    """Whether `emit_last` can take the input."""
    return has_blocks(g) and g.channels % UNIT == 0


def last_work(g: Geometry) -> Work:
    """What `emit_last` does besides the forward's own work."""
    return Work(reordered=g.images * g.channels * g.area * (1 if g.channels == g.block else 2), nodes=2)


def emit_last(cx: Emitter, g: Geometry, x: str) -> str:
    """The input's channels as its last axis, `[N, *size, C]`: into blocks and out of them again. Where a block has all
    channels, they are last in it already."""
    blocked = emit_blocked(cx, kept_or_again(cx, g, x))
    if g.channels != g.block:
        blocked = cx.emit(f"{DOMAIN}::ReorderOutput", blocked, channels=g.channels, channels_last=1)
    return emit_reshape(cx, blocked, (), (g.batch, *g.size, g.channels))


def _emit_weight(cx: Emitter, g: Geometry, weight: str) -> str:
    """The weight in blocks of outputs, and of inputs where those come in blocks:
    `[O/block, C/block, taps, block of C, block of O]`."""
    inputs = g.inputs_per_group
    flat = cx.emit("Reshape", weight, cx.ints([1, g.outputs, inputs, g.taps]))
    outputs = _filled(g, g.outputs)
    shape = cx.ints([outputs, -1, *g.kernel])
    if g.depthwise or _reads_plain(g):
        return cx.emit("Reshape", emit_blocked(cx, flat), shape)
    if inputs % g.block:
        rest = cx.ints([0, 0, 0, 0, 0, 0, _filled(g, inputs) - inputs, 0])
        flat = cx.emit("Pad", flat, rest, cx.scalar(0, g.dtype), mode="constant")
    blocks = cx.ints([outputs // g.block, -1, g.block, g.taps, g.block])
    split = cx.emit("Reshape", emit_blocked(cx, flat), blocks)
    return cx.emit("Reshape", cx.emit("Transpose", split, perm=[0, 1, 3, 2, 4]), shape)


def _emit_forward(cx: Emitter, g: Geometry, x: str, weight: str) -> str:
    picture = x if _reads_plain(g) else emit_blocked(cx, x)
    attributes = window_attributes(g)
    if g.depthwise:
        attributes["group"] = _filled(g, g.channels)
    y = cx.emit(f"{DOMAIN}::Conv", picture, _emit_weight(cx, g, weight), **attributes)
    return cx.emit(f"{DOMAIN}::ReorderOutput", y, channels=g.outputs)


def _weight_work(g: Geometry) -> Work:
    """What a cache does not hold is written and read again in each part, and for each image."""
    numbers = g.outputs * g.inputs_per_group * g.taps
    if g.depthwise or _reads_plain(g):
        return Work(reordered=numbers, nodes=1)
    far = numbers > HELD
    return Work(reordered=numbers * (1 + far), fetched=g.images * numbers * far, nodes=1) + copied(numbers, g.block)


def _forward_work(g: Geometry) -> Work:
    outputs = g.images * g.places * _filled(g, g.outputs)
    moves = Work(reordered=g.images * g.outputs * g.places, nodes=2) + _weight_work(g)
    if not _reads_plain(g):
        moves += Work(reordered=g.images * g.channels * g.area, nodes=1)
    if g.depthwise:
        return moves + Work(sliding=outputs * g.taps)
    inputs = g.channels if _reads_plain(g) else _filled(g, g.channels)
    kernels = min(_filled(g, g.outputs) // g.block, KERNELS)  # each reading of the input serves so many
    return moves + Work(flops=2.0 * outputs * inputs * g.taps * (1 + 0.25 / kernels))


FORWARD = (Form("blocked", _applies, _forward_work, _emit_forward),)
INPUT = (
    Form(
        "blocked",
        lambda g: turns(g) and _applies(turned(g)),
        lambda g: _forward_work(turned(g)) + turning_work(g),
        lambda cx, g, dy, weight: _emit_forward(cx, turned(g), dy, emit_turned_weight(cx, g, weight)),
    ),
)
