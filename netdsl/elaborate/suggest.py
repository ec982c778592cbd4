"""What a misspelt name was meant to be."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from netdsl.diagnostics import nearest
from netdsl.elaborate.builtins import BUILTINS

_MAX_CANDIDATES = 2000  # names compared with one that is unknown: a file may hold hundreds of thousands


def suggest(name: str, known: Iterable[str], *, builtins: bool = False) -> str | None:
    """The nearest of the names that are known, else, where asked for, of those that every file knows."""
    found = nearest(name, islice(_near_in_length(name, known), _MAX_CANDIDATES))
    return found or (nearest(name, _near_in_length(name, BUILTINS)) if builtins else None)


def _near_in_length(name: str, known: Iterable[str]) -> Iterable[str]:
    return (other for other in known if abs(len(other) - len(name)) <= 3)


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "", *, builtins: bool = False) -> tuple[str, ...]:
    """The help for an unknown name; `otherwise` where none is near."""
    near = suggest(name, known, builtins=builtins)
    return (f"did you mean '{near}'?",) if near else (otherwise,) if otherwise else ()
