"""Equations of einsum: reading them as NumPy does, and putting them to operands."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from netdsl.ir.dims import Dim, decide, to_text
from netdsl.ir.opdef import OpError, ShapeError
from netdsl.ir.types import TensorType

ELLIPSIS = "..."
Term: TypeAlias = "list[tuple[str, int]]"  #: labels, `...` among them, and where each stands


@dataclass(frozen=True)
class Equation:
    """An equation without an ellipsis: the letters of each operand's axes and of the result's."""

    terms: tuple[str, ...]
    output: str

    @classmethod
    def of(cls, text: str) -> Equation:
        """From the text that `str` gives."""
        left, _, output = text.partition("->")
        return cls(tuple(left.split(",")), output)

    def __str__(self) -> str:
        return f"{','.join(self.terms)}->{self.output}"

    def sizes(self, shapes: Sequence[Sequence[Dim]]) -> dict[str, Dim]:
        """The size of each letter."""
        found: dict[str, Dim] = {}
        for term, shape in zip(self.terms, shapes, strict=True):
            for letter, dim in zip(term, shape, strict=True):
                if letter not in found or isinstance(dim, int):
                    found[letter] = dim
        return found


@dataclass(frozen=True)
class Resolved:
    """An equation put to operands. `dropped`: for each operand its axes of size 1 that the ellipsis of another
    stretches; they are taken out before the product."""

    equation: Equation
    dropped: tuple[tuple[int, ...], ...]


def resolve(text: str, types: Sequence[TensorType]) -> Resolved:
    """Reads an equation for operands of these types. Raises OpError with the place of the fault."""
    terms, output = _read(text)
    if len(terms) != len(types):
        message = f"the equation is of {_counted(terms, 'operand')}, found {_counted(types, 'tensor')}"
        raise _fault(message, 0, len(text))
    widths = [_ellipsis_width(text, term, type, i) for i, (term, type) in enumerate(zip(terms, types, strict=True))]
    used = {label for term in terms for label, _ in term}
    free = [c for c in string.ascii_letters if c not in used]
    width = max(widths)
    if width > len(free):
        raise _fault("the equation needs more than 52 axes", 0, len(text))
    names = "".join(free[:width])
    lasts = [names[width - w :] for w in widths]
    spelled = ["".join(last if c == ELLIPSIS else c for c, _ in term) for term, last in zip(terms, lasts, strict=True)]
    result = _output(terms, output, names)
    _check_sizes(terms, spelled, names, types)
    return _without_ones(spelled, result, names, types)


def _fault(message: str, start: int, end: int, help: str = "") -> OpError:
    return OpError(f"einsum: {message}", argument="equation", within=(start, max(end, start + 1)), help=help or ())


def _counted(items: Sequence[object], word: str) -> str:
    return f"{len(items)} {word}{'' if len(items) == 1 else 's'}"


# --- reading ----------------------------------------------------------------------------------------------------------


def _read(text: str) -> tuple[list[Term], Term | None]:
    arrow = text.find("->")
    left = text if arrow < 0 else text[:arrow]
    terms, start = [], 0
    for part in left.split(","):
        terms.append(_term(part, start))
        start += len(part) + 1
    return terms, None if arrow < 0 else _term(text[arrow + 2 :], arrow + 2)


def _term(text: str, start: int) -> Term:
    labels: Term = []
    at = 0
    while at < len(text):
        label = ELLIPSIS if text.startswith(ELLIPSIS, at) else text[at]
        place = start + at
        if label == ELLIPSIS and any(c == ELLIPSIS for c, _ in labels):
            raise _fault("'...' stands twice in one operand", place, place + 3)
        if label in string.ascii_letters or label == ELLIPSIS:
            labels.append((label, place))
        elif not label.isspace():
            help = "an equation is like 'ij,jk->ik': a letter for each axis, ',' between operands, '->' once, '...'"
            raise _fault(f"'{label}' is no axis", place, place + 1, help)
        at += len(label)
    return labels


def _ellipsis_width(text: str, term: Term, type: TensorType, number: int) -> int:
    """How many axes the ellipsis of a term stands for."""
    named = sum(label != ELLIPSIS for label, _ in term)
    spread = named < len(term)
    if type.rank == named or (spread and type.rank > named):
        return type.rank - named
    start = term[0][1] if term else 0
    end = term[-1][1] + len(term[-1][0]) if term else len(text)
    written = text[start:end] if term else ""
    least = "at least " if spread else ""
    raise ShapeError(
        f"einsum: '{written}' names {least}{named} axes, but operand {number + 1} is {type} of rank {type.rank}",
        argument="equation",
        within=(start, max(end, start + 1)),
    )


def _output(terms: list[Term], output: Term | None, names: str) -> str:
    counts: dict[str, int] = {}
    for term in terms:
        for label, _ in term:
            counts[label] = counts.get(label, 0) + 1
    if output is None:  # letters that stand once, in the order of the alphabet, behind the ellipsis
        return names + "".join(sorted(c for c, n in counts.items() if n == 1 and c != ELLIPSIS))
    seen: set[str] = set()
    for label, place in output:
        if label not in counts:
            raise _fault(f"'{label}' stands in the result, but in no operand", place, place + len(label))
        if label in seen:
            raise _fault(f"'{label}' stands twice in the result", place, place + len(label))
        seen.add(label)
    if names and ELLIPSIS not in seen:
        place = next(p for term in terms for label, p in term if label == ELLIPSIS)
        raise _fault("the axes of '...' are not in the result", place, place + 3, "write '...' behind '->' too")
    return "".join(names if label == ELLIPSIS else label for label, _ in output)


# --- sizes ------------------------------------------------------------------------------------------------------------


def _check_sizes(terms: list[Term], spelled: list[str], names: str, types: Sequence[TensorType]) -> None:
    """Raises ShapeError where one letter has two sizes; those of the ellipsis may be 1 too."""
    known: dict[str, tuple[Dim, int]] = {}
    for number, (term, letters, type) in enumerate(zip(terms, spelled, types, strict=True)):
        places = dict(term)
        for letter, dim in zip(letters, type.shape, strict=True):
            size, first = known.setdefault(letter, (dim, number))
            if letter in names and size == 1:
                known[letter] = (dim, number)
            elif not (letter in names and dim == 1) and decide("==", size, dim) is not True:
                label = ELLIPSIS if letter in names else letter
                what = "an axis of '...'" if letter in names else f"'{letter}'"
                sizes = f"{to_text(size)} in operand {first + 1} and {to_text(dim)} in operand {number + 1}"
                raise ShapeError(
                    f"einsum: {what} is {sizes}",
                    argument="equation",
                    within=(places[label], places[label] + len(label)),
                )


def _without_ones(spelled: list[str], output: str, names: str, types: Sequence[TensorType]) -> Resolved:
    """Takes out the axes of size 1 that other operands stretch."""
    stretched = {
        letter
        for letters, type in zip(spelled, types, strict=True)
        for letter, dim in zip(letters, type.shape, strict=True)
        if letter in names and dim != 1
    }
    terms, dropped = [], []
    for letters, type in zip(spelled, types, strict=True):
        ones = [i for i, c in enumerate(letters) if c in stretched and type.shape[i] == 1]
        dropped.append(tuple(ones))
        terms.append("".join(c for i, c in enumerate(letters) if i not in ones))
    return Resolved(Equation(tuple(terms), output), tuple(dropped))
