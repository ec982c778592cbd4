"""What the losses and metrics of classes and of pairs of tensors have in common: their checks, and the element type
that they are computed in."""

from __future__ import annotations

from typing import Any

from netdsl.ir.dims import decide
from netdsl.ir.graph import Value
from netdsl.ir.opdef import LayerContext, ShapeError, require_float
from netdsl.ir.types import DType, TensorType, shape_text
from netdsl.ops import gradient_tools as g

FAMILY = "loss"


def in_single(cx: LayerContext, x: Value) -> Value:
    """16-bit floats as float32: sums over a batch overflow or vanish in them."""
    return g.cast(cx, x, DType.float32) if x.dtype in (DType.float16, DType.bfloat16) else x


def class_axis(op: str, logits: TensorType) -> int:
    """The axis of the classes: 1, or 0 for a single item of rank 1. Raises ShapeError for a scalar."""
    require_float(op, logits)
    if logits.rank == 0:
        raise ShapeError(f"{op} needs logits [N, classes, …], found {logits}", argument="logits")
    return min(logits.rank - 1, 1)


def check_ids(op: str, logits: TensorType, ids: TensorType) -> int:
    """The axis of the classes, where `ids` are classes of `logits`. Raises ShapeError."""
    axis = class_axis(op, logits)
    if not ids.dtype.is_integer:
        other = " (a one-hot target is for categorical_cross_entropy)" if op == "cross_entropy" else ""
        raise ShapeError(
            f"{op} needs integer ids of classes, found {ids}",
            argument="ids",
            help=f"convert them: cast(ids, int64){other}",
        )
    expected = (*logits.shape[:axis], *logits.shape[axis + 1 :])
    if _same_shape(expected, ids.shape):
        return axis
    help = f"logits {logits} have their classes on axis {axis}"
    if _same_shape((*expected, 1), ids.shape) or (ids.rank == logits.rank and ids.shape[axis] == 1):
        help += f"; remove the axis of size 1: squeeze(ids, {axis})"
    elif logits.rank > 2 and _same_shape(logits.shape[:-1], ids.shape):
        order = [0, logits.rank - 1, *range(1, logits.rank - 1)]
        help += f"; move them there: transpose(logits, {order})"
    raise ShapeError(
        f"{op}: ids have the shape {shape_text(ids.shape)}, the logits {logits} need {shape_text(expected)}",
        argument="ids",
        help=help,
    )


def check_pair(op: str, prediction: TensorType, target: TensorType) -> None:
    """Raises ShapeError unless both are floats of one type and shape: broadcasting `[N]` against `[N, 1]` would compare
    every item with every other."""
    first, second = ("logits", "target") if op in ("binary_cross_entropy", "focal") else ("prediction", "target")
    if not prediction.dtype.is_float:
        raise ShapeError(f"{op} needs a float {first}, found {prediction}", help="convert it first: cast(x, float32)")
    if target.dtype is not prediction.dtype:
        raise ShapeError(
            f"{op}: the element types of {first} {prediction} and {second} {target} differ",
            argument="target",
            help=f"convert the target: cast(target, {prediction.dtype})",
        )
    if _same_shape(prediction.shape, target.shape):
        return
    help = "both need the same shape"
    for one, other, name in ((prediction, target, first), (target, prediction, second)):
        if one.rank == other.rank + 1 and one.shape[-1] == 1 and _same_shape(one.shape[:-1], other.shape):
            help += f": squeeze({name}, {other.rank})"
    raise ShapeError(f"{op}: {first} {prediction} and {second} {target} differ in shape", argument="target", help=help)


def _same_shape(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    return len(a) == len(b) and all(decide("==", x, y) for x, y in zip(a, b, strict=True))
