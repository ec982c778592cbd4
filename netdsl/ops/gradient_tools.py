"""What gradient rules are made of: arithmetic on graph values, sums that undo broadcasting, masks.

Operators' derivatives refer to each other in a circle (that of a sum is an expansion, that of an expansion a sum).
The circle closes here: this module and the operators' modules import one another as modules, and read each other's
names only when a rule runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from netdsl.ir.dims import Dim, product
from netdsl.ir.graph import Value
from netdsl.ir.opdef import GradientContext, LayerContext
from netdsl.ir.types import DType, TensorType
from netdsl.ops import arithmetic, comparison, constant, rectifier, reduction, selection, shape, unary

Context = GradientContext | LayerContext
Term = Value | int | float  #: a number takes the element type of the other operand


def add(cx: Context, a: Term, b: Term) -> Value:
    """`a + b`, broadcast."""
    return cx.emit(arithmetic.Add(), *_terms(cx, a, b))


def sub(cx: Context, a: Term, b: Term) -> Value:
    """`a - b`, broadcast."""
    return cx.emit(arithmetic.Sub(), *_terms(cx, a, b))


def mul(cx: Context, a: Term, b: Term) -> Value:
    """`a * b`, broadcast."""
    return cx.emit(arithmetic.Mul(), *_terms(cx, a, b))


def div(cx: Context, a: Term, b: Term) -> Value:
    """`a / b`, broadcast, of floats."""
    return cx.emit(arithmetic.Div(), *_terms(cx, a, b))


def power(cx: Context, a: Term, b: Term) -> Value:
    """`a ** b`, broadcast."""
    return cx.emit(arithmetic.Pow(), *_terms(cx, a, b))


def neg(cx: Context, x: Value) -> Value:
    """`-x`."""
    return cx.emit(unary.Neg(), x)


def cast(cx: Context, x: Value, dtype: DType) -> Value:
    """`x` in another element type; itself if it has that already."""
    return x if x.dtype is dtype else cx.emit(constant.Cast(dtype), x)


def compare(cx: Context, symbol: str, a: Term, b: Term) -> Value:
    """`a symbol b` as a bool tensor, for one of the comparisons `== != < <= > >=`."""
    op = arithmetic.INFIX[symbol]
    assert issubclass(op, comparison.Comparison)
    return cx.emit(op(), *_terms(cx, a, b))


def mask(cx: Context, symbol: str, a: Term, b: Term, dtype: DType | None = None) -> Value:
    """`a symbol b` as 1 and 0, in the operands' element type or the one given."""
    found = compare(cx, symbol, a, b)
    if dtype is None:
        dtype = a.dtype if isinstance(a, Value) else b.dtype if isinstance(b, Value) else DType.float32
    return cast(cx, found, dtype)


def rectified(cx: Context, y: Value, dy: Value, limit: int | None = None) -> Value:
    """`dy` where `0 < y`, and `y < limit` if there is one, else 0."""
    return cx.emit(rectifier.RectifierGradient(limit), y, dy)


def where(cx: Context, condition: Value, a: Term, b: Term) -> Value:
    """`a` where the condition holds, else `b`; a tensor at least is among them."""
    return cx.emit(selection.Where(), condition, *_terms(cx, a, b))


def total(cx: Context, x: Value, axes: Sequence[int], keep: bool = False) -> Value:
    """The sum over some axes; `x` itself over none."""
    return cx.emit(reduction.Sum(tuple(axes), keep), x) if axes else x


def sum_all(cx: Context, x: Value) -> Value:
    """The sum of all elements, a scalar."""
    return total(cx, x, range(x.rank))


def mean(cx: Context, x: Value, axes: Sequence[int] | None = None, keep: bool = False) -> Value:
    """The mean over some axes; None: all."""
    return cx.emit(reduction.Mean(tuple(range(x.rank) if axes is None else axes), keep), x)


def reshape(cx: Context, x: Value, to: Sequence[Dim]) -> Value:
    """`x` in another shape; itself if it has that already."""
    return x if x.shape == tuple(to) else cx.emit(shape.Reshape(tuple(to)), x)


def unsqueeze(cx: Context, x: Value, axes: Sequence[int]) -> Value:
    """`x` with axes of size 1 at the given positions of the result, counted from the start."""
    return cx.emit(shape.Unsqueeze(tuple(sorted(axes))), x) if axes else x


def transpose(cx: Context, x: Value, axes: Sequence[int]) -> Value:
    """`x` with its axes reordered; itself if they stay."""
    return x if list(axes) == list(range(x.rank)) else cx.emit(shape.Transpose(tuple(axes)), x)


def sum_to(cx: Context, grad: Value, type: TensorType) -> Value:
    """The gradient of an operand of that type which was broadcast to the shape of `grad`: summed over the axes that
    broadcasting added or repeated."""
    new = grad.rank - type.rank
    repeated = [i + new for i, d in enumerate(type.shape) if d == 1 and grad.shape[i + new] != 1]
    if new and repeated:
        return reshape(cx, total(cx, grad, [*range(new), *repeated]), type.shape)
    return reshape(cx, total(cx, grad, [*range(new), *repeated], keep=not new), type.shape)


def expand_to(cx: Context, x: Value, to: Sequence[Dim]) -> Value:
    """`x` broadcast to a shape; itself if it has that already."""
    return x if x.shape == tuple(to) else cx.emit(shape.Expand(tuple(to)), x)


def kept(cx: Context, reduced: Value, axes: Sequence[int], keep: bool) -> Value:
    """What a reduction over `axes` (counted from the start) made, with these axes of size 1 again."""
    return reduced if keep else unsqueeze(cx, reduced, axes)


def zeros_like(cx: Context, x: Value) -> Value:
    """Zeros of the type of `x`: the gradient of what is constant almost everywhere."""
    return expand_to(cx, cx.constant(0, x.dtype), x.shape)


def ones_like(cx: Context, x: Value) -> Value:
    """Ones of the type of `x`."""
    return expand_to(cx, cx.constant(1, x.dtype), x.shape)


def count(cx: Context, x: TensorType, axes: Sequence[int] | None = None) -> Value:
    """How many elements the axes have together (None: all), as a scalar in the element type of `x`."""
    dims = x.shape if axes is None else [x.shape[a] for a in axes]
    return cx.dimension(product(dims), x.dtype)


def divided(cx: Context, x: Value, number: Dim) -> Value:
    """`x / number`: a product with the reciprocal where the number is known."""
    if isinstance(number, int):
        return x if number == 1 else mul(cx, x, 1 / number)
    return div(cx, x, cx.dimension(number, x.dtype))


def _terms(cx: Context, a: Term, b: Term) -> tuple[Value, Value]:
    if isinstance(a, Value):
        return a, b if isinstance(b, Value) else cx.constant(b, a.dtype)
    if isinstance(b, Value):
        return cx.constant(a, b.dtype), b
    raise TypeError("arithmetic of two numbers is no node")
