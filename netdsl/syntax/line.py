"""The tokens and comments of one logical line (a statement, a header) → the stream that `layout` prints.

Spacing, which brackets break and with which trailing comma, and the operators at which an expression breaks: the
loosest ones that it holds (`->` in a chain, `or` in a condition), each at the start of a line. A line break that the
user made before or after such an operator, or between items, is kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from netdsl.syntax.lalr import Token
from netdsl.syntax.layout import INDENT, Break, Close, IfOpened, Open, Part, Remark, Text
from netdsl.syntax.recover import is_name
from netdsl.syntax.tree import Comment

_LOOSENESS = {"ARROW": 5, "OR": 4, "AND": 3, "PLUS": 2, "MINUS": 2, "TIMES": 1}
_CHAIN = _LOOSENESS["ARROW"]
_ARITHMETIC = frozenset(("PLUS", "MINUS", "TIMES", "POWER"))
_ENDS = frozenset(("RPAR", "RSQB", "NUMBER", "STRING", "TRUE", "FALSE", "NONE", "HOLE", "ELLIPSIS"))
_OPENING, _CLOSING = frozenset(("LPAR", "LSQB")), frozenset(("RPAR", "RSQB"))


@dataclass(slots=True)
class _Level:
    """The inside of a bracket, or the line as a whole.

    An item (between commas) has pieces (around `then` and `else`); `loosest` has for each piece, over all items, the
    looseness of the operators at which it breaks.
    """

    kind: str  # "line", "call", "paren", "list", "type", "index", "targets"
    tight: bool = False  # within a type: no spaces around arithmetic
    loosest: list[int] = field(default_factory=lambda: [0])
    commas: int = 0
    opened: bool = False  # its items stand on lines of their own, apart from the brackets
    closing_comma: int | None = None  # the offset of a comma right before the closing bracket
    piece: int = 0  # while writing: the piece at hand

    @property
    def is_bracket(self) -> bool:
        """Whether lines may break inside of its brackets."""
        return self.kind not in ("line", "targets")

    @property
    def fills(self) -> bool:
        """Whether items that need several lines share them."""
        return self.kind != "call" and max(self.loosest) < _CHAIN

    @property
    def one_tuple(self) -> bool:
        return self.kind == "paren" and self.commas == 1 and self.closing_comma is not None

    @property
    def trailing_comma(self) -> bool:
        return self.kind in ("call", "list", "type") or (
            self.kind == "paren" and self.commas > 0 and not self.one_tuple
        )


class LineBuilder:
    """Builds the stream of one logical line of a file's `text`.

    `texts` has the canonical text of tokens that are rewritten, by offset; `targets` the offsets of brackets around
    targets, in which no trailing comma may stand.
    """

    def __init__(
        self, items: Sequence[Token | Comment], text: str, texts: Mapping[int, str], targets: frozenset[int]
    ) -> None:
        self.items = items
        self.texts = texts
        self.targets = targets
        self.tokens = [item for item in items if isinstance(item, Token)]
        self.previous = dict(zip((t.start for t in self.tokens[1:]), self.tokens, strict=False))
        self.newlines = self._newlines(text)
        self.remarked = {
            item.start for before, item in pairwise(items) if isinstance(before, Comment) and isinstance(item, Token)
        }  # offsets of tokens right behind a comment
        self.parts: list[Part] = []
        self.binary: set[int] = set()  # offsets of the operators at which an expression may break
        self.bare: set[int] = set()  # those of the `->` before a mere name
        self.choices: set[int] = set()  # offsets of the `then` and `else` of expressions
        self.rows: frozenset[int] = frozenset()  # those of commas outside of brackets at which the line may break
        self.levels: dict[int, _Level] = {}
        self._survey()

    # --- what the tokens are -----------------------------------------------------------------------------------------

    def _newlines(self, text: str) -> set[int]:
        """Offsets of the tokens before which a line ends, and at which a token ends with a line after it."""
        found = set[int]()
        for before, token in pairwise(self.tokens):
            between = text[before.end : token.start]
            if "\n" in between or "\r" in between:
                found |= {~before.end, token.start}
        return found

    def _kept(self, token: Token) -> bool:
        """Whether the user broke the line before or after a token."""
        return token.start in self.newlines or ~token.end in self.newlines

    def _survey(self) -> None:
        """Finds every bracket's level (by its offset; the line's own at -1) and the operators at which it breaks."""
        self.levels[-1] = _Level("line")
        stack, commas = [self.levels[-1]], list[int]()
        for i, token in enumerate(self.tokens):
            level = stack[-1]
            if token.type in _OPENING:
                kind = self._bracket_kind(i)
                empty = self.tokens[i + 1].type in _CLOSING
                opened = ~token.end in self.newlines and not empty
                stack.append(_Level(kind, tight=level.tight or kind == "type", opened=opened))
                self.levels[token.start] = stack[-1]
            elif token.type in _CLOSING:
                level.closing_comma = self.tokens[i - 1].start if self.tokens[i - 1].type == "COMMA" else None
                level.opened |= token.start in self.remarked
                stack.pop()
            elif token.type == "COMMA":
                level.commas += 1
                if level.kind == "line":
                    commas.append(token.start)
                if level.kind != "targets":
                    level.loosest.append(0)
            elif token.type == "EQUAL" and level.kind == "line":
                commas.clear()  # they stand between targets
            elif token.type in ("THEN", "ELSE") and self.tokens[max(i - 1, 0)].type != "RBRACE":
                self.choices.add(token.start)
                level.loosest.append(0)
            elif token.type in _LOOSENESS and (token.type != "MINUS" or self._ends_operand(i - 1)):
                self.binary.add(token.start)
                if token.type == "ARROW" and self._is_bare_step(i):
                    self.bare.add(token.start)
                level.loosest[-1] = max(level.loosest[-1], _LOOSENESS[token.type])
        self.rows = frozenset(commas) if self.tokens[0].type != "FOR" else frozenset()

    def _is_bare_step(self, i: int) -> bool:
        """Whether the `->` of token `i` leads to a name alone, such as an activation's."""
        following = self.tokens[i + 2].type if i + 2 < len(self.tokens) else ""
        return is_name(self.tokens[i + 1]) and following not in ("LPAR", "LSQB", "DOT")

    def _ends_operand(self, i: int) -> bool:
        """Whether an operand ends at token `i`, so that a bracket after it calls it and a `-` subtracts from it."""
        if i < 0 or (i == 0 and self.tokens[0].type == "REPEAT"):
            return False
        return self.tokens[i].type in _ENDS or is_name(self.tokens[i])

    def _bracket_kind(self, i: int) -> str:
        token = self.tokens[i]
        if token.start in self.targets:
            return "targets"
        train_header = self.tokens[0].type == "TRAIN" and self.tokens[-1].type in ("LBRACE", "RBRACE")
        if token.type == "LPAR":
            labelled = train_header and self.tokens[i - 1].type == "STRING"
            return "paren" if labelled or not self._ends_operand(i - 1) else "call"
        if not self._ends_operand(i - 1):
            return "list"
        return "type" if i == 4 and self.tokens[2].type == "COLON" else "index"

    # --- writing -----------------------------------------------------------------------------------------------------

    def build(self) -> list[Part]:
        # What follows a `}` on its line starts at the margin again where a comment makes it a line of its own.
        by = 0 if self.tokens[0].type == "RBRACE" else INDENT
        stack = [self.levels[-1]]
        self.parts = [Open(by=by), Open(by=by), self._piece(stack[0], by)]
        for item in self.items:
            if isinstance(item, Comment):
                self._remark(item)
            elif item.type in _CLOSING:
                self._close(item, stack.pop())
            elif item.type == "COMMA":
                self._comma(item, stack[-1])
            else:
                self._word(item, stack[-1])
                if item.type in _OPENING:
                    stack.append(self.levels[item.start])
                    self._open(stack[-1])
        self.parts += [Close(), Close(), Close()]
        return self.parts

    def _piece(self, level: _Level, by: int = INDENT) -> Open:
        """The start of the level's piece at hand."""
        return Open("chain" if level.loosest[level.piece] == _CHAIN else "plain", by)

    def _remark(self, comment: Comment) -> None:
        """A comment; before an item's first word it stands outside of the item."""
        at = len(self.parts)
        while at > 3 and isinstance(self.parts[at - 1], Open):
            at -= 1
        if at < len(self.parts) and not comment.own_line and isinstance(self.parts[at - 1], Break):
            at -= 1  # behind a bracket or a comma: before their line ends
        self.parts.insert(at, Remark(comment))

    def _word(self, token: Token, level: _Level) -> None:
        text = self.texts.get(token.start, token.text)
        if token.start in self.choices:
            level.piece += 1
            end = Break(" ", kept=self._kept(token), hard=token.type == "ELSE")
            self.parts += [Close(), end, Text(text), self._piece(level)]
            return
        spaced = self._spaced(token, level)
        looseness = _LOOSENESS[token.type] if token.start in self.binary else 0
        if looseness and looseness == level.loosest[level.piece]:
            self.parts.append(Break(" " * spaced, kept=self._kept(token), hard=token.start not in self.bare))
        elif spaced:
            self.parts.append(Text(" "))
        self.parts.append(Text(text))

    def _comma(self, token: Token, level: _Level) -> None:
        if level.kind == "targets":
            self.parts.append(Text(","))
        elif token.start != level.closing_comma:
            level.piece += 1
            breaks = level.is_bracket or token.start in self.rows
            end = Break(" ", kept=self._kept(token), hard=not level.fills) if breaks else Text(" ")
            self.parts += [Close(), Close(), Text(","), end, Open(), self._piece(level)]
        elif level.one_tuple:
            self.parts.append(Text(","))

    def _open(self, level: _Level) -> None:
        if level.is_bracket:
            self.parts += [Open("bracket"), Break("", "open", kept=level.opened), Open(), self._piece(level)]

    def _close(self, token: Token, level: _Level) -> None:
        if level.is_bracket:
            remarks: list[Part] = []
            while isinstance(self.parts[-1], Remark):
                remarks.insert(0, self.parts.pop())
            empty = isinstance(self.parts[-1], Open)
            comma = [IfOpened(",")] if level.trailing_comma and not empty else []
            self.parts += [Close(), Close(), *comma, *remarks, Break("", "close"), Close()]
        self.parts.append(Text(token.text))

    def _spaced(self, token: Token, level: _Level) -> bool:
        """Whether a space stands before a token where no line breaks."""
        before = self.previous.get(token.start)
        if before is None:
            return False
        a, b = before.type, token.type
        inside = level.kind != "line"
        if a in _OPENING or "DOT" in (a, b) or b == "COLON":
            return a == "NUMBER" and b == "DOT"  # `0 .shape`: without the space no number
        if a == "COMMA":
            return level.kind == "targets"  # elsewhere a Break was written
        if (a == "MINUS" and before.start not in self.binary) or (
            level.tight and (self._is_arithmetic(before) or self._is_arithmetic(token))
        ):
            return False
        if inside and (a == "COLON" or "EQUAL" in (a, b)):
            return False
        return b not in _OPENING or self.levels[token.start].kind in ("paren", "list", "targets")

    def _is_arithmetic(self, token: Token) -> bool:
        return token.type in _ARITHMETIC and (token.type != "MINUS" or token.start in self.binary)
