"""The text of a polynomial as people write it: `(H + 1)//2`, `12*H*W`, `N**2 - 1`."""

from __future__ import annotations

from itertools import groupby

from netdsl.ir.dims.floor import shortened
from netdsl.ir.dims.terms import Atom, Extremum, Floor, Mono, Symbol, Terms, order


def terms_text(terms: Terms) -> str:
    """Positive terms first, among them higher degrees first, the constant last."""
    terms, _ = shortened(terms)
    if not terms:
        return "0"
    monos = sorted(terms, key=lambda mono: (terms[mono] < 0, order(mono)))
    if terms.get((), 0) > 0 and any(terms[mono] > 0 for mono in monos if mono):
        monos.remove(())
        monos.append(())
    text = _term(monos[0], terms[monos[0]], first=True)
    for mono in monos[1:]:
        sign = "-" if terms[mono] < 0 else "+"
        text += f" {sign} {_term(mono, abs(terms[mono]))}"
    return text


def _term(mono: Mono, value: int, first: bool = False) -> str:
    """One term; a floor that stands alone needs no parentheses, unless a sign would bind to its numerator."""
    if len(mono) == 1 and value == 1 and isinstance(mono[0], Floor):
        return _floor(mono[0])
    factors = [_power(atom, len(list(group))) for atom, group in groupby(mono)]
    sign = "-" if value < 0 else ""
    if abs(value) != 1 or not mono:
        factors.insert(0, str(abs(value)))
    return sign + "*".join(factors)


def _power(atom: Atom, count: int) -> str:
    text = _factor(atom)
    return text if count == 1 else f"{text}**{count}"


def _factor(atom: Atom) -> str:
    if isinstance(atom, Symbol):
        return atom.name
    if isinstance(atom, Floor):
        return f"({_floor(atom)})"
    assert isinstance(atom, Extremum)
    return f"{atom.kind}({', '.join(sorted(map(terms_text, atom.args)))})"


def _floor(atom: Floor) -> str:
    num, den = terms_text(atom.num), terms_text(atom.den)
    if not num.isidentifier() and not _is_product(atom.num):
        num = f"({num})"
    if not den.isidentifier() and not den.isdigit():
        den = f"({den})"
    return f"{num}//{den}"


def _is_product(terms: Terms) -> bool:
    """Whether the text is a product of symbols and numbers, which `//` may follow directly."""
    ((mono, value), *more) = terms.items()
    return not more and value > 0 and all(isinstance(atom, Symbol) for atom in mono)
