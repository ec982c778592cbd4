"""Where the parser takes up again, and which bracket is missing: found on the tokens alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from netdsl.source import SourceFile
from netdsl.syntax.lalr import Token

CLOSER = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}
SYMBOL = {"LPAR": "(", "LSQB": "[", "LBRACE": "{", "RPAR": ")", "RSQB": "]", "RBRACE": "}"}
_OPENER = {closer: opener for opener, closer in CLOSER.items()}
SOFT_KEYWORDS = frozenset(
    ("INPUT", "OUTPUT", "TARGET", "METRIC", "PARAM", "SHARED", "FROZEN", "BLOCK", "NETWORK", "TRAIN", "REPEAT")
)  # keywords only where a statement starts
_AFTER_NAME = frozenset(("LPAR", "LBRACE", "DOT", "STRING"))
# After one of these a name must follow, so that `block` there is a name.
_WANTS_NAME = frozenset(
    (
        "EQUAL",
        "COMMA",
        "DOT",
        "ARROW",
        "AS",
        "COLON",
        "LPAR",
        "LSQB",
        "PLUS",
        "MINUS",
        "TIMES",
        "POWER",
        "COMPARE",
        "AUGMENTED",
        "IN",
        "AND",
        "OR",
        "NOT",
        "IF",
        "THEN",
        "ELSE",
        "RETURN",
        "FOR",
        "ASSERT",
        "IMPORT",
        "INPUT",
        "OUTPUT",
        "TARGET",
        "PARAM",
        "SHARED",
        "FROZEN",
        "METRIC",
    )
)


def is_name(token: Token) -> bool:
    """Whether a token may stand as a name."""
    return token.type == "NAME" or token.type in SOFT_KEYWORDS


def definition_starts(source: SourceFile, tokens: list[Token]) -> list[int]:
    """The indices of tokens at which a definition starts, whatever stands before: `from`, `import`, `block Name(`, …"""
    return [i for i in range(len(tokens) - 1) if _starts_definition(source, tokens, i)]


def _starts_definition(source: SourceFile, tokens: list[Token], i: int) -> bool:
    kind = tokens[i].type
    if kind == "FROM":
        return True
    if kind == "IMPORT":
        return not (i >= 2 and tokens[i - 1].type == "STRING" and tokens[i - 2].type == "FROM")
    if kind not in ("BLOCK", "NETWORK", "TRAIN") or not is_name(tokens[i + 1]):
        return False
    at = tokens[i].start
    if at == 0 or source.text[at - 1] == "\n":
        return True
    # `y = block` and, in the next line, `x = 3` are two statements: what follows the name decides.
    wanted = i > 0 and tokens[i - 1].type in _WANTS_NAME
    return not wanted and tokens[i + 2].type in _AFTER_NAME


@dataclass(slots=True)
class Brackets:
    """How brackets pair: `enclosing` finds the opener around a token, `unclosed` holds the openers without a closer."""

    tokens: list[Token]
    first: int  # the token from which they are paired
    unclosed: set[int] = field(default_factory=set)
    suspect: int | None = None  # an opening brace whose closer stands too far left to be its own

    def enclosing(self, index: int) -> int | None:
        """The index of the innermost bracket that is open before the token at `index`."""
        depth = {"RPAR": 0, "RSQB": 0, "RBRACE": 0}
        for i in range(index - 1, self.first - 1, -1):
            kind = self.tokens[i].type
            if kind in depth:
                depth[kind] += 1
            elif kind in CLOSER:
                if depth[CLOSER[kind]] == 0:
                    return i
                depth[CLOSER[kind]] -= 1
        return None


def match_brackets(source: SourceFile, tokens: list[Token], first: int, last: int) -> Brackets:
    """Pairs the brackets of tokens `first` to `last`. No `(` or `[` holds a brace: a brace ends those left open."""
    found = Brackets(tokens, first)
    stack: list[int] = []
    for i in range(first, last):
        kind = tokens[i].type
        if kind in ("LBRACE", "RBRACE"):
            while stack and tokens[stack[-1]].type != "LBRACE":
                found.unclosed.add(stack.pop())
        if kind in CLOSER:
            stack.append(i)
        elif kind in _OPENER and stack and tokens[stack[-1]].type == _OPENER[kind]:
            _note_indent(source, found, stack.pop(), i)
    found.unclosed.update(stack)
    return found


def _note_indent(source: SourceFile, found: Brackets, opener: int, closer: int) -> None:
    """Marks the first brace whose closer starts a line that is indented less than the opener's line."""
    if found.suspect is not None or found.tokens[opener].type != "LBRACE":
        return
    own, other = (_indent(source, found.tokens[i].start) for i in (opener, closer))
    begins_line = other == source.position(found.tokens[closer].start)[1] - 1
    if begins_line and other < own:
        found.suspect = opener


def _indent(source: SourceFile, offset: int) -> int:
    line = source.line_text(source.position(offset)[0])
    return len(line) - len(line.lstrip())
