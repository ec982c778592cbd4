"""Slices: what `x[:, 0:2]` and `crop` become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import EllipsisType
from typing import Any, ClassVar

import numpy as np

from netdsl.ir.arguments import SHAPE, TENSOR, Param, is_int
from netdsl.ir.dims import Dim, Expr, bounds, ceil_div, decide, dim_max, dim_min, is_size, to_text
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Emitter, GradientContext, LayerContext, Operator, OpError, Primitive, ShapeError
from netdsl.ir.reach import POINTWISE, WHOLE, Axis, Reach
from netdsl.ir.types import DType, NDArrayAny, TensorType, shape_text
from netdsl.ops.optional import SIZES_OR_NONE, spatial_dims
from netdsl.ops.precision import runs_in_float32
from netdsl.ops.shape import Squeeze, Unsqueeze, emit_reshape
from netdsl.ops.spatial import spatial_rank


@dataclass(frozen=True)
class Slice(Primitive):
    """The elements `start, start + step, …` before `end` of some axes.

    `start` and `end` count from the beginning and lie inside the axis; an `end` of -1 with a negative step takes the
    first element too. Each axis keeps `ceil((end - start) / step)` elements.
    """

    starts: tuple[Dim, ...]
    ends: tuple[Dim, ...]
    axes: tuple[int, ...]
    steps: tuple[int, ...]

    name: ClassVar[str] = "slice"
    family: ClassVar[str] = "internal"
    reference: ClassVar[str] = "ONNX Slice"

    def infer(self, x: TensorType) -> TensorType:
        shape = list(x.shape)
        for start, end, axis, step in zip(self.starts, self.ends, self.axes, self.steps, strict=True):
            shape[axis] = _count(start, end, step)
        return x.with_shape(shape)

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        axes = [Axis()] * (inputs[0].rank - 2)
        for start, axis, step in zip(self.starts, self.axes, self.steps, strict=True):
            if axis < 2:
                continue
            if not isinstance(start, int) or step < 0:
                return WHOLE
            axes[axis - 2] = Axis(1, Fraction(step), Fraction(start))
        return POINTWISE if all(a == Axis() for a in axes) else Reach(tuple(axes))

    def evaluate(self, x: NDArrayAny) -> NDArrayAny:
        keys: list[Any] = [slice(None)] * x.ndim
        for start, end, axis, step in zip(self.starts, self.ends, self.axes, self.steps, strict=True):
            keys[axis] = slice(start, None if end == -1 else end, step)
        return np.asarray(x[tuple(keys)])

    def lower(self, cx: Emitter, node: Node, x: str) -> str:
        sizes = [node.inputs[0].shape[axis] for axis in self.axes]
        starts = [_onnx_bound(start, size) for start, size in zip(self.starts, sizes, strict=True)]
        ends = [_onnx_bound(e, n, s < 0) for e, n, s in zip(self.ends, sizes, self.steps, strict=True)]
        return cx.emit("Slice", x, cx.shape(starts), cx.shape(ends), cx.ints(self.axes), cx.ints(self.steps))

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        sizes = tuple(node.inputs[0].shape[a] for a in self.axes)
        return (cx.emit(Unslice(self.starts, self.ends, self.axes, self.steps, sizes), dy),)


@dataclass(frozen=True)
class Unslice(Primitive):
    """Zeros with `x` at the places that `slice` reads, the gradient of `slice`: the axes get `sizes`."""

    starts: tuple[Dim, ...]
    ends: tuple[Dim, ...]
    axes: tuple[int, ...]
    steps: tuple[int, ...]
    sizes: tuple[Dim, ...]

    name: ClassVar[str] = "unslice"
    family: ClassVar[str] = "internal"
    reference: ClassVar[str] = "ONNX Pad"

    def infer(self, x: TensorType) -> TensorType:
        shape = list(x.shape)
        for axis, size in zip(self.axes, self.sizes, strict=True):
            shape[axis] = size
        return x.with_shape(shape)

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return WHOLE

    def evaluate(self, x: NDArrayAny) -> NDArrayAny:
        shape: list[Any] = list(x.shape)
        keys: list[Any] = [slice(None)] * x.ndim
        for start, end, axis, step, size in zip(self.starts, self.ends, self.axes, self.steps, self.sizes, strict=True):
            shape[axis] = size
            keys[axis] = slice(start, None if end == -1 else end, step)
        y = np.zeros(shape, x.dtype)
        y[tuple(keys)] = x
        return y

    @runs_in_float32(DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, x: str) -> str:
        """Backward axes are turned round, gaps of a step filled by padding a new axis, the rest by one Pad."""
        shape = list(node.inputs[0].shape)
        back = [axis for axis, step in zip(self.axes, self.steps, strict=True) if step < 0]
        if back:
            ends, steps = cx.ints([-_BEYOND] * len(back)), cx.ints([-1] * len(back))
            x = cx.emit("Slice", x, cx.ints([-1] * len(back)), ends, cx.ints(back), steps)
        begins: list[Dim] = [0] * len(shape)
        rest: list[Dim] = [0] * len(shape)
        for start, axis, step, size in zip(self.starts, self.axes, self.steps, self.sizes, strict=True):
            count, gap = shape[axis], abs(step)
            if gap > 1:
                x = self._spread(cx, node, x, shape, axis, gap)
                shape[axis] = count * gap
            begins[axis] = start if step > 0 else start - (count - 1) * gap
            rest[axis] = size - begins[axis] - shape[axis]
        return cx.emit("Pad", x, cx.shape([*begins, *rest]), mode="constant")

    def _spread(self, cx: Emitter, node: Node, x: str, shape: Sequence[Dim], axis: int, gap: int) -> str:
        """`gap - 1` zeros behind each element of an axis."""
        split = [*shape[: axis + 1], 1, *shape[axis + 1 :]]
        pads = [0] * (2 * len(split))
        pads[len(split) + axis + 1] = gap - 1
        padded = cx.emit("Pad", emit_reshape(cx, x, shape, split), cx.ints(pads), mode="constant")
        after = [*shape[:axis], shape[axis] * gap, *shape[axis + 1 :]]
        return emit_reshape(cx, padded, [*shape[: axis + 1], gap, *shape[axis + 1 :]], after)

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        return (cx.emit(Slice(self.starts, self.ends, self.axes, self.steps), dy),)


_BEYOND = 2**63 - 1


def _onnx_bound(bound: Dim, size: Dim, backward: bool = False) -> Dim:
    """A bound as ONNX counts it, from the end where that makes it a constant. The end of a backward slice counts from
    the end at any rate: it may be -1, the place before the first element."""
    if isinstance(bound, int) and bound >= 0:
        return bound
    if isinstance(bound, int):
        return -_BEYOND
    from_end = bound - size
    if isinstance(from_end, int) and from_end >= 0:
        return _BEYOND
    return from_end if backward or isinstance(from_end, int) else bound


def _count(start: Dim, end: Dim, step: int) -> Dim:
    span = end - start if step > 0 else start - end
    return dim_max(ceil_div(span, abs(step)), 0)


Item = int | Expr | slice | EllipsisType | None


def index(cx: LayerContext, x: Value, items: Sequence[Item]) -> Value:
    """`x[items]` by NumPy's rules for integers, slices (Python's `slice`, bounds of integers, dimensions or None),
    `Ellipsis` and None (a new axis). Raises OpError, where a position may lie outside or nothing is left."""
    plan = _Plan(x.type)
    for item in _expanded(x.type, items):
        plan.add(item)
    if plan.axes:
        op = Slice(tuple(plan.starts), tuple(plan.ends), tuple(plan.axes), tuple(plan.steps))
        x = cx.emit(op, x)
    if plan.dropped:
        x = cx.emit(Squeeze(tuple(plan.dropped)), x)
    return cx.emit(Unsqueeze(tuple(plan.added)), x) if plan.added else x


def _expanded(x: TensorType, items: Sequence[Item]) -> list[Item]:
    """The items with `...` written out."""
    used = sum(item is not None and item is not Ellipsis for item in items)
    if used > x.rank:
        raise OpError(f"index: {used} positions for {x} of rank {x.rank}")
    dots = [i for i, item in enumerate(items) if item is Ellipsis]
    if len(dots) > 1:
        raise OpError("index: only one ... is possible")
    at = dots[0] if dots else len(items)
    return [*items[:at], *[slice(None)] * (x.rank - used), *items[at + 1 :]]


class _Plan:
    """The slices, the axes that integers drop and the axes that None adds, collected item by item."""

    def __init__(self, x: TensorType) -> None:
        self.x = x
        self.starts: list[Dim] = []
        self.ends: list[Dim] = []
        self.axes: list[int] = []
        self.steps: list[int] = []
        self.dropped: list[int] = []
        self.added: list[int] = []
        self._axis = 0
        self._out = 0

    def add(self, item: Item) -> None:
        if item is None:
            self.added.append(self._out)
            self._out += 1
            return
        axis, self._axis = self._axis, self._axis + 1
        if isinstance(item, slice):
            self._slice(axis, item)
            self._out += 1
        elif is_int(item) or isinstance(item, Expr):
            start = _position(self.x, axis, item)  # type: ignore[arg-type]  # an integer or a dimension
            self._keep(axis, start, start + 1, 1)
            self.dropped.append(axis)
        else:
            raise OpError(
                "index: an index is an integer, a slice or ...",
                help="gather(x, indices, axis) takes a tensor of positions",
            )

    def _slice(self, axis: int, item: slice) -> None:
        size = self.x.shape[axis]
        step = 1 if item.step is None else item.step
        if not is_int(step) or step == 0:
            raise OpError("index: the step of a slice is an integer other than 0")
        for bound in (item.start, item.stop):
            if not (bound is None or is_int(bound) or isinstance(bound, Expr)):
                raise OpError("index: the bounds of a slice are integers or dimensions")
        if step > 0:
            start = 0 if item.start is None else _clipped(item.start, size, 0, size)
            end = size if item.stop is None else _clipped(item.stop, size, 0, size)
        else:
            start = size - 1 if item.start is None else _clipped(item.start, size, -1, size - 1)
            end = -1 if item.stop is None else _clipped(item.stop, size, -1, size - 1)
        if start == 0 and end == size and step == 1:
            return
        if decide("==", _count(start, end, step), 0) is True or decide("<", start, 0) is not False:
            text = ":".join("" if b is None else to_text(b) for b in (item.start, item.stop))
            text += "" if step == 1 else f":{step}"
            raise ShapeError(f"index: the slice {text} leaves nothing of axis {axis} of {self.x}")
        self._keep(axis, start, end, step)

    def _keep(self, axis: int, start: Dim, end: Dim, step: int) -> None:
        self.axes.append(axis)
        self.starts.append(start)
        self.ends.append(end)
        self.steps.append(step)


def _clipped(bound: Dim, size: Dim, low: Dim, high: Dim) -> Dim:
    """A slice's bound counted from the beginning and kept within `low..high`, as Python does."""
    negative = decide("<", bound, 0)
    if negative is None:
        raise OpError(f"index: whether {to_text(bound)} is negative depends on its symbols")
    return dim_max(bound + size, low) if negative else dim_min(bound, high)


