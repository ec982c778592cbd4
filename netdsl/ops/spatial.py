"""Sizes, padding and windows of operators that slide a kernel over spatial axes (axes 2, 3, … of `[N, C, …]`)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Literal

import numpy as np

from netdsl.ir.arguments import PaddingValue, Pads, per_axis
from netdsl.ir.dims import Dim, bounds, ceil_div, dim_max, dim_min, to_text
from netdsl.ir.opdef import Emitter, OpError, ShapeError, require_rank
from netdsl.ir.reach import Axis, Reach
from netdsl.ir.types import NDArrayAny, TensorType

SamePads = Pads | Literal["same"]  #: "same" only where the amount depends on a symbol


def spatial_rank(op: str, x: TensorType) -> int:
    """1 to 3. Raises ShapeError unless the rank is that of `[N, C, length]`, `[N, C, height, width]` or
    `[N, C, depth, height, width]`."""
    require_rank(op, x, 3, 5)
    return x.rank - 2


def input_channels(op: str, x: TensorType) -> int:
    """The size of axis 1, which must be an integer. Raises ShapeError."""
    channels = x.shape[1]
    if isinstance(channels, int):
        return channels
    raise ShapeError(f"{op} needs a known number of channels (axis 1), found {x}")


def axes_of(op: str, value: int | Sequence[int], rank: int, argument: str) -> tuple[int, ...]:
    """One integer per spatial axis. Raises OpError."""
    try:
        return per_axis(op, value, rank, argument)
    except ValueError as error:
        raise OpError(str(error), argument=argument) from None


def explicit_pads(
    op: str, padding: PaddingValue, x: TensorType, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> SamePads:
    """(begin, end) per spatial axis. `"same"` keeps ceil(in / stride), an odd unit at the end (Keras); it stays "same"
    where the amount depends on a symbol. Raises OpError for a wrong number of values."""
    rank = len(kernel)
    if padding == "valid":
        return ((0, 0),) * rank
    if padding == "same":
        amounts = [_same_amount(*a) for a in zip(x.shape[2:], kernel, stride, dilation, strict=True)]
        known = [a for a in amounts if isinstance(a, int)]
        return tuple((a // 2, a - a // 2) for a in known) if len(known) == rank else "same"
    if isinstance(padding, int):
        return ((padding, padding),) * rank
    if len(padding) != rank:
        raise OpError(f"{op}: 'padding' has {len(padding)} values for {rank} spatial axes", argument="padding")
    return tuple((p, p) if isinstance(p, int) else p for p in padding)


def same_amounts(
    sizes: Sequence[Dim], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[tuple[Dim, Dim], ...]:
    """The (begin, end) units that "same" adds to each axis, of symbols where they depend on them."""
    amounts = [_same_amount(*a) for a in zip(sizes, kernel, stride, dilation, strict=True)]
    return tuple((a // 2, a - a // 2) for a in amounts)


def _same_amount(size: Dim, kernel: int, stride: int, dilation: int) -> Dim:
    """Units of padding that "same" adds to an axis, both sides together."""
    needed = (ceil_div(size, stride) - 1) * stride + (kernel - 1) * dilation + 1 - size
    return max(needed, 0) if isinstance(needed, int) else dim_max(needed, 0)


def concrete_pads(
    padding: SamePads, sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Pads:
    """The (begin, end) pairs for concrete sizes."""
    if padding != "same":
        return padding
    amounts = [int(_same_amount(*a)) for a in zip(sizes, kernel, stride, dilation, strict=True)]  # type: ignore[arg-type]
    return tuple((a // 2, a - a // 2) for a in amounts)


def window_sizes(
    op: str,
    x: TensorType,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: SamePads,
    dilation: Sequence[int],
    ceil: bool = False,
) -> tuple[Dim, ...]:
    """Output sizes of the spatial axes. With `ceil`, a last window that starts inside the input or its left padding is
    kept (PyTorch). Raises ShapeError where the kernel is larger than the padded input."""
    sizes: list[Dim] = []
    for i, size in enumerate(x.shape[2:]):
        if padding == "same":
            sizes.append(ceil_div(size, stride[i]))
            continue
        begin, end = padding[i]
        room = size + begin + end - (kernel[i] - 1) * dilation[i] - 1
        high = bounds(room)[1]
        if high is not None and high < 0:
            extent = (kernel[i] - 1) * dilation[i] + 1
            raise ShapeError(
                f"{op}: a kernel of {extent}{' (dilated)' if dilation[i] > 1 else ''} does not fit into the "
                f"{_axis_name(i, x.rank - 2)} {to_text(size)}"
                + (f" padded to {to_text(size + begin + end)}" if begin + end else ""),
                argument="kernel",
                help="use a smaller kernel, more padding, or fewer downsampling steps before it",
            )
        sizes.append(_ceil_size(room, size + begin, stride[i]) if ceil else room // stride[i] + 1)
    return tuple(sizes)


def _ceil_size(room: Dim, limit: Dim, stride: int) -> Dim:
    """Windows of an axis, counting a last one that is not full but starts before `limit`, the end of the input."""
    return dim_min(ceil_div(room, stride) + 1, ceil_div(limit, stride))


def _axis_name(index: int, rank: int) -> str:
    return {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}[rank][index]


def window_reach(kernel: Sequence[int], stride: Sequence[int], padding: SamePads, dilation: Sequence[int]) -> Reach:
    """The reach of a sliding window."""
    axes = []
    for i in range(len(kernel)):
        extent = (kernel[i] - 1) * dilation[i] + 1
        begin = max(extent - stride[i], 0) // 2 if padding == "same" else padding[i][0]
        axes.append(Axis(extent, Fraction(stride[i]), Fraction(-begin)))
    return Reach(tuple(axes))


def onnx_window(
    kernel: Sequence[int] | None, stride: Sequence[int], padding: SamePads, dilation: Sequence[int] | None
) -> dict[str, object]:
    """ONNX's attributes of a window: kernel_shape, strides, pads (begins, then ends) or auto_pad, dilations."""
    attributes: dict[str, object] = {"strides": list(stride)}
    if kernel is not None:
        attributes["kernel_shape"] = list(kernel)
    if dilation is not None:
        attributes["dilations"] = list(dilation)
    if padding == "same":
        attributes["auto_pad"] = "SAME_UPPER"
    else:
        attributes["pads"] = [p[0] for p in padding] + [p[1] for p in padding]
    return attributes


