"""Floor division, max and min of polynomials, brought into canonical form.

For a positive integer k, with X the terms that are not constant and c the constant:

- floor((k*Q + R) / k) = Q + floor(R / k): coefficients of R lie in (-k/2, k/2], its constant in [0, k);
- floor((g*X + c) / (g*k)) = floor((X + floor(c/g)) / k);
- floor(P / k) = -1 - floor((-P - 1) / k): the first coefficient that tells is positive; for k = 2 the constant is 0;
- floor((floor(A/a) + S) / k) = floor((A + a*S) / (a*k)), and back where S holds a floor too (`_unmerged`).

Any chain of strided layers over an axis c*H + d thus is one floor, however it is written. Rarer identities between
several floors (Hermite's: H//3 + (H + 1)//3 + (H + 2)//3 = H) are left to `decide`, which proves them by cases.

The third rule turns the ceiling (H + 1)//2 into H - H//2, which `shortened` undoes before nested floors are merged and
before a dimension is printed.
"""

from __future__ import annotations

from collections.abc import Callable
from math import gcd

from netdsl.ir.dims.bounds import atom_bounds, lower, upper
from netdsl.ir.dims.terms import (
    Extremum,
    Floor,
    Mono,
    Symbol,
    Terms,
    ZeroDivisorError,
    add,
    as_constant,
    constant,
    divide,
    floors_of,
    make_extremum,
    make_floor,
    mul,
    order,
    raw_text,
    replace,
    scaled,
    shift,
    without,
)

Undo = list[tuple[Floor, Terms]]


def floor_div(num: Terms, den: Terms) -> Terms:
    """floor(num / den). Raises ZeroDivisorError where `den` is not proved to be positive or negative."""
    value = as_constant(den)
    if value is not None:
        if value == 0:
            raise ZeroDivisorError("division by zero")
        return _by_int(num, value) if value > 0 else _by_int(scaled(num, -1), -value)
    if (lower(den) or 0) > 0:
        return _by_terms(num, den)
    high = upper(den)
    if high is not None and high < 0:
        return _by_terms(scaled(num, -1), scaled(den, -1))
    raise ZeroDivisorError("division by an expression that may be zero")


def _residue(terms: Terms, k: int) -> Terms:
    """`terms` modulo k: the constant in [0, k), the other coefficients in (-k/2, k/2]."""
    result: Terms = {}
    for mono, value in terms.items():
        value %= k
        if mono and 2 * value > k:
            value -= k
        if value:
            result[mono] = value
    return result


