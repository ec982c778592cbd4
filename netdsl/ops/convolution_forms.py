"""The ONNX forms of convolutions whose weights are no constants: ONNX's own Conv and ConvTranspose, and products over
the whole batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product as positions

from netdsl.ir.dims import Dim
from netdsl.ir.opdef import Emitter
from netdsl.ir.types import TensorType
from netdsl.ops import convolution_bands, convolution_blocked, convolution_columns, convolution_winograd
from netdsl.ops.convolution_bands import channel_major
from netdsl.ops.convolution_cost import (
    CACHED,
    Form,
    Geometry,
    Work,
    copied,
    turned_weight_left,
    weight_left,
    window_attributes,
)
from netdsl.ops.convolution_turned import emit_turned_weight, turned, turning_work, turns
from netdsl.ops.shape import emit_reshape
from netdsl.ops.spatial import emit_spatial_pad

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
    padded = emit_spatial_pad(cx, channel_major(cx, x, g.rank), major(g), g.pads, 0)
    parts = emit_taps(cx, g, padded)
    joined = parts[0] if len(parts) == 1 else cx.emit("Concat", *parts, axis=0)
    return cx.emit("Reshape", joined, cx.ints([g.taps * g.channels, -1]))


def major(g: Geometry) -> TensorType:
    """The input's type with its channels first, `[C, N, …]`."""
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
    work += weight_left(g.outputs, g.images * g.places, g.channels * g.taps)
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
    work = within_conv(weight_left(g.outputs_per_group, g.places, k, calls), g.outputs_per_group)
    return replace(work, columns=columns, lines=_lines(g, columns), calls=calls, nodes=1)


def within_conv(work: Work, rows: int) -> Work:
    """Matrix products within Conv. A product of one row needs no copy of its right operand."""
    return replace(work, products=0, packed=work.packed if rows > 1 else 0)


def _lines(g: Geometry, columns: float) -> float:
    return columns / max(g.sizes(g.out)[-1], 1)


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
    work = turned_weight_left(k, g.places, g.outputs_per_group, calls)
    columns = calls * k * g.places
    spilled = columns if k * g.places > CACHED else 0
    return replace(work, products=0, folded=columns, folds=_lines(g, columns), spilled=spilled, calls=calls, nodes=1)


def _emit_turned(cx: Emitter, g: Geometry, dy: str, weight: str) -> str:
    return _emit_native(cx, turned(g), dy, emit_turned_weight(cx, g, weight))


def _emit_turned_forward(cx: Emitter, g: Geometry, x: str, weight: str) -> str:
    """The convolution as the input's gradient of the turned one."""
    return _emit_transposed(cx, turned(g), x, emit_turned_weight(cx, g, weight))


def _emit_merged_input(cx: Emitter, g: Geometry, dy: str, weight: str) -> str:
    return _emit_merged(cx, turned(g), dy, emit_turned_weight(cx, g, weight))


def _any(g: Geometry) -> bool:
    return True


def _small(g: Geometry) -> bool:
    """Whether column matrices of the whole batch stay within half a gigabyte."""
    return g.images * g.channels * g.taps * g.places <= 1 << 27


FORWARD = (
    Form("native", _any, _native_work, _emit_native),
    Form("turned", turns, lambda g: _transposed_work(turned(g)) + turning_work(g), _emit_turned_forward),
    Form("merged", lambda g: _dense(g) and _small(g), _merged_work, _emit_merged),
    *convolution_bands.FORWARD,
    *convolution_columns.FORWARD,
    *convolution_winograd.FORWARD,
    *convolution_blocked.FORWARD,
)
INPUT = (
    Form("native", _any, _transposed_work, _emit_transposed),
    Form("turned", turns, lambda g: _native_work(turned(g)) + turning_work(g), _emit_turned),
    Form(
        "merged",
        lambda g: _dense(g) and turns(g) and _small(g),
        lambda g: _merged_work(turned(g)) + turning_work(g),
        _emit_merged_input,
    ),
    *convolution_bands.INPUT,
    *convolution_columns.INPUT,
    *convolution_winograd.INPUT,
    *convolution_blocked.INPUT,
)
