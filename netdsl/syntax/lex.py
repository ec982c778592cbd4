"""Text → tokens: the grammar's terminals, and a word of help for everything that is none of them.

A slip whose meaning is plain (`;`, `&&`, a typographic quote) is reported and read as what was meant, so that it hides
no other error; where that is impossible a token of type `FAULT` makes the parser give up on the definition around it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

from netdsl.diagnostics import Diagnostic, error
from netdsl.source import SourceFile, Span
from netdsl.syntax import characters
from netdsl.syntax.lalr import END, Tables, Token, load
from netdsl.syntax.tree import Comment

GRAMMAR = "netdsl.lark"
MAX_NESTING = 200
MAX_SLIPS = 200  # errors of one kind that are kept: a binary file is not worth one for each of its bytes
FAULT = "FAULT"


@dataclass(slots=True)
class Lexed:
    """The tokens, the last of type `$END`; the comments; what was wrong. `faults` has each FAULT's error by offset."""

    source: SourceFile
    tokens: list[Token] = field(default_factory=list)
    comments: list[Comment] = field(default_factory=list)
    diagnostics: list[Diagnostic] = field(default_factory=list)
    faults: dict[int, Diagnostic] = field(default_factory=dict)

    def report(self, message: str, start: int, end: int, help: str = "") -> None:
        if len(self.diagnostics) < MAX_SLIPS:
            self.diagnostics.append(error("syntax", message, Span(self.source, start, end), help=help or ()))

    def fault(self, message: str, start: int, end: int, help: str = "") -> None:
        """An error after which the text around it makes no sense."""
        if len(self.faults) < MAX_SLIPS:
            self.faults[start] = error("syntax", message, Span(self.source, start, end), help=help or ())
        self.tokens.append(Token(FAULT, self.source.text[start:end], start, end))


@cache
def _scanner() -> tuple[re.Pattern[str], Tables]:
    tables = load(GRAMMAR)
    number = dict(tables.patterns)["NUMBER"]
    before = {
        "SLIP_COMMENT": r"/\*(?s:.*?)(?:\*/|\Z)",
        "SLIP_NUMBER": rf"(?>{number})(?:[A-Za-z_]|\.(?!\.\.))[A-Za-z0-9_.]*|\.[0-9][0-9eE]*",
        "SLIP_DOCSTRING": r"\"\"\"(?s:.*?)(?:\"\"\"|\Z)|'''(?s:.*?)(?:'''|\Z)",
    }
    after = {
        "SLIP_STRING": r"[\"'][^\r\n]*",
        "SLIP_QUOTES": "[“”„«‘’‚][^“”«»‘’\r\n\"']*[“”»‘’\"']?",
        "SLIP_NAME": r"[^\W\x00-\x7f]\w*",
        "SLIP_CHARACTER": r"&&|\|\||(?s:.)",
    }
    patterns = [*before.items(), *tables.patterns, *after.items()]
    return re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in patterns)), tables


def lex(source: SourceFile) -> Lexed:
    """Splits the whole text; never fails."""
    pattern, tables = _scanner()
    out = Lexed(source)
    keywords, append = tables.keywords, out.tokens.append
    depth, deepest = {"(": 0, "{": 0}, 0  # of brackets and calls, of bodies
    begin = 1 if source.text.startswith("\ufeff") else 0
    for match in pattern.finditer(source.text, begin):
        kind = match.lastgroup or ""
        if kind == "SPACE":
            continue
        text = match.group()
        if kind == "NAME":
            append(Token(keywords.get(text, kind), text, match.start(), match.end()))
        elif kind == "COMMENT":
            out.comments.append(_comment(source, match))
        elif kind in _SLIPS:
            _SLIPS[kind](out, text, match.start(), match.end())
        else:
            append(Token(kind, text, match.start(), match.end()))
            if kind in _OPENING:
                which = _OPENING[kind]
                depth[which] += 1
                deepest = max(deepest, depth[which])
            elif kind in _CLOSING:
                which = _CLOSING[kind]
                depth[which] = max(0, depth[which] - 1)
    append(Token(END, "", len(source.text), len(source.text)))
    if deepest > MAX_NESTING:
        _refuse_deep_nesting(out)
    return out


_OPENING = {"LPAR": "(", "LSQB": "(", "LBRACE": "{"}
_CLOSING = {"RPAR": "(", "RSQB": "(", "RBRACE": "{"}


def _refuse_deep_nesting(out: Lexed) -> None:
    """Turns each opening bracket that is one too deep into a fault."""
    depth = {"(": 0, "{": 0}
    for token in out.tokens:
        if token.type in _OPENING:
            which = _OPENING[token.type]
            depth[which] += 1
            if depth[which] == MAX_NESTING + 1:
                out.faults[token.start] = nesting_error(Span(out.source, token.start, token.end), "brackets nest")
                token.type = FAULT
        elif token.type in _CLOSING:
            which = _CLOSING[token.type]
            depth[which] = max(0, depth[which] - 1)


