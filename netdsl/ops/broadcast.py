"""NumPy's broadcasting, on symbolic shapes.

Shapes are aligned at their last axes; along each axis the sizes are equal, or one of them is 1. Sizes with symbols
are equal only where that is proved for every value of the symbols.
"""

from __future__ import annotations

from netdsl.ir.dims import Dim, Expr, decide, substitute, symbol, to_text, witnesses
from netdsl.ir.opdef import ShapeError
from netdsl.ir.types import TensorType, shape_text


def broadcast(op: str, *inputs: TensorType) -> tuple[Dim, ...]:
    """The common shape of one or more inputs. Raises ShapeError, which names the first axis that does not fit."""
    shape = inputs[0].shape
    for other in inputs[1:]:
        shape = _pair(op, shape, other.shape)
    return shape


def _pair(op: str, left: tuple[Dim, ...], right: tuple[Dim, ...]) -> tuple[Dim, ...]:
    rank = max(len(left), len(right))
    sizes = []
    for axis in range(-rank, 0):
        a = left[axis] if -axis <= len(left) else 1
        b = right[axis] if -axis <= len(right) else 1
        size = _size(a, b)
        if size is None:
            raise _mismatch(op, left, right, axis, a, b)
        sizes.append(size)
    return tuple(sizes)


def _size(a: Dim, b: Dim) -> Dim | None:
    """The size of an axis, None where `a` and `b` do not fit."""
    if a == b or b == 1:
        return a
    if a == 1:
        return b
    if isinstance(a, int) and isinstance(b, int):
        return None
    if decide("==", a, b):
        return b if isinstance(b, int) else a
    return None


def _mismatch(op: str, left: tuple[Dim, ...], right: tuple[Dim, ...], axis: int, a: Dim, b: Dim) -> ShapeError:
    message = f"{op}: the shapes {shape_text(left)} and {shape_text(right)} do not fit together"
    where = f"axis {axis}" if len(left) != len(right) else f"axis {axis + len(left)}"
    if (isinstance(a, int) and isinstance(b, int)) or decide("!=", a, b):
        return ShapeError(f"{message}: {where} is {to_text(a)} and {to_text(b)}", help=_rank_help(left, right))
    return ShapeError(
        f"{message}: {where} is {to_text(a)} and {to_text(b)}, which cannot be proved equal{_example(a, b)}",
        help="say what the sizes are multiples of, as in input x: float32[N, 3, 32*h, 32*w], or use numbers",
    )


def _example(a: Dim, b: Dim) -> str:
    names = sorted({name for dim in (a, b) if isinstance(dim, Expr) for name in dim.symbols})
    above_one = {name: symbol(name) + 1 for name in names}  # sizes of 1 would fit
    found = witnesses("==", substitute(a, above_one), substitute(b, above_one))
    if found is None:
        return ""
    return f" (they differ for {', '.join(f'{name}={found[1][name] + 1}' for name in names)})"


def _rank_help(left: tuple[Dim, ...], right: tuple[Dim, ...]) -> str:
    """A vector that would fit axis 1 of the other operand is the usual slip."""
    small, large = sorted((left, right), key=len)
    if len(small) == 1 and len(large) > 2 and decide("==", small[0], large[1]):
        ones = ", ".join(["1"] * (len(large) - 2))
        return (
            f"shapes are aligned at the last axis; for one value per channel: reshape(v, [{to_text(small[0])}, {ones}])"
        )
    return "shapes are aligned at the last axis; sizes must be equal, or one of them 1"