def emit_spatial_pad(cx: Emitter, name: str, x: TensorType, amounts: Sequence[tuple[Dim, Dim]], value: float) -> str:
    """`name`, of type `x`, with its spatial axes padded by (begin, end) units, which may be symbolic."""
    if all(a == (0, 0) for a in amounts):
        return name
    pads = cx.shape([0, 0, *(a[0] for a in amounts), 0, 0, *(a[1] for a in amounts)])
    return cx.emit("Pad", name, pads, cx.scalar(value, x.dtype), mode="constant")


def padded_type(x: TensorType, amounts: Sequence[tuple[Dim, Dim]]) -> TensorType:
    """The type of what `emit_spatial_pad` makes."""
    return x.with_shape((*x.shape[:2], *(d + a + b for d, (a, b) in zip(x.shape[2:], amounts, strict=True))))


def pad_spatial(x: NDArrayAny, pads: Any, value: float = 0.0) -> NDArrayAny:
    """`x` with its spatial axes padded by (begin, end) integers."""
    return np.pad(x, [(0, 0), (0, 0), *pads], constant_values=value)


def windows(x: NDArrayAny, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> NDArrayAny:
    """A view `[N, C, *out, *kernel]` of every window of an already padded `[N, C, *in]`."""
    rank = len(kernel)
    extents = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    view = np.lib.stride_tricks.sliding_window_view(x, extents, axis=tuple(range(2, 2 + rank)))
    steps = tuple(slice(None, None, s) for s in stride)
    taps = tuple(slice(None, None, d) for d in dilation)
    return view[(slice(None), slice(None), *steps, *taps)]
