"""Functions on dimensions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from netdsl.ir.dims.decide import decide, proved_natural
from netdsl.ir.dims.expr import Dim, Expr, unwrap, wrap
from netdsl.ir.dims.floor import extremum
from netdsl.ir.dims.rebuild import names_of, rebuilt, value_of
from netdsl.ir.dims.terms import ZeroDivisorError, cofactor, divide, least, make_symbol


def to_text(dim: Dim) -> str:
    """The canonical text, which `parse_dim` reads back: `16*h`, `H//2 + 1`, `64*N*((H + 1)//2)`."""
    return str(dim)


def substitute(dim: Dim, env: Mapping[str, Dim]) -> Dim:
    """`dim` with values for symbols, all put at once; symbols without a value stay.

    Raises ZeroDivisorError where a divisor may become zero, DimError where the result is too large.
    """
    if not isinstance(dim, Expr) or dim.symbols.isdisjoint(env):
        return dim
    values = {name: unwrap(value) for name, value in env.items() if name in dim.symbols}
    return wrap(rebuilt(dim.terms, values, proved_natural))


def evaluate(dim: Dim, env: Mapping[str, int]) -> int:
    """The number for given values of all symbols. Raises KeyError for a symbol without one."""
    return value_of(dim.terms, env) if isinstance(dim, Expr) else dim


def exact_div(a: Dim, b: Dim) -> Dim | None:
    """a / b where it is an integer, or a polynomial, for all values of the symbols; None where that is not proved.

    Raises ZeroDivisorError for b == 0.
    """
    if isinstance(b, int):
        if b == 0:
            raise ZeroDivisorError("division by zero")
        if isinstance(a, int):
            return None if a % b else a // b
        if all(value % b == 0 for value in a.terms.values()):
            return Expr({mono: value // b for mono, value in a.terms.items()})
    elif a == 0:
        return 0
    else:
        quotient, rest = divide(unwrap(a), b.terms)
        if not rest:
            return wrap(quotient)
    return _exact_floor(a, b)


def _exact_floor(a: Dim, b: Dim) -> Dim | None:
    """The floor quotient where it leaves no remainder for a deeper reason: (H*(H + 1))/2."""
    if isinstance(a, int):
        return None
    try:
        quotient = a // b
    except ZeroDivisorError:
        return None
    return quotient if decide("==", quotient * b, a) else None


def product(dims: Iterable[Dim]) -> Dim:
    """The product of all; 1 of none."""
    number = 1
    result: Dim | None = None
    for dim in dims:
        if isinstance(dim, int):
            number *= dim
        else:
            result = dim if result is None else result * dim
    return number if result is None else result * number


def ceil_div(a: Dim, b: Dim) -> Dim:
    """a / b rounded up. Raises ZeroDivisorError for a divisor that may be zero."""
    return -(-a // b)


def dim_max(a: Dim, b: Dim) -> Dim:
    """The larger; where that depends on the symbols, an expression that prints as `max(a, b)`."""
    if isinstance(a, int) and isinstance(b, int):
        return max(a, b)
    return wrap(extremum("max", [unwrap(a), unwrap(b)], proved_natural))


def dim_min(a: Dim, b: Dim) -> Dim:
    """The smaller; where that depends on the symbols, an expression that prints as `min(a, b)`."""
    if isinstance(a, int) and isinstance(b, int):
        return min(a, b)
    return wrap(extremum("min", [unwrap(a), unwrap(b)], proved_natural))


def solve(pattern: Dim, actual: Dim, env: Mapping[str, Dim]) -> Dim | None:
    """The value of the one symbol of `pattern` that `env` lacks, so that the pattern equals `actual`.

    The pattern is linear in that symbol (`32*h`, `N`, `h + 1`, `C*n`). None where it is not, where the division leaves
    a remainder or the value is below 1 (0 for a count). Symbols of the pattern and of `actual` differ even when they
    share a name.
    """
    unknown = pattern.symbols - env.keys() if isinstance(pattern, Expr) else frozenset()
    if not isinstance(pattern, Expr) or len(unknown) != 1:
        return None
    (name,) = unknown
    split = cofactor(pattern.terms, make_symbol(name))
    if split is None or name in names_of(split[0]) | names_of(split[1]):
        return None
    factor, rest = (substitute(wrap(part), env) for part in split)
    if decide("!=", factor, 0) is not True:
        return None
    value = exact_div(actual - rest, factor)
    return None if value is None or decide("<", value, least(name)) else value
