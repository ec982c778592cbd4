"""Polynomials with integer coefficients over atoms: the representation below `Expr`.

`Terms` maps a monomial (a sorted tuple of atoms, with repetition; `()` is the constant) to its coefficient, never zero.
Atoms are interned, so that identity is equality and monomials hash at C speed. Order never comes from hashes: it comes
from the atoms' keys, by degree and then lexicographically, an admissible order as polynomial division needs it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from functools import lru_cache
from weakref import WeakValueDictionary

MAX_TERMS = 500
MAX_BITS = 4096
MAX_DEGREE = 64
MAX_SIZE = 2000  # terms of an expression with those inside its atoms counted in
MAX_DEPTH = 32  # atoms inside atoms


class DimError(ArithmeticError):
    """A symbolic dimension that cannot be formed: too large, not readable, or divided by what may be zero."""


class ZeroDivisorError(DimError, ZeroDivisionError):
    """A division by zero, or by an expression that cannot be proved to differ from zero."""


class Atom:
    """An integer unknown before run time that no polynomial describes. `key` orders atoms and tells them apart."""

    __slots__ = ("__weakref__", "depth", "key", "names", "size")
    key: str
    names: frozenset[str]
    size: int
    depth: int


COUNT = "?"  #: what the name of a count ends with


class Symbol(Atom):
    """A positive integer that the user named; or, where the name ends in `?`, a count: one of 0 or more that depends
    on the data (how many boxes a suppression keeps)."""

    __slots__ = ("name",)
    name: str

    @property
    def low(self) -> int:
        """The smallest value."""
        return least(self.name)

    def __reduce__(self) -> tuple[object, ...]:
        return make_symbol, (self.name,)


class Floor(Atom):
    """floor(num / den), den > 0."""

    __slots__ = ("den", "num")
    num: Terms
    den: Terms

    def __reduce__(self) -> tuple[object, ...]:
        return make_floor, (self.num, self.den)


class Extremum(Atom):
    """The largest or smallest (`kind` is "max" or "min") of two or more operands."""

    __slots__ = ("args", "kind")
    kind: str
    args: tuple[Terms, ...]

    def __reduce__(self) -> tuple[object, ...]:
        return make_extremum, (self.kind, self.args)


Mono = tuple[Atom, ...]
Terms = dict[Mono, int]

_atoms: WeakValueDictionary[str, Atom] = WeakValueDictionary()
_lock = threading.Lock()


def _intern(atom: Atom, key: str, parts: Iterable[Terms]) -> Atom:
    parts = tuple(parts)
    atom.key = key
    inner = [a for part in parts for mono in part for a in mono]
    atom.names = frozenset().union(*(a.names for a in inner))
    atom.depth = 1 + max((a.depth for a in inner), default=0)
    atom.size = 1 + sum(map(len, parts)) + sum(a.size for a in inner)
    if atom.size > MAX_SIZE or atom.depth > MAX_DEPTH:
        raise DimError("the expression is too large: divisions nested too deep")
    with _lock:
        return _atoms.setdefault(key, atom)


def least(name: str) -> int:
    """The smallest value of the symbol or count of that name."""
    return 0 if name.endswith(COUNT) else 1


@lru_cache(maxsize=4096)
def make_symbol(name: str) -> Symbol:
    atom = Symbol()
    atom.name, atom.names, atom.size, atom.depth, atom.key = name, frozenset((name,)), 1, 0, name
    with _lock:
        found = _atoms.setdefault(name, atom)
    assert isinstance(found, Symbol)
    return found


def make_floor(num: Terms, den: Terms) -> Floor:
    """The atom as given; `floor.floor_div` brings it into canonical form first."""
    key = f"~({raw_text(num)})//({raw_text(den)})"  # "~" sorts behind every name
    found = _atoms.get(key)
    if found is None:
        atom = Floor()
        atom.num, atom.den = num, den
        found = _intern(atom, key, (num, den))
    assert isinstance(found, Floor)
    return found


def make_extremum(kind: str, args: tuple[Terms, ...]) -> Extremum:
    """The atom as given; `floor.extremum` brings it into canonical form first."""
    key = f"~{kind}({','.join(map(raw_text, args))})"
    found = _atoms.get(key)
    if found is None:
        atom = Extremum()
        atom.kind, atom.args = kind, args
        found = _intern(atom, key, args)
    assert isinstance(found, Extremum)
    return found


@lru_cache(maxsize=1 << 14)
def order(mono: Mono) -> tuple[int, tuple[str, ...]]:
    """Sort key of monomials: higher degree first, then by the names of the atoms, the constant last."""
    return -len(mono), tuple(atom.key for atom in mono)


def raw_text(terms: Terms) -> str:
    """One-to-one, for keys; people read `text.to_text`."""
    parts = (f"{terms[m]}" + "".join(f"*{a.key}" for a in m) for m in sorted(terms, key=order))
    return "+".join(parts)


def _atom_key(atom: Atom) -> str:
    return atom.key


def join(a: Mono, b: Mono) -> Mono:
    """The product of two monomials."""
    if not a or not b:
        return a or b
    if len(a) + len(b) > MAX_DEGREE:
        raise DimError(f"the expression is too large: a product of more than {MAX_DEGREE} factors")
    return tuple(sorted(a + b, key=_atom_key))


def constant(value: int) -> Terms:
    return {(): value} if value else {}


def as_constant(terms: Terms) -> int | None:
    """The value of a constant polynomial, else None."""
    if not terms:
        return 0
    return terms.get(()) if len(terms) == 1 else None


_BIG = 1 << MAX_BITS


def checked(terms: Terms) -> Terms:
    """`terms` itself. Raises DimError beyond the limits on terms and coefficients."""
    if len(terms) > MAX_TERMS:
        raise DimError(f"the expression is too large: more than {MAX_TERMS} terms")
    for value in terms.values():
        if not -_BIG < value < _BIG:
            raise DimError(f"the expression is too large: a coefficient of more than {MAX_BITS} bits")
    return terms


def add(a: Terms, b: Terms, scale: int = 1) -> Terms:
    """a + scale * b."""
    result = dict(a)
    for mono, value in b.items():
        total = result.get(mono, 0) + scale * value
        if total:
            result[mono] = total
        else:
            result.pop(mono, None)
    return result


def scaled(a: Terms, factor: int) -> Terms:
    return {mono: value * factor for mono, value in a.items()} if factor else {}


def mul(a: Terms, b: Terms) -> Terms:
    result: Terms = {}
    for left, x in a.items():
        for right, y in b.items():
            mono = join(left, right)
            result[mono] = result.get(mono, 0) + x * y
    return checked({mono: value for mono, value in result.items() if value})


def power(a: Terms, exponent: int) -> Terms:
    if exponent * max((len(m) for m in a), default=0) > MAX_DEGREE:
        raise DimError(f"the expression is too large: a product of more than {MAX_DEGREE} factors")
    result: Terms = {(): 1}
    for _ in range(exponent):
        result = mul(result, a)
    return result


def shift(a: Terms, value: int) -> Terms:
    """a + value."""
    return add(a, {(): value}) if value else a


def atoms_of(terms: Terms) -> list[Atom]:
    """The atoms at the surface, each once, in order."""
    return sorted({a for mono in terms for a in mono}, key=_atom_key)


def floors_of(terms: Terms) -> Iterator[Floor]:
    return (a for a in atoms_of(terms) if isinstance(a, Floor))


def cofactor(terms: Terms, atom: Atom) -> tuple[Terms, Terms] | None:
    """(c, rest) with terms == c * atom + rest; None if the atom stands in a higher power."""
    found: Terms = {}
    rest: Terms = {}
    for mono, value in terms.items():
        count = mono.count(atom)
        if count > 1:
            return None
        if count:
            found[tuple(a for a in mono if a is not atom)] = value
        else:
            rest[mono] = value
    return found, rest


def replace(terms: Terms, atom: Atom, value: Terms) -> Terms:
    """`terms` with a polynomial put for an atom at the surface."""
    result: Terms = {}
    for mono, factor in terms.items():
        count = mono.count(atom)
        if count:
            part = mul({tuple(a for a in mono if a is not atom): factor}, power(value, count))
            result = add(result, part)
        else:
            result = add(result, {mono: factor})
    return result


def without(mono: Mono, part: Mono) -> Mono | None:
    """mono / part, None if it does not divide."""
    rest = list(mono)
    for atom in part:
        if atom not in rest:
            return None
        rest.remove(atom)
    return tuple(rest)


def divide(num: Terms, den: Terms) -> tuple[Terms, Terms]:
    """(q, r) with num == q * den + r, and no term of r that the leading term of den still reduces.

    r depends only on num modulo den: one polynomial is a Gröbner basis of the multiples of it.
    """
    lead = min(den, key=order)
    factor = den[lead]
    quotient: Terms = {}
    rest = dict(num)
    done: set[Mono] = set()
    while True:
        mono = min((m for m in rest if m not in done), key=order, default=None)
        if mono is None:
            return quotient, rest
        done.add(mono)
        left = without(mono, lead)
        times = 0 if left is None else rest[mono] // factor
        if left is not None and times:
            part = {left: times}
            quotient = add(quotient, part)
            rest = checked(add(rest, mul(part, den), -1))
