"""The errors of data that do not fit a recipe: one sentence each, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from netdsl.diagnostics import DiagnosticError, Note, error, nearest

MAX_LISTED = 20


def fault(
    name: str, message: str, where: object, *, notes: Iterable[str] = (), help: Sequence[str] | str = ()
) -> DiagnosticError:
    """The DiagnosticError of one fault in the data at `where`, a path."""
    remarks = [Note(text) for text in notes]
    return DiagnosticError([error(name, message, path=str(where), notes=remarks, help=help or ())])


def missing(what: str, name: str, held: Iterable[str], where: object, help: str = "") -> DiagnosticError:
    """An input or target that the data lack; `help` is what to do where no name is close."""
    held = sorted(held)
    close = nearest(name, held)
    listed = ", ".join(held[:MAX_LISTED]) + (", …" if len(held) > MAX_LISTED else "")
    return fault(
        "missing-data",
        f"the data have no array for the {what} '{name}'",
        where,
        notes=[f"they hold {listed}" if held else "they hold no array"],
        help=f"did you mean '{close}'?" if close else help or f"name the array '{name}', as the recipe does",
    )