def nesting_error(span: Span, what: str) -> Diagnostic:
    """The error for anything that nests too deep; `what` is subject and verb."""
    message = f"{what} more than {MAX_NESTING} deep here"
    return error(
        "nesting", message, span, help="bind an inner part to a name of its own, in a statement before this one"
    )


def _comment(source: SourceFile, match: re.Match[str]) -> Comment:
    line_start = max(source.text.rfind("\n", 0, match.start()), source.text.rfind("\r", 0, match.start())) + 1
    own_line = not source.text[line_start : match.start()].strip(" \t\f\ufeff")
    return Comment(Span(source, match.start(), match.end()), match.group().rstrip(), own_line)


# --- slips -----------------------------------------------------------------------------------------------------------


def _slip_comment(out: Lexed, text: str, start: int, end: int) -> None:
    if not text.endswith("*/") or len(text) < 4:
        out.fault(
            "this '/*' comment is never closed", start, start + 2, "a comment starts with '#', on each of its lines"
        )
    else:
        out.report("'/* … */' is no comment here", start, end, "a comment starts with '#', on each of its lines")


def _slip_docstring(out: Lexed, text: str, start: int, end: int) -> None:
    help = "write a description as a comment: '#' at the start of each of its lines"
    out.fault("there are no triple-quoted strings", start, start + 3, help)


def _slip_number(out: Lexed, text: str, start: int, end: int) -> None:
    out.report(f"'{text}' is not a number", start, end, characters.number_help(text))
    out.tokens.append(Token("NUMBER", "1", start, end))


def _slip_string(out: Lexed, text: str, start: int, end: int) -> None:
    shown = text.rstrip()
    help = f"close it with {text[0]} on the same line; a line break in a string is written \\n"
    out.fault(
        f"this string is not closed: expected {text[0]} before the end of the line", start, start + len(shown), help
    )


def _slip_quotes(out: Lexed, text: str, start: int, end: int) -> None:
    content = text.strip("“”„«»‘’‚\"'")
    out.report(f"'{text[0]}' is a typographic quote", start, end, f'write plain quotes: "{content}"')
    out.tokens.append(Token("STRING", '""', start, end))


def _slip_name(out: Lexed, text: str, start: int, end: int) -> None:
    """A letter beyond ASCII, with the rest of its word."""
    if plain := characters.ascii_form(text[0]):  # a fullwidth letter or digit
        out.report(f"'{text}' holds characters that only look like '{plain}'", start, end, "type it again in ASCII")
    else:
        if out.tokens and out.tokens[-1].end == start and out.tokens[-1].type != "NUMBER":
            start = out.tokens.pop().start
        name = out.source.text[start:end]
        out.report(f"'{name}' is not a name: names are made of A–Z, a–z, 0–9 and _", start, end)
    out.tokens.append(Token("NAME", out.source.text[start:end], start, end))


def _slip_character(out: Lexed, text: str, start: int, end: int) -> None:
    word = characters.WORDS.get(text)
    if word:
        out.report(f"'{text}' is not an operator", start, end, f"write '{word}'")
        out.tokens.append(Token(_scanner()[1].keywords[word], word, start, end))
    elif text in characters.DROPPED:
        message, help = characters.DROPPED[text]
        out.report(message, start, end, help)
    elif plain := characters.ascii_form(text):
        message = (
            f"{characters.describe(text)} only looks like '{plain}'" if plain.strip() else characters.describe(text)
        )
        out.report(message, start, end, f"write '{plain}'" if plain.strip() else "write a plain space")
        match = _scanner()[0].match(plain)
        if match and match.end() == len(plain) and match.lastgroup != "SPACE" and match.lastgroup not in _SLIPS:
            out.tokens.append(Token(match.lastgroup or "", plain, start, end))
    elif not text.isprintable():
        out.report(f"{characters.describe(text)} stands in the text", start, end, "delete it")
    else:
        out.fault(f"'{text}' means nothing in netdsl", start, end, characters.UNKNOWN.get(text, ""))


_SLIPS: dict[str, Callable[[Lexed, str, int, int], None]] = {
    "SLIP_COMMENT": _slip_comment,
    "SLIP_DOCSTRING": _slip_docstring,
    "SLIP_NUMBER": _slip_number,
    "SLIP_STRING": _slip_string,
    "SLIP_QUOTES": _slip_quotes,
    "SLIP_NAME": _slip_name,
    "SLIP_CHARACTER": _slip_character,
}
