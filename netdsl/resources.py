"""Files that ship with netdsl beside its code."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def grammar_text(name: str) -> str:
    """The text of a grammar file: the installed package's copy, else the repository's `grammar/`.

    Raises FileNotFoundError where neither holds it: a broken installation.
    """
    folders = (_PACKAGE / "_grammar", _PACKAGE.parent / "grammar")
    for folder in folders:
        if (path := folder / name).is_file():
            return path.read_text(encoding="utf-8")
    raise FileNotFoundError(f"grammar file '{name}' is in neither {' nor '.join(map(str, folders))}")
