"""`+ - * / // % **` on plain values: Python's, exact on integers and dimensions, with the language's limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from netdsl.elaborate.budget import MAX_BITS, Budget, bounded
from netdsl.elaborate.faults import Limit, Refusal
from netdsl.elaborate.values import describe, is_callable
from netdsl.ir.dims import DimError, Expr, to_text
from netdsl.ir.graph import Value

DIM_STEPS = 20  # what an operation on symbols costs, in steps


def binary(op: str, left: Any, right: Any, budget: Budget) -> Any:
    """`left op right`. Raises Refusal."""
    if isinstance(left, Expr) or isinstance(right, Expr):
        return _dimension(op, left, right, budget)
    if isinstance(left, int | float) and isinstance(right, int | float):
        return _number(op, left, right)
    if op == "+" and _joinable(left, right):
        return _joined(left, right, budget)
    if op == "*":
        if isinstance(left, int) and isinstance(right, str | list | tuple):
            left, right = right, left
        if isinstance(right, int) and isinstance(left, str | list | tuple):
            return _repeated(left, right, budget)
    raise _refused(op, left, right)


def negated(value: Any) -> Any:
    if isinstance(value, int | float | Expr):
        return -value
    raise Refusal(f"'-' takes a number or a tensor, found {describe(value)}")


def _number(op: str, left: Any, right: Any) -> Any:
    try:
        result = _power(left, right) if op == "**" else _FUNCTIONS[op](left, right)
    except ZeroDivisionError:
        what = "remainder of a division" if op == "%" else "division"
        raise Refusal(f"{what} by zero: {describe(left)} {op} {describe(right)}", name="division-by-zero") from None
    except OverflowError:
        raise Limit(f"the result of '{op}' is too large for a float") from None
    except KeyError:
        raise _refused(op, left, right) from None
    if isinstance(result, int):
        return bounded(result)
    if isinstance(result, complex):
        raise Refusal(f"{describe(left)} ** {describe(right)} is no real number")
    return result


def _power(left: Any, right: Any) -> Any:
    grows = isinstance(left, int) and isinstance(right, int) and right > 0 and abs(left) > 1
    if grows and (right > MAX_BITS or (left.bit_length() - 1) * right > MAX_BITS):
        raise Limit(f"an integer of more than {MAX_BITS:,} bits: {describe(left)} ** {describe(right)}")
    return left**right


_FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "**": lambda a, b: a**b,
}


def _dimension(op: str, left: Any, right: Any, budget: Budget) -> Any:
    budget.step(DIM_STEPS)
    for side in (left, right):
        if isinstance(side, bool) or not isinstance(side, int | Expr):
            raise Refusal(
                f"'{op}' on a symbolic dimension takes integers and dimensions, found {describe(side)} "
                f"beside {_text(right if side is left else left)}",
                help="divide with // and multiply by integers" if isinstance(side, float) else (),
            )
    if op in ("/", "@"):
        help = f"write {_text(left)} // {_text(right)}" if op == "/" else ()
        raise Refusal(
            f"'{op}' does not take dimensions: {_text(left)} {op} {_text(right)} may be no integer", help=help
        )
    if op == "**" and not (isinstance(right, int) and 0 <= right <= MAX_BITS):
        raise Refusal(f"a symbolic dimension takes a small exponent of 0 or more, found {_text(right)}")
    try:
        return _FUNCTIONS[op](left, right)
    except ZeroDivisionError as error:
        raise Refusal(f"{error}: {_text(left)} {op} {_text(right)}", name="division-by-zero") from None
    except DimError as error:
        raise Limit(f"{_text(left)} {op} {_text(right)}: {error}") from None


def _text(value: Any) -> str:
    """An operand, in parentheses if it is a sum."""
    text = to_text(value) if isinstance(value, int | Expr) else describe(value)
    text = f"({text})" if " " in text else text
    return text if len(text) <= 80 else text[:78] + "…"


def _joinable(left: Any, right: Any) -> bool:
    if isinstance(left, tuple) and isinstance(right, tuple):
        return True
    return isinstance(left, str | list) and type(left) is type(right)


def _joined(left: Any, right: Any, budget: Budget) -> Any:
    if isinstance(left, str):
        budget.characters(len(left) + len(right))
        return left + right
    budget.items(len(left) + len(right))
    return (*left, *right) if isinstance(left, tuple) else [*left, *right]


def _repeated(value: Any, count: int, budget: Budget) -> Any:
    count = max(count, 0)
    if isinstance(value, str):
        budget.characters(len(value) * count)
        return value * count
    budget.items(len(value) * count)
    return tuple(value) * count if isinstance(value, tuple) else value * count


def _refused(op: str, left: Any, right: Any) -> Refusal:
    message = f"'{op}' does not take {describe(left)} and {describe(right)}"
    if op == "@":
        return Refusal(f"'@' is the product of two tensors, found {describe(left)} and {describe(right)}")
    for side in (left, right):
        if is_callable(side):
            return Refusal(message, help=f"call it first: {side.name}(…)")
    if op == "+" and isinstance(left, str) is not isinstance(right, str) and not isinstance(left, Value):
        return Refusal(message, help="turn the other one into a string: str(…)")
    if op == "+" and isinstance(left, list | tuple) is not isinstance(right, list | tuple):
        if isinstance(left, list | tuple):
            return Refusal(message, help="a list takes a list: items + [item]")
        return Refusal(message, help="a list takes a list: [item] + items")
    return Refusal(message)
