"""What an explanation of a syntax error may ask: the tokens around the fault and what the parser had read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from netdsl.diagnostics import Diagnostic, Note, error
from netdsl.source import SourceFile, Span
from netdsl.syntax import tree
from netdsl.syntax.lalr import END, Machine, Token
from netdsl.syntax.recover import Brackets, is_name

OPERATORS = frozenset(("PLUS", "MINUS", "TIMES", "POWER", "COMPARE", "IN", "NOT", "AND", "OR"))
_ATOMS = frozenset(("NUMBER", "STRING", "TRUE", "FALSE", "NONE", "HOLE"))
_STOPS = frozenset(
    ("COMMA", "RPAR", "RSQB", "RBRACE", "LBRACE", "THEN", "ELSE", "EQUAL", "AND", "OR", "IF", "FOR", "AS", "COLON")
) | {END}


@dataclass(slots=True)
class Context:
    """A refused token (`tokens[index]`), the machine as it stands, the brackets of the definition at hand.

    `next_definition` is the index of the token at which the next definition starts.
    """

    source: SourceFile
    tokens: list[Token]
    index: int
    machine: Machine
    brackets: Brackets
    next_definition: int

    @property
    def token(self) -> Token:
        return self.tokens[self.index]

    @property
    def before(self) -> Token | None:
        return self.tokens[self.index - 1] if self.index else None

    @property
    def after(self) -> Token:
        return self.tokens[min(self.index + 1, len(self.tokens) - 1)]

    def span(self, token: Token) -> Span:
        """The place of a token. The end of the file is shown at the end of its last word."""
        if token.type == END and self.index:
            end = self.tokens[self.index - 1].end
            return Span(self.source, end, end)
        return Span(self.source, token.start, token.end)

    def text(self, start: int, end: int) -> str:
        """An excerpt on one line, or `…` where it would be long."""
        text = " ".join(self.source.text[start:end].split())
        return text if len(text) <= 60 else "…"

    def line(self, token: Token) -> int:
        return self.source.position(token.start)[0]

    def on_new_line(self, index: int) -> bool:
        """Whether a line break stands before the token."""
        start = self.tokens[index - 1].end if index else 0
        return index == 0 or "\n" in self.source.text[start : self.tokens[index].start]

    def can_follow(self, *kinds: str) -> bool:
        return any(self.machine.could_follow(kinds))

    def error(
        self,
        message: str,
        at: Token | Span | None = None,
        *,
        notes: Sequence[Note] = (),
        help: Sequence[str] | str = (),
    ) -> Diagnostic:
        at = at or self.token
        return error("syntax", message, at if isinstance(at, Span) else self.span(at), notes=notes, help=help)

    def statement(self) -> list[Any]:
        """What was read of the statement or definition at hand: tokens and parts of the tree."""
        values = self.machine.values
        braces = [i for i, v in enumerate(values) if isinstance(v, Token) and v.type == "LBRACE"]
        begin = braces[-1] + 1 if braces else 0
        if begin < len(values) and isinstance(values[begin], list):
            begin += 1
        while begin < len(values) and isinstance(values[begin], tree.Statement | tree.Definition):
            begin += 1
        return values[begin:] if not isinstance(values[-1] if values else None, tree.Body) else []

    @property
    def in_body(self) -> bool:
        return any(isinstance(v, Token) and v.type == "LBRACE" for v in self.machine.values)

    @property
    def at_top_level(self) -> bool:
        """Whether the fault stands between definitions."""
        return not self.in_body and not self.statement()

    def last_statement(self) -> tree.Node | None:
        """The complete statement or definition before the one at hand."""
        values = self.machine.values
        at = len(values) - len(self.statement()) - 1
        last = values[at] if at >= 0 else None
        if isinstance(last, list):
            last = last[-1]
        return last if isinstance(last, tree.Statement | tree.Definition) else None

    def operand(self) -> list[Any]:
        """The values that make up the expression before the fault, its operators and chain steps included."""
        values, at = self.machine.values, len(self.machine.values)
        if at and isinstance(values[-1], Token) and (is_name(values[-1]) or values[-1].type in _ATOMS):
            at -= 1  # a word that was not yet made a part of the tree
        while at and _belongs(values[at - 1]):
            at -= 1
        if at < len(values) and isinstance(values[at], Token) and values[at].type == "IN":
            at += 1  # the `in` of a loop
        return values[at:]

    def operand_start(self) -> int | None:
        """The offset at which that expression starts."""
        count = len(self.operand())
        return self.machine.starts[-count] if count else None

    def expression_end(self, index: int) -> int:
        """The offset at which an expression that starts at a token ends, as far as tokens alone can tell."""
        depth, i = 0, index
        while True:
            kind = self.tokens[i].type
            if depth == 0 and i > index and (kind in _STOPS or (self.on_new_line(i) and self._starts_statement(i))):
                break
            if kind == END:
                break
            depth += (kind in ("LPAR", "LSQB")) - (kind in ("RPAR", "RSQB"))
            i += 1
        return self.tokens[i - 1].end if i > index else self.tokens[index].start

    def _starts_statement(self, i: int) -> bool:
        return self.tokens[i].type not in OPERATORS | {"ARROW", "DOT"}

    def starts_binding(self, i: int) -> bool:
        """Whether `name =` or a statement's keyword stands at the token."""
        token, following = self.tokens[i], self.tokens[min(i + 1, len(self.tokens) - 1)]
        if token.type in ("RETURN", "ASSERT", "FOR", "RBRACE", END):
            return True
        return is_name(token) and (following.type in ("EQUAL", "AUGMENTED") or is_name(following))


def _belongs(value: Any) -> bool:
    if isinstance(value, tree.Expr):
        return True
    if isinstance(value, Token):
        return value.type in OPERATORS or value.type == "ARROW"
    return isinstance(value, list) and all(
        isinstance(v, tree.Expr | tree.Step) or (isinstance(v, Token) and v.type in OPERATORS) for v in value
    )
