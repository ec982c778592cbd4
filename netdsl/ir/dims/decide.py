"""Comparisons of dimensions that hold for all values of their symbols, and example values where they do not.

`decide` proves by bounds, by cases of the symbols modulo the divisors of the floors (which turns floors into
polynomials), and, for one symbol, by trying small values and bounding the polynomial beyond them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice, product
from math import gcd, lcm
from operator import eq, ge, gt, le, lt, ne
from typing import Literal

from netdsl.ir.dims.bounds import lower, upper
from netdsl.ir.dims.expr import Dim, Expr, unwrap, wrap
from netdsl.ir.dims.rebuild import names_of, rebuilt, value_of
from netdsl.ir.dims.terms import (
    DimError,
    Extremum,
    Floor,
    Symbol,
    Terms,
    add,
    as_constant,
    least,
    make_symbol,
    scaled,
    shift,
)

Op = Literal["==", "!=", "<", "<=", ">", ">="]
OPS: dict[str, Callable[[int, int], bool]] = {"==": eq, "!=": ne, "<": lt, "<=": le, ">": gt, ">=": ge}

_MAX_CASES = 128  # residue classes tried
_MAX_SAMPLES = 600  # assignments tried by `witnesses`
_TAILS = (4, 16, 64)  # values of a single symbol that are tried one by one before the polynomial beyond is bounded
_SMALL = (1, 2, 3, 4, 5, 6, 7, 8, 16, 31, 32, 33, 64, 224, 1000)


def decide(op: Op, a: Dim, b: Dim) -> bool | None:
    """Whether `a op b` holds: True or False if for all values of the symbols, None if that was not proved."""
    if isinstance(a, int) and isinstance(b, int):
        return OPS[op](a, b)
    if a == b:
        return op in ("==", "<=", ">=")
    return _decide(op, a, b)


@lru_cache(maxsize=1 << 14)
def _decide(op: Op, a: Dim, b: Dim) -> bool | None:
    difference = add(unwrap(a), unwrap(b), -1)
    if op in ("==", "!="):
        return _negated(_is_zero(difference), op == "!=")
    if op in ("<=", ">"):
        return _negated(_is_natural(scaled(difference, -1)), op == ">")
    return _negated(_is_natural(difference), op == "<")


def proved_natural(terms: Terms) -> bool:
    """Whether terms >= 0 for all values."""
    return decide(">=", wrap(terms), 0) is True


def _negated(answer: bool | None, negate: bool) -> bool | None:
    return answer if answer is None or not negate else not answer


def _is_natural(terms: Terms) -> bool | None:
    """Whether terms >= 0."""
    quick = _quick_natural(terms)
    if quick is not None:
        return quick
    seen = {value >= 0 for _, value in _samples(terms)}
    return None if len(seen) > 1 else _by_cases(terms, seen.pop(), _case_natural)


def _quick_natural(terms: Terms) -> bool | None:
    low = lower(terms)
    if low is not None and low >= 0:
        return True
    high = upper(terms)
    return False if high is not None and high < 0 else None


def _is_zero(terms: Terms) -> bool | None:
    """Whether terms == 0."""
    quick = _quick_zero(terms)
    if quick is not None:
        return quick
    seen = {value == 0 for _, value in _samples(terms)}
    return None if len(seen) > 1 else _by_cases(terms, seen.pop(), _case_zero)


def _quick_zero(terms: Terms) -> bool | None:
    if not terms:
        return True
    common = gcd(*(value for mono, value in terms.items() if mono))
    if common == 0 or terms.get((), 0) % common:
        return False
    low = lower(terms)
    high = upper(terms)
    return False if (low is not None and low > 0) or (high is not None and high < 0) else None


def _case_natural(terms: Terms) -> bool | None:
    quick = _quick_natural(terms)
    return quick if quick is not None else _by_tail(terms, _quick_natural, lambda value: value >= 0)


def _case_zero(terms: Terms) -> bool | None:
    quick = _quick_zero(terms)
    return quick if quick is not None else _by_tail(terms, _quick_zero, lambda value: value == 0)


def _by_cases(terms: Terms, expected: bool, decide_case: Callable[[Terms], bool | None]) -> bool | None:
    """`expected` if every residue class of the symbols gives it."""
    periods: dict[str, int] = {}
    _collect_periods(terms, 1, periods)
    count = 1
    for period in periods.values():
        count *= period
    if count > _MAX_CASES:
        periods = {}
    try:
        for residues in product(*(range(period) for period in periods.values())):
            env = {
                name: _stepped(name, period, residue + least(name) * (1 - period))
                for (name, period), residue in zip(periods.items(), residues, strict=True)
                if period > 1
            }
            if decide_case(rebuilt(terms, env)) is not expected:
                return None
    except DimError:
        return None
    return expected


def _stepped(name: str, factor: int, offset: int) -> Terms:
    """factor * symbol + offset."""
    return shift({(make_symbol(name),): factor}, offset)


def _collect_periods(terms: Terms, scale: int, periods: dict[str, int]) -> None:
    """For each symbol the number by whose multiples every floor around it steps evenly."""
    for mono in terms:
        for atom in mono:
            if isinstance(atom, Symbol):
                periods[atom.name] = lcm(periods.get(atom.name, 1), scale)
            elif isinstance(atom, Floor):
                divisor = as_constant(atom.den)
                _collect_periods(atom.num, scale * (divisor or 1), periods)
                if divisor is None:
                    _collect_periods(atom.den, scale, periods)
            else:
                assert isinstance(atom, Extremum)
                for arg in atom.args:
                    _collect_periods(arg, scale, periods)


def _by_tail(terms: Terms, quick: Callable[[Terms], bool | None], holds: Callable[[int], bool]) -> bool | None:
    """For one symbol: small values one by one, the rest by bounds."""
    names = names_of(terms)
    if len(names) != 1:
        return None
    (name,) = names
    for start in _TAILS:
        found = {holds(value_of(terms, {name: value})) for value in range(least(name), start + 1)}
        if len(found) > 1:
            return None
        rest = quick(rebuilt(terms, {name: _stepped(name, 1, start)}))
        if rest is not None:
            return rest if found == {rest} else None
    return None


def _samples(terms: Terms) -> Iterator[tuple[dict[str, int], int]]:
    """Assignments, small ones first, and the values there."""
    names = sorted(names_of(terms))
    values = sorted({*_SMALL, *_turning_points(terms)})
    if len(names) > 1:
        values = [*values[: max(3, round(_MAX_SAMPLES ** (1 / len(names))))], values[-1]]
    each = [[0, *values] if least(name) == 0 else values for name in reversed(names)]
    for chosen in islice(product(*each), _MAX_SAMPLES):
        env = dict(zip(names, reversed(chosen), strict=True))
        yield env, value_of(terms, env)


def _turning_points(terms: Terms) -> Iterator[int]:
    """Values at which a linear expression changes its sign."""
    offset = abs(terms.get((), 0))
    for mono, value in terms.items():
        if mono:
            near = offset // abs(value)
            yield from (v for v in (near - 1, near, near + 1) if 0 < v < 1 << 40)


def witnesses(op: Op, a: Dim, b: Dim) -> tuple[dict[str, int], dict[str, int]] | None:
    """Values of the symbols for which `a op b` holds, and others for which it fails; None where the search found none.

    For messages: "holds for H=4, not for H=5".
    """
    difference = add(unwrap(a), unwrap(b), -1)
    found: dict[bool, dict[str, int]] = {}
    for env, value in _samples(difference):
        found.setdefault(OPS[op](value, 0), env)
        if len(found) == 2:
            return found[True], found[False]
    return None


def is_size(dim: Dim) -> bool:
    """Whether it is proved to be a size that an axis may have: 1 or more, or where counts are in it, 0 or more."""
    low = bounds(dim)[0]
    return low is not None and low >= (0 if isinstance(dim, Expr) and dim.counts else 1)


def bounds(dim: Dim) -> tuple[int | None, int | None]:
    """Proved lower and upper bounds, None where there is none to be had."""
    if not isinstance(dim, Expr):
        return dim, dim
    return lower(dim.terms), upper(dim.terms)
