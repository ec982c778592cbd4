"""The standard library: the files that ship with netdsl, which imports name by `std:`, and what each defines."""

from __future__ import annotations

import re
from pathlib import Path

from netdsl.diagnostics import nearest

LIBRARY = Path(__file__).resolve().parent.parent / "std"
LIBRARY_PREFIX = "std:"
_FILE_NAME = re.compile(r"[A-Za-z0-9_]+(/[A-Za-z0-9_]+)*")
_DEFINITION = re.compile(r"^(?:(?:block|network)\s+)?([A-Za-z_]\w*)(?=\s*[({=])", re.MULTILINE)


def library_name(text: str) -> str:
    """An import's path as messages write it: `std:layers`, with or without the extension."""
    return text.removesuffix(".net")


def library_file(text: str) -> Path | None:
    """The file that `std:…` names, or None where the library has none of that name."""
    name = library_name(text).removeprefix(LIBRARY_PREFIX)
    path = LIBRARY / f"{name}.net"
    return path if _FILE_NAME.fullmatch(name) and path.is_file() else None


def library_index() -> dict[str, list[str]]:
    """What each file of the library defines, in the order of its text: `{"std:layers": ["ConvBN", …], …}`.

    The library is laid out by `netdsl fmt`, so that a definition is a word at the start of a line: looking for one does
    not parse every file.
    """
    files = sorted(LIBRARY.rglob("*.net"))
    return {_shown(path): _DEFINITION.findall(path.read_text(encoding="utf-8")) for path in files}


def no_library_file_help(text: str) -> tuple[str, ...]:
    """The help for an import of a library's file that does not exist: the nearest, and all that do."""
    known = list(library_index())
    near = nearest(library_name(text), known)
    found = (f'did you mean "{near}"?',) if near else ()
    return (*found, f"the library holds {', '.join(known)}")


def elsewhere(name: str) -> str | None:
    """The library's file that defines `name`."""
    return next((file for file, names in library_index().items() if name in names), None)


def _shown(path: Path) -> str:
    return f"{LIBRARY_PREFIX}{path.relative_to(LIBRARY).with_suffix('').as_posix()}"
