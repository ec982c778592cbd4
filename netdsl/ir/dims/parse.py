"""Reads the text of a dimension back: integers, names, `+ - * // % **`, parentheses, `max(…)`, `min(…)`. A name with a
`?` behind it is a count."""

from __future__ import annotations

import re

from netdsl.ir.dims.api import dim_max, dim_min
from netdsl.ir.dims.expr import Dim, symbol
from netdsl.ir.dims.terms import COUNT, DimError

_TOKEN = re.compile(r"\s*(?:(\d+)|([A-Za-z_][A-Za-z0-9_]*\??)|(\*\*|//|[-+*%(),]))")
_MAX_DEPTH = 100
_MAX_DIGITS = 2000
_MAX_EXPONENT = 4096


def parse_dim(text: str) -> Dim:
    """The dimension that `text` says; names are symbols. Raises DimError for any other text."""
    parser = _Parser(text)
    dim = parser.sum()
    parser.expect("")
    return dim


class _Parser:
    """Recursive descent with Python's precedence; "" is the token at the end."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.depth = 0
        self.token = ""
        self.start = 0
        self.advance()

    def advance(self) -> str:
        """Moves to the next token and returns the one before."""
        last = self.token
        match = _TOKEN.match(self.text, self.position)
        if match is None:
            rest = self.text[self.position :].strip()
            if rest:
                raise self.error(f"'{rest[0]}'")
            self.token, self.start = "", len(self.text)
            return last
        self.token, self.start, self.position = match[0].strip(), match.start(), match.end()
        return last

    def error(self, found: str) -> DimError:
        return DimError(f"{self.text!r} is not a dimension: found {found} at character {self.position + 1}")

    def expect(self, token: str) -> None:
        if self.token != token:
            raise self.error(f"'{self.token}'" if self.token else "the end")
        if token:
            self.advance()

    def sum(self) -> Dim:
        result = self.term()
        while self.token in ("+", "-"):
            result = result + self.term() if self.advance() == "+" else result - self.term()
        return result

    def term(self) -> Dim:
        result = self.unary()
        while self.token in ("*", "//", "%"):
            operator, right = self.advance(), self.unary()
            if operator == "*":
                result = result * right
            else:
                result = result // right if operator == "//" else result % right
        return result

    def unary(self) -> Dim:
        negative = False
        while self.token in ("-", "+"):
            negative ^= self.advance() == "-"
        return -self.power() if negative else self.power()

    def power(self) -> Dim:
        base = self.primary()
        if self.token != "**":
            return base
        self.advance()
        if not self.token.isdigit():
            raise self.error("no exponent")
        digits = self.advance()
        exponent = int(digits) if len(digits) < 5 else _MAX_EXPONENT + 1
        if exponent > _MAX_EXPONENT:
            raise DimError(f"the expression is too large: an exponent above {_MAX_EXPONENT}")
        result: Dim = base**exponent
        return result

    def primary(self) -> Dim:
        token = self.token
        if token.isdigit():
            if len(token) > _MAX_DIGITS:
                raise DimError(f"the expression is too large: a number of {len(token)} digits")
            return int(self.advance())
        if token == "(":
            return self.group()
        if not token.removesuffix(COUNT).isidentifier():
            raise self.error(f"'{token}'" if token else "the end")
        self.advance()
        if token in ("max", "min") and self.token == "(":
            return self.extremum(token)
        return symbol(token)

    def group(self) -> Dim:
        self.open()
        result = self.sum()
        self.close()
        return result

    def extremum(self, kind: str) -> Dim:
        self.open()
        result = self.sum()
        while self.token == ",":
            self.advance()
            right = self.sum()
            result = dim_max(result, right) if kind == "max" else dim_min(result, right)
        self.close()
        return result

    def open(self) -> None:
        self.expect("(")
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise DimError("the expression is too large: parentheses nested too deep")

    def close(self) -> None:
        self.expect(")")
        self.depth -= 1
