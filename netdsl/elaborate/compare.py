"""Comparisons and truth of plain values: Python's, and exact on dimensions.

A comparison of dimensions that holds for some values of the symbols and not for others is refused. Every walk over
lists is paid for, so that lists that share their items cannot take forever.
"""

from __future__ import annotations

from typing import Any, cast

from netdsl.elaborate.budget import Budget
from netdsl.elaborate.faults import Limit, Refusal
from netdsl.elaborate.values import describe, describe_kind
from netdsl.ir.dims import Dim, Expr, Op, decide, to_text, witnesses
from netdsl.ir.graph import Value
from netdsl.ir.types import shape_text

MAX_NESTED = 100


def truth(value: Any) -> bool:
    """Python's truth. Raises Refusal for a tensor, and for a dimension that may be zero."""
    if isinstance(value, Value):
        raise Refusal(
            f"a tensor is no condition: its values are known only when the model runs, found {value.type}",
            help="choose between tensors with where(condition, a, b)",
            name="tensor-condition",
        )
    if isinstance(value, Expr):
        return _decided("!=", value, 0)
    return bool(value)


def compare(op: str, left: Any, right: Any, budget: Budget) -> bool:
    """`left op right` for plain values. Raises Refusal."""
    if op == "==":
        return equal(left, right, budget)
    if op == "!=":
        return not equal(left, right, budget, "!=")
    if op == "in" or op == "not in":
        return _contains(left, right, budget) is (op == "in")
    return _ordered(op, left, right, budget, 0)


def equal(left: Any, right: Any, budget: Budget, op: str = "==") -> bool:
    answer = _equal(left, right, budget, 0)
    if answer is None:
        raise _undecided(cast(Op, op), left, right)
    return answer


def _equal(left: Any, right: Any, budget: Budget, depth: int) -> bool | None:
    """None where it depends on symbols."""
    budget.step(2)
    if isinstance(left, Value) or isinstance(right, Value):
        return left is right
    if isinstance(left, Expr) or isinstance(right, Expr):
        if _is_dim(left) and _is_dim(right):
            return decide("==", _as_dim(left), _as_dim(right))
        return False
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return _equal_items(left, right, budget, depth)
    return bool(left == right)


def _equal_items(
    left: list[Any] | tuple[Any, ...], right: list[Any] | tuple[Any, ...], budget: Budget, depth: int
) -> bool | None:
    if isinstance(left, list) is not isinstance(right, list) or len(left) != len(right):
        return False
    if depth >= MAX_NESTED:
        raise Limit(f"these values nest more than {MAX_NESTED} deep: too deep to compare")
    undecided = False
    for a, b in zip(left, right, strict=True):
        answer = _equal(a, b, budget, depth + 1)
        if answer is False:
            return False
        undecided |= answer is None
    return None if undecided else True


def _contains(item: Any, items: Any, budget: Budget) -> bool:
    if isinstance(items, str) and isinstance(item, str):
        budget.step(len(items) // 64)
        return item in items
    if not isinstance(items, list | tuple):
        raise Refusal(f"'in' looks into a list, a tuple or a string, found {describe(items)}")
    unknown = None
    for candidate in items:
        answer = _equal(item, candidate, budget, 0)
        if answer:
            return True
        unknown = candidate if answer is None else unknown
    if unknown is not None:
        raise _undecided("==", item, unknown)
    return False


def _ordered(op: str, left: Any, right: Any, budget: Budget, depth: int) -> bool:
    budget.step()
    if isinstance(left, Expr) or isinstance(right, Expr):
        if _is_dim(left) and _is_dim(right):
            return _decided(cast(Op, op), _as_dim(left), _as_dim(right))
    elif all(isinstance(v, int | float) for v in (left, right)) or all(isinstance(v, str) for v in (left, right)):
        return _python(op, left, right)
    elif isinstance(left, list | tuple) and type(left) is type(right):
        if depth >= MAX_NESTED:
            raise Limit(f"these values nest more than {MAX_NESTED} deep: too deep to compare")
        for a, b in zip(left, right, strict=False):
            if _equal(a, b, budget, depth + 1) is not True:
                return _ordered(op, a, b, budget, depth + 1)
        return _python(op, len(left), len(right))
    raise Refusal(f"'{op}' does not order {describe(left)} and {describe(right)}")


def _python(op: str, left: Any, right: Any) -> bool:
    if op == "<":
        return bool(left < right)
    if op == "<=":
        return bool(left <= right)
    return bool(left > right if op == ">" else left >= right)


def _is_dim(value: Any) -> bool:
    return isinstance(value, int | Expr) or (isinstance(value, float) and value.is_integer())


def _as_dim(value: Any) -> Dim:
    return value if isinstance(value, Expr) else int(value)


def _decided(op: Op, left: Dim, right: Dim) -> bool:
    answer = decide(op, left, right)
    if answer is None:
        raise _undecided(op, left, right)
    return answer


def _undecided(op: Op, left: Any, right: Any) -> Refusal:
    a, b = _first_open(left, right)
    message = f"whether {_side(left)} {op} {_side(right)} holds depends on the symbols"
    example = ""
    found = witnesses(op, a, b) if isinstance(a, int | Expr) and isinstance(b, int | Expr) else None
    if found:
        example = f": it does for {_values(found[0])}, not for {_values(found[1])}"
    return Refusal(
        message + example,
        help="give the symbols values with --set, or declare sizes that decide it, such as 32*h instead of H",
        name="undecided",
    )


def _first_open(left: Any, right: Any) -> tuple[Any, Any]:
    """The first pair of dimensions inside two shapes on which it depends."""
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        for a, b in zip(left, right, strict=False):
            if (
                (isinstance(a, Expr) or isinstance(b, Expr))
                and _is_dim(a)
                and _is_dim(b)
                and decide("==", a, b) is None
            ):
                return a, b
    return left, right


def _side(value: Any) -> str:
    if isinstance(value, int | Expr) and not isinstance(value, bool):
        return to_text(value)
    if isinstance(value, list | tuple) and all(isinstance(v, int | Expr) for v in value):
        return shape_text(value)
    return describe_kind(value)


def _values(env: dict[str, int]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(env.items()))
