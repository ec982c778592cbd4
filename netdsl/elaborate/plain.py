"""The functions on plain values: `range len min max …`. They take no layer name and make no tensor."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from netdsl.elaborate.arithmetic import binary
from netdsl.elaborate.budget import Budget, bounded
from netdsl.elaborate.compare import MAX_NESTED, compare
from netdsl.elaborate.faults import Limit, Refusal
from netdsl.elaborate.values import PlainFunction, describe
from netdsl.ir.dims import Expr, decide, dim_max, dim_min, to_text
from netdsl.ir.graph import Value
from netdsl.ir.initializer import Initializer
from netdsl.ir.types import DType


def _range(budget: Budget, *bounds: Any) -> list[int]:
    for value in bounds:
        if isinstance(value, Expr):
            raise Refusal(f"range needs integers, found {describe(value)}", help="give the symbol a value with --set")
        if isinstance(value, bool) or not isinstance(value, int):
            raise Refusal(f"range needs integers, found {describe(value)}", help=_divide(value))
    if len(bounds) == 3 and bounds[2] == 0:
        raise Refusal("range: a step of 0 never ends")
    numbers = range(*bounds)
    budget.items(_length(numbers), 1 + max(4, *(b.bit_length() // 64 for b in bounds)))
    return list(numbers)


def _length(numbers: range) -> int:
    """Also of a range beyond what Python's len takes."""
    span = numbers.stop - numbers.start
    return max(0, -(-span // numbers.step))


def _divide(value: Any) -> str | tuple[str, ...]:
    return "divide with // to get an integer" if isinstance(value, float) else ()


def _len(budget: Budget, value: Any) -> int:
    if isinstance(value, str | list | tuple):
        return len(value)
    help = "the size of its first axis is x.shape[0], its number of axes x.rank" if isinstance(value, Value) else ()
    raise Refusal(f"len takes a list, a tuple or a string, found {describe(value)}", help=help)


def _items(name: str, value: Any) -> list[Any] | tuple[Any, ...]:
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, str):
        return list(value)
    help = f"loop over range({describe(value)})" if isinstance(value, int) and not isinstance(value, bool) else ()
    raise Refusal(f"{name} takes a list, found {describe(value)}", help=help)


def _extremum(name: str) -> Callable[..., Any]:
    def call(budget: Budget, *values: Any) -> Any:
        items = _items(name, values[0]) if len(values) == 1 else values
        if not items:
            raise Refusal(f"{name} of an empty list")
        best = items[0]
        if len(items) == 1 and not isinstance(best, int | float | str | list | tuple | Expr):
            raise Refusal(f"{name} takes numbers, found {describe(best)}")
        tensor = next((item for item in items if isinstance(item, Value)), None)
        if tensor is not None:
            raise Refusal(
                f"{name} of a list takes plain values, found {describe(tensor)}",
                help=f"element by element: {name}imum(a, b), or {name}imum(list)",
            )
        for item in items[1:]:
            budget.step()
            best = _better(name, best, item, budget)
        return best

    return call


def _better(name: str, best: Any, item: Any, budget: Budget) -> Any:
    if isinstance(best, Expr) or isinstance(item, Expr):
        for side in (best, item):
            if not isinstance(side, int | Expr):
                raise Refusal(f"{name} of dimensions takes integers and dimensions, found {describe(side)}")
        budget.step(20)
        return dim_max(best, item) if name == "max" else dim_min(best, item)
    return item if compare("<" if name == "min" else ">", item, best, budget) else best


def _sum(budget: Budget, values: Any, start: Any = 0) -> Any:
    total = start
    for item in _items("sum", values):
        budget.step()
        if not isinstance(item, int | float | Expr):
            raise Refusal(f"sum takes a list of numbers, found {describe(item)} in it")
        total = binary("+", total, item, budget)
    return total


def _abs(budget: Budget, value: Any) -> Any:
    if isinstance(value, int | float):
        return abs(value)
    if isinstance(value, Expr):
        sign = decide(">=", value, 0)
        if sign is None:
            raise Refusal(f"whether {to_text(value)} is negative depends on the symbols", name="undecided")
        return value if sign else -value
    raise Refusal(f"abs takes a number, found {describe(value)}")


def _int(budget: Budget, value: Any) -> Any:
    if isinstance(value, Expr):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise Refusal(f"int takes a finite number, found {describe(value)}")
    if isinstance(value, int | float):
        return int(value)
    if isinstance(value, str) and len(value) <= 400:
        try:
            return int(value)
        except ValueError:
            raise Refusal(f"{describe(value)} is no integer") from None
    raise Refusal(f"int takes a number or a string, found {describe(value)}", help=_cast_help(value, "int64"))


def _float(budget: Budget, value: Any) -> float:
    if isinstance(value, int | float) or (isinstance(value, str) and len(value) <= 400):
        try:
            return float(value)
        except ValueError:
            raise Refusal(f"{describe(value)} is no number") from None
        except OverflowError:
            raise Limit("an integer too large for a float") from None
    raise Refusal(f"float takes a number or a string, found {describe(value)}", help=_cast_help(value, "float32"))


def _cast_help(value: Any, dtype: str) -> str | tuple[str, ...]:
    return f"a tensor is converted by cast(x, {dtype})" if isinstance(value, Value) else ()


def _round(budget: Budget, value: Any, digits: Any = None) -> Any:
    number = _number("round", value)
    if digits is None:
        return _whole("round", number, round)
    if isinstance(digits, bool) or not isinstance(digits, int) or abs(digits) > 400:
        raise Refusal(f"round takes a small number of digits, found {describe(digits)}")
    return number if isinstance(number, Expr) else round(number, digits)


def _rounding(name: str, function: Callable[[float], int]) -> Callable[..., Any]:
    return lambda budget, value: _whole(name, _number(name, value), function)


def _whole(name: str, number: Any, function: Callable[[float], int]) -> Any:
    if isinstance(number, int | Expr):
        return number
    if not math.isfinite(number):
        raise Refusal(f"{name} takes a finite number, found {describe(number)}")
    return bounded(function(number))


def _number(name: str, value: Any) -> Any:
    if isinstance(value, int | float | Expr):
        return value
    raise Refusal(f"{name} takes a number, found {describe(value)}")


def _real(name: str, function: Callable[[float], float], low: float, wanted: str) -> Callable[..., Any]:
    def call(budget: Budget, value: Any) -> float:
        if isinstance(value, Expr):
            raise Refusal(f"{name} takes a number, found {describe(value)}", help="give the symbol a value with --set")
        number = _number(name, value)
        if not number > low and not (number == low and name == "sqrt"):
            raise Refusal(f"{name} takes a number {wanted}, found {describe(value)}")
        try:
            return function(number)
        except OverflowError:
            raise Limit(f"{name} of an integer too large for a float") from None

    return call


def text_of(value: Any, budget: Budget, depth: int = 0) -> str:
    """What `str` gives: strings as they are, dimensions as formulas, the rest as a program writes it."""
    budget.step()
    if depth > MAX_NESTED:
        raise Limit(f"a value that nests more than {MAX_NESTED} deep has no text")
    match value:
        case str():
            text = value if depth == 0 else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case None | bool():
            text = {None: "none", True: "true", False: "false"}[value]
        case int() | float() | DType() | Initializer():
            text = str(value)
        case Expr():
            text = to_text(value)
        case list() | tuple():
            inner = ", ".join(text_of(v, budget, depth + 1) for v in value)
            text = f"[{inner}]" if isinstance(value, list) else f"({inner}{',' if len(value) == 1 else ''})"
        case _:
            text = describe(value)
    budget.characters(len(text))
    return text


def _zip(budget: Budget, *lists: Any) -> list[tuple[Any, ...]]:
    items = [_items("zip", value) for value in lists]
    budget.items(min(len(i) for i in items), 8 + len(items))
    return list(zip(*items, strict=False))


def _enumerate(budget: Budget, values: Any, start: Any = 0) -> list[tuple[int, Any]]:
    if isinstance(start, bool) or not isinstance(start, int):
        raise Refusal(f"enumerate starts at an integer, found {describe(start)}")
    items = _items("enumerate", values)
    budget.items(len(items), 14 + start.bit_length() // 64)
    return list(enumerate(items, start))


def _reversed(budget: Budget, values: Any) -> list[Any]:
    items = _items("reversed", values)
    budget.items(len(items))
    return list(reversed(items))


def _text(budget: Budget, value: Any) -> str:
    return text_of(value, budget)


FUNCTIONS: dict[str, PlainFunction] = {
    f.name: f
    for f in (
        PlainFunction("range", _range, 1, 3),
        PlainFunction("len", _len, 1, 1),
        PlainFunction("min", _extremum("min"), 1, None, "min"),
        PlainFunction("max", _extremum("max"), 1, None, "max"),
        PlainFunction("sum", _sum, 1, 2, "sum"),
        PlainFunction("abs", _abs, 1, 1, "abs"),
        PlainFunction("int", _int, 1, 1),
        PlainFunction("float", _float, 1, 1),
        PlainFunction("round", _round, 1, 2, "round"),
        PlainFunction("ceil", _rounding("ceil", math.ceil), 1, 1, "ceil"),
        PlainFunction("floor", _rounding("floor", math.floor), 1, 1, "floor"),
        PlainFunction("log2", _real("log2", math.log2, 0, "above 0"), 1, 1),
        PlainFunction("sqrt", _real("sqrt", math.sqrt, 0, "of 0 or more"), 1, 1, "sqrt"),
        PlainFunction("str", _text, 1, 1),
        PlainFunction("zip", _zip, 1, None),
        PlainFunction("enumerate", _enumerate, 1, 2),
        PlainFunction("reversed", _reversed, 1, 1),
    )
}
