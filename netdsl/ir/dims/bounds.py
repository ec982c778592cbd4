"""Proved bounds of polynomials over atoms: symbols are at least 1, counts at least 0, a floor is less than 1 below its
quotient."""

from __future__ import annotations

from functools import lru_cache

from netdsl.ir.dims.terms import (
    Atom,
    DimError,
    Extremum,
    Floor,
    Symbol,
    Terms,
    add,
    as_constant,
    cofactor,
    constant,
    divide,
    floors_of,
    mul,
    scaled,
    shift,
)

_MAX_DEGREE = 8  # a product of more factors is not expanded
_ROUNDS = 3  # floors inside floors that are replaced by their quotients


def lower(terms: Terms, rounds: int = _ROUNDS) -> int | None:
    """A number that `terms` never falls below, None if none was found."""
    try:
        best = _shifted(terms)
    except DimError:  # coefficients near the limit
        best = None
    if rounds and any(True for _ in floors_of(terms)):
        for negative_only in (True, False):
            try:
                relaxed, scale = _relaxed(terms, negative_only)
            except DimError:
                continue
            if relaxed is not terms and (found := lower(relaxed, rounds - 1)) is not None:
                found = -(-found // scale)
                best = found if best is None else max(best, found)
    return best


def upper(terms: Terms) -> int | None:
    """A number that `terms` never exceeds, None if none was found."""
    found = lower(scaled(terms, -1))
    return None if found is None else -found


def _shifted(terms: Terms) -> int | None:
    """Writes each atom as its lower bound plus u >= 0; terms that cannot be negative are then left out."""
    total = terms.get((), 0)
    expanded: Terms = {}
    for mono, value in terms.items():
        if not mono:
            continue
        part: Terms = {(): value}
        if len(mono) > _MAX_DEGREE:
            return None
        for atom in mono:
            low = atom_bounds(atom)[0]
            if low is None:
                return None
            part = mul(part, add({(atom,): 1}, constant(low)))
        expanded = add(expanded, part)
    total += expanded.pop((), 0)
    for mono, value in expanded.items():
        if value > 0:
            continue
        for atom in mono:
            low, high = atom_bounds(atom)
            if low is None or high is None:
                return None
            value *= high - low
        total += value
    return total


def _sign(terms: Terms) -> int:
    """1 or -1 where every term has that sign (or is zero), else 0."""
    if any(_negative(a) for mono in terms for a in mono):
        return 0
    if all(v > 0 for v in terms.values()):
        return 1
    return -1 if all(v < 0 for v in terms.values()) else 0


def _negative(atom: Atom) -> bool:
    """Whether the atom may be negative for all that is known."""
    low = atom_bounds(atom)[0]
    return low is None or low < 0


def _relaxed(terms: Terms, negative_only: bool) -> tuple[Terms, int]:
    """(t, s) with t <= s * terms: (num - den + 1) / den <= floor(num / den) <= num / den put for the floors."""
    scale = 1
    for atom in list(floors_of(terms)):
        split = cofactor(terms, atom)
        if split is None:
            continue
        factor, rest = split
        sign = _sign(factor)
        if sign == 0 or (sign > 0 and negative_only):
            continue
        divisor = as_constant(atom.den)
        if divisor is None:
            factor, remainder = divide(factor, atom.den)
            if remainder or _sign(factor) != sign:
                continue
        else:
            rest, scale = scaled(rest, divisor), scale * divisor
        least = atom.num if sign < 0 else shift(add(atom.num, atom.den, -1), 1)
        terms = add(rest, mul(factor, least))
    return terms, scale


@lru_cache(maxsize=1 << 14)
def atom_bounds(atom: Atom) -> tuple[int | None, int | None]:
    """Bounds of one atom."""
    if isinstance(atom, Floor):
        return _floor_bounds(atom)
    if isinstance(atom, Extremum):
        lows, highs = [lower(a) for a in atom.args], [upper(a) for a in atom.args]
        return (_most(lows), _all_most(highs)) if atom.kind == "max" else (_all_least(lows), _least(highs))
    assert isinstance(atom, Symbol)
    return atom.low, None


def _most(values: list[int | None]) -> int | None:
    return max((v for v in values if v is not None), default=None)


def _least(values: list[int | None]) -> int | None:
    return min((v for v in values if v is not None), default=None)


def _all_most(values: list[int | None]) -> int | None:
    return None if None in values else _most(values)


def _all_least(values: list[int | None]) -> int | None:
    return None if None in values else _least(values)


def _floor_bounds(atom: Floor) -> tuple[int | None, int | None]:
    low, high = lower(atom.num), upper(atom.num)
    small = max(lower(atom.den) or 1, 1)
    large = upper(atom.den)
    if low is not None:
        if low < 0:
            low //= small
        else:
            low = 0 if large is None else low // large
    if high is not None:
        if high >= 0:
            high //= small
        else:
            high = -1 if large is None else high // large
    return low, high