def _position(x: TensorType, axis: int, item: Dim) -> Dim:
    """An integer index counted from the beginning. Raises OpError unless it is inside for all values of the symbols."""
    size = x.shape[axis]
    low = bounds(item)[0]
    place = item if low is not None and low >= 0 else item + size
    if decide(">=", place, 0) is True and decide("<", place, size) is True:
        return place
    may = "is" if decide(">=", place, size) or decide("<", place, 0) else "may be"
    raise OpError(f"index: {to_text(item)} {may} out of range for axis {axis} of {x}, of size {to_text(size)}")


class Crop(Operator):
    """Cuts the spatial axes to a size, from the middle (rounded down) or from `offset` on, as U-Net's skips need it.

    `size` and `offset` are one dimension for every spatial axis or one per axis: `crop(skip, up.shape[2:])`.
    """

    name: ClassVar[str] = "crop"
    family: ClassVar[str] = "shape"
    reference: ClassVar[str] = "Ronneberger et al. 2015 (arXiv:1505.04597); ONNX Slice"
    signature: ClassVar[tuple[Param, ...]] = (
        Param("x", TENSOR),
        Param("size", SHAPE, doc="sizes of the spatial axes"),
        Param("offset", SIZES_OR_NONE, (), doc="where the cut begins; the middle if left out"),
    )

    @classmethod
    def call(cls, cx: LayerContext, x: Value, size: tuple[Dim, ...], offset: tuple[Dim, ...]) -> Value:
        rank = spatial_rank("crop", x.type)
        sizes = spatial_dims("crop", size, rank, "size")
        starts = [(d - s) // 2 for d, s in zip(x.shape[2:], sizes, strict=True)]
        if offset:
            starts = list(spatial_dims("crop", offset, rank, "offset"))
        for dim, keep, start in zip(x.shape[2:], sizes, starts, strict=True):
            if not is_size(keep):
                raise OpError(f"crop: a size of {to_text(keep)} is not possible", argument="size")
            inside = decide("<=", start + keep, dim) if decide(">=", start, 0) else False
            if inside is not True:
                known = isinstance(dim, int) and isinstance(keep, int)
                raise ShapeError(
                    f"crop: {shape_text(sizes)} {'does not fit' if known else 'is not known to fit'} "
                    f"into the spatial axes of {x.type}" + (f" from {shape_text(starts)} on" if offset else ""),
                    argument="offset" if offset else "size",
                )
        ends = tuple(a + b for a, b in zip(starts, sizes, strict=True))
        if ends == x.shape[2:] and all(s == 0 for s in starts):
            return x
        return cx.emit(Slice(tuple(starts), ends, tuple(range(2, 2 + rank)), (1,) * rank), x)
