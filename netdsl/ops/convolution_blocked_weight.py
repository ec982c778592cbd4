"""The gradient of a convolution for its weight as a convolution in ONNX Runtime's own layout.

As the form "wide": a picture whose channels are the images, its last axis the input's width and channels, with the
result's gradient as the kernel. Here a picture holds a block of the channels, so that its rows are those of the input
in blocks; there are as many pictures as blocks. The images come in blocks too, of which zeros fill up the last.
"""

from __future__ import annotations

from netdsl.ir.dims import Dim, product
from netdsl.ir.opdef import Emitter
from netdsl.ops.convolution_blocked import DOMAIN, KEPT, KERNELS, emit_blocked, has_blocks, kept_or_again
from netdsl.ops.convolution_cost import Form, Geometry, Work, copied
from netdsl.ops.convolution_weight_pictures import ends_of
from netdsl.ops.shape import emit_reshape


def _applies(g: Geometry) -> bool:
    """Where channels are full blocks."""
    plain = g.groups == 1 and g.static and set(g.dilation) == {1}
    return plain and has_blocks(g) and g.channels % g.block == 0 and g.outputs % g.block == 0


def _images(g: Geometry) -> Dim:
    """With those that fill up the last block."""
    return (g.batch + (g.block - 1)) // g.block * g.block


def _padding(g: Geometry) -> list[tuple[int, int]]:
    """What makes each axis exactly as long as the windows reach; negative where a stride leaves positions."""
    return [(begin, end) for (begin, _), end in zip(g.fixed_pads or (), ends_of(g), strict=True)]


def _framed(g: Geometry) -> tuple[int, int]:
    high, wide = (size + begin + end for size, (begin, end) in zip(g.sizes(g.size), _padding(g), strict=True))
    return high, wide


def _emit_picture(cx: Emitter, g: Geometry, x: str) -> str:
    """`[C/block, images, H, W*block]`, in blocks of images."""
    images, blocks, (high, wide) = _images(g), g.channels // g.block, _framed(g)
    (top, bottom), (left, right) = _padding(g)
    rows = emit_blocked(cx, kept_or_again(cx, g, x))
    rows = emit_reshape(cx, rows, (), (g.batch, blocks, g.size[0], g.size[1] * g.block))
    if images != g.batch or any((top, bottom, left, right)):
        pads = [0, 0, top, left * g.block, images - g.batch, 0, bottom, right * g.block]
        rows = cx.emit("Pad", rows, cx.shape(pads), cx.scalar(0, g.dtype), mode="constant")
    if blocks > 1:
        rows = cx.emit("Transpose", rows, perm=[1, 0, 2, 3])
    return emit_blocked(cx, emit_reshape(cx, rows, (), (blocks, images, high, wide * g.block)))


def _emit_kernel(cx: Emitter, g: Geometry, dy: str) -> str:
    """`[O/block, images/block, places, block of images, block of O]`, from what the input's gradient reads."""
    blocked = emit_reshape(cx, emit_blocked(cx, dy), (), (g.batch, g.outputs // g.block, product(g.out), g.block))
    fill = _images(g) - g.batch

    def whole() -> list[str]:
        return [_emit_order(cx, g, blocked)]

    def filled() -> list[str]:
        pads = cx.shape([0, 0, 0, 0, fill, 0, 0, 0])
        return [_emit_order(cx, g, cx.emit("Pad", blocked, pads, cx.scalar(0, g.dtype), mode="constant"))]

    if isinstance(fill, int):
        (order,) = filled() if fill else whole()
    else:  # whole blocks, as most batches are, are not copied once more
        full = cx.emit("Equal", cx.shape([fill]), cx.ints([0]))
        branches = {"then_branch": cx.subgraph(0, whole), "else_branch": cx.subgraph(0, filled)}
        order = cx.emit("If", full, **branches)
    return emit_reshape(cx, order, (), (g.outputs, _images(g), *g.out))


def _emit_order(cx: Emitter, g: Geometry, rows: str) -> str:
    """`[images, O/block, places, block]` in the order of a kernel."""
    split = cx.emit("Reshape", rows, cx.ints([-1, g.block, g.outputs // g.block, g.places, g.block]))
    return cx.emit("Transpose", split, perm=[2, 0, 3, 1, 4])


def _emit_weight(cx: Emitter, g: Geometry, x: str, dy: str) -> str:
    dilations = [g.stride[0], g.stride[1] * g.block]
    kernel, shape = _emit_kernel(cx, g, dy), cx.ints([g.outputs, g.channels, *g.kernel])
    sums = cx.emit(f"{DOMAIN}::Conv", _emit_picture(cx, g, x), kernel, kernel_shape=g.sizes(g.out), dilations=dilations)
    plain = cx.emit(f"{DOMAIN}::ReorderOutput", sums, channels=g.outputs)
    # One axis at a time: ONNX Runtime has a fast way for that, and goes number by number where two axes move.
    split = cx.emit("Reshape", plain, cx.ints([-1, g.taps, g.block]))
    split = cx.emit("Reshape", cx.emit("Transpose", split, perm=[0, 2, 1]), cx.ints([-1, g.outputs, g.block * g.taps]))
    return cx.emit("Reshape", cx.emit("Transpose", split, perm=[1, 0, 2]), shape)


def _weight_work(g: Geometry) -> Work:
    """The result's gradient comes in blocks anyway, for the input's."""
    images, (high, wide) = -(-g.images // g.block) * g.block, _framed(g)
    picture, kernel = images * g.channels * high * wide, images * g.outputs * g.places
    moves = copied(picture, wide * g.block) + copied(kernel, g.block)
    if g.channels > g.block:
        moves += copied(picture, high * wide * g.block)
    moves += copied(g.outputs * g.channels * g.taps, 2)
    again = g.images * g.channels * g.area > KEPT
    moves += Work(reordered=picture * (1 + again) + g.outputs * g.channels * g.taps, nodes=10)
    blocks = min(g.outputs // g.block, KERNELS)  # of few outputs the sums wait for each other
    flops = 2.0 * kernel * g.channels * g.taps * 0.85 * (1 + 1 / blocks**2)
    parts = g.channels // g.block * g.kernel[0] * -(-g.outputs // (g.block * KERNELS))
    alone = flops / parts * (parts % 2)  # an odd part is one thread's
    return moves + Work(flops=flops - alone, alone=alone)


WEIGHT = (Form("blocked", _applies, _weight_work, _emit_weight),)