def _quotient(terms: Terms, rest: Terms, k: int) -> Terms:
    return {mono: value // k for mono, value in add(terms, rest, -1).items()}


def _by_int(num: Terms, k: int, merge: bool = True) -> Terms:
    if k == 1:
        return num
    if merge and (flat := _flattened(num, k)) is not None:
        return flat
    common = gcd(k, *(value for mono, value in num.items() if mono))
    if common > 1:
        return _by_int({mono: v for mono, value in num.items() if (v := value // common)}, k // common, merge)
    rest = _residue(num, k)
    whole = _quotient(num, rest, k)
    return whole if as_constant(rest) is not None else add(whole, _settled(rest, k, merge))


def _flattened(num: Terms, k: int) -> Terms | None:
    """floor(num / k) where a floor in `num` merges with the division; else None."""
    short, undo = shortened(num, k)
    rest = _residue(short, k)
    if k == 2:  # 1 and -1 are the same residue: the sign as written leads to ceilings of ceilings
        rest = {mono: -1 if mono and short[mono] < 0 else value for mono, value in rest.items()}
    if _is_opposite(rest):
        return shift(scaled(_by_int(shift(scaled(num, -1), -1), k), -1), -1)
    flat = _merged(rest, k)
    if flat is None:
        return None
    whole = _quotient(short, rest, k)
    for atom, original in undo:
        whole, flat = replace(whole, atom, original), (replace(flat[0], atom, original), flat[1])
    return add(whole, floor_div(*flat))


def _is_opposite(terms: Terms) -> bool:
    """Whether this is c - floor(A / B), B not constant, which merges with its sign turned."""
    monos = [mono for mono in terms if mono]
    if len(monos) != 1 or len(monos[0]) != 1 or terms[monos[0]] != -1:
        return False
    atom = monos[0][0]
    return isinstance(atom, Floor) and as_constant(atom.den) is None


def _merged(rest: Terms, k: int) -> tuple[Terms, Terms] | None:
    """(n, d) with floor(n / d) == floor(rest / k)."""
    for atom in floors_of(rest):
        value = rest.get((atom,))
        divisor = as_constant(atom.den)
        others = {mono: v for mono, v in rest.items() if mono != (atom,)}
        if divisor is None:
            if value == 1 and as_constant(others) is not None:
                return add(atom.num, scaled(atom.den, others.get((), 0))), scaled(atom.den, k)
        elif value == 1:
            return add(atom.num, scaled(others, divisor)), constant(divisor * k)
        elif value == -1:
            return shift(add(scaled(others, divisor), atom.num, -1), divisor - 1), constant(divisor * k)
    return None


def _settled(rest: Terms, k: int, merge: bool) -> Terms:
    """floor(rest / k) for a residue whose coefficients and k have no common factor."""
    telling = next((rest[m] for m in sorted(rest, key=order) if m and 2 * rest[m] != k), None)
    if (rest.get((), 0) == 1) if telling is None else telling < 0:
        flipped = shift(scaled(rest, -1), -1)
        return shift(scaled(_by_int(flipped, k, merge), -1), -1)
    split = _unmerged(rest, k)
    if split is not None:
        inner, outer, common = split
        return _by_int(add(outer, _by_int(inner, common)), k // common, merge=False)
    if any(not isinstance(a, Symbol) for mono in rest for a in mono):
        low, high = lower(rest), upper(rest)
        if low is not None and high is not None and low // k == high // k:
            return constant(low // k)
    return {(make_floor(rest, constant(k)),): 1}


def _unmerged(rest: Terms, k: int) -> tuple[Terms, Terms, int] | None:
    """(i, o, g) with floor(rest / k) == floor((floor(i / g) + o) / (k / g)), where o holds a floor.

    Of floor((H//2 + W//2) / 2) either floor could merge; this undoes both in the same way.
    """
    common = max(gcd(value, k) for mono, value in rest.items() if mono)
    outer = {mono: q for mono, v in rest.items() if (q := v // common) and (not mono or v % common == 0)}
    if common == 1 or not any(True for _ in floors_of(outer)):
        return None
    if any(as_constant(atom.den) is None for atom in floors_of(rest)):
        return None
    inner = {mono: v for mono, v in rest.items() if mono and v % common}
    return shift(inner, rest.get((), 0) % common), outer, common


def shortened(terms: Terms, k: int | None = None) -> tuple[Terms, Undo]:
    """Fewer terms of the same value (modulo k, if given), by writing floors as what a ceiling leaves over.

    The new atoms are not canonical: the second result says what to put back for each of them.
    """
    undo: Undo = []
    for atom in floors_of(terms):
        if len(terms) < 2:
            break
        divisor = as_constant(atom.den)
        if divisor is None:
            continue
        flipped = {mono: -v % divisor for mono, v in atom.num.items() if mono}
        spread = {mono: (flipped[mono] + v) // divisor for mono, v in atom.num.items() if mono}
        spread = {mono: v for mono, v in spread.items() if v}
        other = make_floor(shift(flipped, divisor - 1 - atom.num.get((), 0)), atom.den)
        found = replace(terms, atom, add(spread, {(other,): 1}, -1))
        if _count(found, k) < _count(terms, k):
            terms = found
            undo.append((other, add(spread, {(atom,): 1}, -1)))
    return terms, undo


def _count(terms: Terms, k: int | None) -> int:
    return len(terms) if k is None else sum(1 for mono, value in terms.items() if mono and value % k)


def _by_terms(num: Terms, den: Terms) -> Terms:
    """floor(num / den) for den > 0 that is not constant."""
    whole, rest = divide(num, den)
    if not rest:
        return whole
    reduced = _cancelled(rest, den)
    if reduced is not None:
        return add(whole, floor_div(*reduced))
    if natural(rest) and natural(shift(add(den, rest, -1), -1)):
        return whole
    added, flipped = divide(shift(scaled(rest, -1), -1), den)
    if _rank(flipped, den) < _rank(rest, den):
        return shift(add(add(whole, added, -1), _by_terms(flipped, den), -1), -1)
    for atom in floors_of(rest):
        if rest.get((atom,)) == 1 and len(rest) == 1 + (() in rest):
            merged = add(atom.num, scaled(atom.den, rest.get((), 0)))
            return add(whole, floor_div(merged, mul(atom.den, den)))
    return add(whole, {(make_floor(rest, den),): 1})


def _rank(rest: Terms, den: Terms) -> tuple[bool, str]:
    """Tells which of a numerator and its opposite is kept: the one whose first term beyond `den` is positive."""
    lead = min(den, key=order)
    telling = next((m for m in sorted(rest, key=order) if without(m, lead) is None), None)
    return telling is not None and rest[telling] < 0, raw_text(rest)


def _cancelled(num: Terms, den: Terms) -> tuple[Terms, Terms] | None:
    """Numerator and denominator without their common positive factor; None where there is none."""
    common = gcd(*(value for mono, value in num.items() if mono), *den.values())
    if common > 1:
        smaller = {mono: v for mono, value in num.items() if (v := value // common)}
        return smaller, {mono: value // common for mono, value in den.items()}
    monos = [*num, *den]
    for atom in monos[0]:
        if all(atom in mono for mono in monos) and (atom_bounds(atom)[0] or 0) > 0:
            return _divided(num, (atom,)), _divided(den, (atom,))
    return None


def _divided(terms: Terms, part: Mono) -> Terms:
    return {left: value for mono, value in terms.items() if (left := without(mono, part)) is not None}


def natural(terms: Terms) -> bool:
    """Whether bounds prove terms >= 0."""
    low = lower(terms)
    return low is not None and low >= 0


def extremum(kind: str, operands: list[Terms], natural: Callable[[Terms], bool] = natural) -> Terms:
    """The largest or smallest of the operands; those that another one dominates, as `natural` proves, are left out."""
    sign = 1 if kind == "max" else -1
    kept: list[Terms] = []
    for operand in _spread(kind, operands):
        if any(natural(scaled(add(k, operand, -1), sign)) for k in kept):
            continue
        kept = [k for k in kept if not natural(scaled(add(operand, k, -1), sign))]
        kept.append(operand)
    if len(kept) == 1:
        return kept[0]
    return {(make_extremum(kind, tuple(sorted(kept, key=raw_text))),): 1}


def _spread(kind: str, operands: list[Terms]) -> list[Terms]:
    """The operands, with those of a max inside a max in its place."""
    result: list[Terms] = []
    for operand in operands:
        mono = next(iter(operand), ())
        atom = mono[0] if len(operand) == 1 and len(mono) == 1 and operand[mono] == 1 else None
        inner = atom.args if isinstance(atom, Extremum) and atom.kind == kind else (operand,)
        result.extend(inner)
    return result
