"""Putting values for symbols: numbers (`value_of`) or polynomials (`rebuilt`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from netdsl.ir.dims.floor import extremum, floor_div, natural
from netdsl.ir.dims.terms import Atom, Extremum, Floor, Symbol, Terms, add, mul


def names_of(terms: Terms) -> frozenset[str]:
    """The symbols of a polynomial, those inside its atoms too."""
    return frozenset().union(*(atom.names for mono in terms for atom in mono))


def value_of(terms: Terms, env: Mapping[str, int]) -> int:
    """The number for given numbers. Raises KeyError for a symbol that has none."""
    total = 0
    for mono, value in terms.items():
        for atom in mono:
            value *= _atom_value(atom, env)
        total += value
    return total


def _atom_value(atom: Atom, env: Mapping[str, int]) -> int:
    if isinstance(atom, Symbol):
        return env[atom.name]
    if isinstance(atom, Floor):
        return value_of(atom.num, env) // value_of(atom.den, env)
    assert isinstance(atom, Extremum)
    values = [value_of(arg, env) for arg in atom.args]
    return max(values) if atom.kind == "max" else min(values)


def rebuilt(terms: Terms, env: Mapping[str, Terms], natural: Callable[[Terms], bool] = natural) -> Terms:
    """`terms` with polynomials put for symbols, all at once; `natural` simplifies max and min."""
    if names_of(terms).isdisjoint(env):
        return terms
    result: Terms = {}
    known: dict[Atom, Terms] = {}
    for mono, value in terms.items():
        part: Terms = {(): value}
        for atom in mono:
            if atom not in known:
                known[atom] = _atom_rebuilt(atom, env, natural)
            part = mul(part, known[atom])
        result = add(result, part)
    return result


def _atom_rebuilt(atom: Atom, env: Mapping[str, Terms], natural: Callable[[Terms], bool]) -> Terms:
    if isinstance(atom, Symbol):
        return env.get(atom.name, {(atom,): 1})
    if atom.names.isdisjoint(env):
        return {(atom,): 1}
    if isinstance(atom, Floor):
        return floor_div(rebuilt(atom.num, env, natural), rebuilt(atom.den, env, natural))
    assert isinstance(atom, Extremum)
    return extremum(atom.kind, [rebuilt(arg, env, natural) for arg in atom.args], natural)
