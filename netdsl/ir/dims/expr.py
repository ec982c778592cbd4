"""`Dim`: a Python int, or an `Expr`, an immutable symbolic integer in canonical form."""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

from netdsl.ir.dims.floor import floor_div
from netdsl.ir.dims.rebuild import names_of
from netdsl.ir.dims.terms import (
    COUNT,
    DimError,
    Symbol,
    Terms,
    add,
    checked,
    constant,
    make_symbol,
    mul,
    power,
    scaled,
    shift,
)
from netdsl.ir.dims.text import terms_text


class Expr:
    """A polynomial with integer coefficients over symbols (integers of at least 1), counts (of at least 0) and floor
    divisions; never constant.

    Equal expressions are equal in canonical form. Operators are Python's on integers: `+ - * // %`, unary `-`, `**`
    with an int that is not negative; they return an int where the symbols cancel. Raises ZeroDivisorError (a
    ZeroDivisionError) for a divisor not proved to differ from zero, DimError for a result that is too large.
    Not ordered: `dims.decide` compares.
    """

    __slots__ = ("_hash", "_symbols", "_text", "terms")

    def __init__(self, terms: Terms) -> None:
        """Wraps canonical terms, which must not be constant; `wrap` decides that."""
        self.terms = terms
        self._hash: int | None = None
        self._text: str | None = None
        self._symbols: frozenset[str] | None = None

    @property
    def symbols(self) -> frozenset[str]:
        """The names of the symbols."""
        if self._symbols is None:
            self._symbols = names_of(self.terms)
        return self._symbols

    @property
    def counts(self) -> frozenset[str]:
        """Those of the symbols that are counts: known only when the model has seen its data."""
        return frozenset(name for name in self.symbols if name.endswith(COUNT))

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self.terms.items()))
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Expr) and self.terms == other.terms

    def __bool__(self) -> bool:
        raise DimError("whether a symbolic dimension is zero is not known: use decide()")

    def __str__(self) -> str:
        if self._text is None:
            self._text = terms_text(self.terms)
        return self._text

    def __repr__(self) -> str:
        return f"Dim({str(self)!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return Expr, (self.terms,)

    def __add__(self, other: Dim) -> Dim:
        if isinstance(other, Expr):
            return wrap(add(self.terms, other.terms))
        return wrap(shift(self.terms, other)) if isinstance(other, int) else NotImplemented

    __radd__ = __add__

    def __sub__(self, other: Dim) -> Dim:
        if isinstance(other, Expr):
            return wrap(add(self.terms, other.terms, -1))
        return wrap(shift(self.terms, -other)) if isinstance(other, int) else NotImplemented

    def __rsub__(self, other: int) -> Dim:
        return wrap(shift(scaled(self.terms, -1), other)) if isinstance(other, int) else NotImplemented

    def __neg__(self) -> Dim:
        return Expr(scaled(self.terms, -1))

    def __pos__(self) -> Dim:
        return self

    def __mul__(self, other: Dim) -> Dim:
        if isinstance(other, Expr):
            return wrap(mul(self.terms, other.terms))
        return wrap(scaled(self.terms, other)) if isinstance(other, int) else NotImplemented

    __rmul__ = __mul__

    def __floordiv__(self, other: Dim) -> Dim:
        return _divided(self, other) if isinstance(other, int | Expr) else NotImplemented

    def __rfloordiv__(self, other: int) -> Dim:
        return _divided(other, self) if isinstance(other, int) else NotImplemented

    def __mod__(self, other: Dim) -> Dim:
        return _remainder(self, other) if isinstance(other, int | Expr) else NotImplemented

    def __rmod__(self, other: int) -> Dim:
        return _remainder(other, self) if isinstance(other, int) else NotImplemented

    def __pow__(self, exponent: int) -> Dim:
        if not isinstance(exponent, int):
            return NotImplemented
        if exponent < 0:
            raise DimError("a dimension to a negative power is not an integer")
        return wrap(power(self.terms, exponent))


Dim: TypeAlias = int | Expr


def wrap(terms: Terms) -> Dim:
    """The dimension of canonical terms: an int if they are constant. Raises DimError if they are too large."""
    if len(terms) <= 1:
        if not terms:
            return 0
        if () in terms:
            return terms[()]
    return Expr(checked(terms))


def unwrap(dim: Dim) -> Terms:
    """The terms of a dimension."""
    return dim.terms if isinstance(dim, Expr) else constant(dim)


@lru_cache(maxsize=1 << 14)
def _divided(num: Dim, den: Dim) -> Dim:
    try:
        return wrap(floor_div(unwrap(num), unwrap(den)))
    except ZeroDivisionError as error:
        raise type(error)(f"division by {den}, which may be zero" if isinstance(den, Expr) else str(error)) from None


@lru_cache(maxsize=1 << 14)
def _remainder(num: Dim, den: Dim) -> Dim:
    return num - den * _divided(num, den)


def count(name: str) -> Expr:
    """The count of that name, an integer of 0 or more that depends on the data; it is written `name?`."""
    return symbol(name + COUNT)


@lru_cache(maxsize=1024)
def symbol(name: str) -> Expr:
    """The symbol of that name, a positive integer."""
    atom: Symbol = make_symbol(name)
    return Expr({(atom,): 1})
