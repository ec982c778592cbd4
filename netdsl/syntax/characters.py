"""What people type that netdsl has no use for, and what they meant."""

from __future__ import annotations

import re
import unicodedata

WORDS = {"&&": "and", "||": "or", "!": "not"}

DROPPED = {
    ";": ("';' has no use: a statement ends where the next one starts", "delete it"),
    "\\": ("'\\' has no use: line breaks carry no meaning, a statement may go on in the next line", "delete it"),
}

UNKNOWN = {
    "&": "'and' joins conditions",
    "|": "'or' joins conditions",
    "^": "a power is written a ** b",
    "?": "a choice is written: if condition then a else b",
    "$": "a name stands without '$'",
    "~": "a negation is written: not a",
    "`": "a name stands without quotes",
}

_ASCII = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "×": "*", "·": "*", "∗": "*", "÷": "/", "⁄": "/", "∕": "/",
    "→": "->", "⟶": "->", "⇒": "->", "≤": "<=", "≥": ">=", "≠": "!=", "…": "...", "﹦": "=",
}  # fmt: skip


def ascii_form(character: str) -> str | None:
    """The ASCII text that a look-alike stands for: itself never, None if it resembles nothing."""
    if character in _ASCII:
        return _ASCII[character]
    if character.isspace():
        return " "
    folded = unicodedata.normalize("NFKC", character)  # fullwidth forms, mathematical letters
    return folded if folded != character and folded.isascii() and folded.isprintable() else None


def describe(character: str) -> str:
    """A character as a message shows it: what cannot be seen by its number and name."""
    name = unicodedata.name(character, "").lower()
    if character.isprintable() and not character.isspace():
        return f"'{character}'" + (f" ({name})" if name else "")
    return f"an invisible character U+{ord(character):04X}" + (f" ({name})" if name else "")


def number_help(text: str) -> str:
    """How a malformed number is written."""
    plain = text.replace("_", "")
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", plain):
        return f"write {plain}"
    if re.fullmatch(r"0[xX][0-9a-fA-F]{1,16}|0[bB][01]{1,64}|0[oO][0-7]{1,21}", plain):
        return f"write it in decimal: {int(plain, 0)}"
    if re.fullmatch(r"[0-9]+\.", plain):
        return f"write {plain}0"
    if re.fullmatch(r"\.[0-9]+([eE][0-9]+)?", plain):
        return f"write 0{plain}"
    if found := re.match(r"[0-9]+(?=[A-Za-z])", plain):
        return f"a name cannot start with a digit; a product is written {found.group()} * {plain[found.end() :]}"
    return "a number is written 12, 0.5 or 1e-4"
