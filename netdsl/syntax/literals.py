"""Numbers and strings as they are written, and as values."""

from __future__ import annotations

import math
import re

MAX_BITS = 4096
_MAX_DIGITS = 1234  # decimal digits of 2**4096: what has more of them is too large, and never converted
_ESCAPE = re.compile(r"\\(.)")
_ESCAPES = {'"': '"', "'": "'", "\\": "\\", "n": "\n"}


class LiteralError(ValueError):
    """A literal that has no value; `offset` is the place within its text, `length` that of the fault."""

    def __init__(self, message: str, offset: int, length: int, help: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.length = length
        self.help = help


def number(text: str) -> int | float:
    """The value of a NUMBER. Raises LiteralError for an integer of more than 4,096 bits and a float beyond float64."""
    if text.isdigit():
        digits = text.lstrip("0") or "0"
        value = int(digits) if len(digits) <= _MAX_DIGITS else None
        if value is None or value.bit_length() > MAX_BITS:
            raise LiteralError(f"this integer has more than {MAX_BITS:,} bits", 0, len(text))
        return value
    result = float(text)
    if math.isinf(result):
        raise LiteralError(f"{_shortened(text)} is too large for a float: at most 1.797e308", 0, len(text))
    return result


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:24]}…{text[-8:]}"


def string(text: str) -> str:
    r"""The value of a STRING, quotes included. Raises LiteralError for an escape other than \" \' \\ \n."""
    if "\\" not in text:
        return text[1:-1]
    for match in _ESCAPE.finditer(text, 1, len(text) - 1):
        if match.group(1) not in _ESCAPES:
            help = "the escapes are \\\" \\' \\\\ and \\n; a backslash is written \\\\"
            raise LiteralError(f"'{match.group()}' is no escape", match.start(), 2, help)
    return _ESCAPE.sub(lambda match: _ESCAPES[match.group(1)], text[1:-1])


def quoted(value: str) -> str:
    """A string as `netdsl fmt` writes it: in double quotes."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
