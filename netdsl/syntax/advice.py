"""Words of other languages, and misspelt words of this one, with what to write instead."""

from __future__ import annotations

import difflib
import re

from netdsl.source import SourceFile, Span

STATEMENTS = (
    "input", "output", "target", "metric", "param", "shared", "frozen", "for", "repeat", "if", "else", "return",
    "assert", "augment",
)  # fmt: skip
DEFINITIONS = ("block", "network", "train", "import", "from")

_BINDERS = frozenset(("let", "var", "const", "val", "auto", "set", "local", "mut", "global", "static", "final"))
_FUNCTIONS = frozenset(("def", "fn", "func", "fun", "function", "proc", "sub", "module", "layer", "lambda", "macro"))
_MODELS = frozenset(("class", "model", "net", "struct", "sequential"))
_LOOPS = frozenset(("while", "loop", "do", "foreach", "until"))
_OTHERS = {
    "elif": "write 'else if'",
    "elseif": "write 'else if'",
    "elsif": "write 'else if'",
    "unless": "write 'if not'",
    "switch": "write 'if … { … } else if … { … }'",
    "match": "write 'if … { … } else if … { … }'",
    "pass": "leave it out: a body may be empty, '{ }'",
    "raise": "write 'assert condition, \"message\"'",
    "throw": "write 'assert condition, \"message\"'",
    "print": "nothing is printed while a network is built; 'netdsl report' shows its layers",
    "break": "a loop runs to its end: choose its list or its count instead",
    "continue": "put the rest of the loop's body into an 'if'",
    "yield": "a block gives its value back by 'return'",
    "end": "a body ends with '}'",
    "using": "write 'import \"file.net\" as name'",
    "include": "write 'import \"file.net\" as name'",
    "require": "write 'import \"file.net\" as name'",
}


SLASHES_MESSAGE = "'//' divides, it starts no comment"
_SLASHES = re.compile(r"(?:^|\s)(//+)\s*(?!(?:and|or|in|not|as|if|then|else)\b)[A-Za-z]+[ ,.'’:-]+[A-Za-z]+")


def slash_comment(source: SourceFile, offset: int) -> tuple[Span, str] | None:
    """The `//` at or before an offset, on its line, if prose follows it; and that prose."""
    number = source.position(offset)[0]
    line, start = source.line_text(number), source.line_starts[number - 1]
    found = _SLASHES.search(line)
    if not found or start + found.start(1) > offset:
        return None
    return Span(source, start + found.start(1), start + found.end(1)), line[found.end(1) :].strip()


def foreign(word: str, rest: str, at_top: bool) -> str | None:
    """What a keyword of another language is here; `rest` is what follows it (`x =`, `Foo`)."""
    if word in _BINDERS:
        return f"write '{rest} …'" if rest.endswith("=") else "write 'name = value'"
    if word in _FUNCTIONS:
        name = rest.removesuffix(" =") or "Name"
        return f"write 'block {name}(x) {{ … }}'" + ("" if at_top else ", outside of this body")
    if word in _MODELS:
        return "a model is written 'network Name { … }', a part of one 'block Name(x) { … }'"
    if word in _LOOPS:
        return "loops are written 'repeat n { … }' and 'for name in list { … }'"
    return _OTHERS.get(word)


def misspelt(word: str, keywords: tuple[str, ...]) -> str | None:
    """The keyword that a word was meant to be: close enough that nobody is sent astray."""
    found = difflib.get_close_matches(word.lower(), keywords, n=1, cutoff=0.7)
    return found[0] if found and found[0] != word else None


def unknown_statement(word: str, rest: str) -> tuple[str, ...]:
    """Help for a word that stands where a statement starts and starts none."""
    if hint := foreign(word, rest, at_top=False):
        return (hint,)
    if near := misspelt(word, STATEMENTS):
        return (f"did you mean '{near}'?",)
    return ("a statement that binds a name is written 'name = value'",)
