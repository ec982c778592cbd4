"""A Pygments lexer for `.net` files, so that documentation and terminals colour them.

Pygments finds it by its entry point in pyproject.toml; nothing in netdsl imports this module.
"""

from __future__ import annotations

from typing import ClassVar

from pygments.lexer import RegexLexer, bygroups, words
from pygments.token import Comment, Keyword, Name, Number, Operator, Punctuation, String, Whitespace

_WORDS = ("import", "from", "as", "for", "in", "if", "then", "else", "return", "assert", "and", "or", "not", "repeat")
_DECLARED = ("input", "output", "target", "metric", "param", "shared", "frozen")
_TYPES = ("float32", "float16", "bfloat16", "float64", "int8", "uint8", "int32", "int64", "bool")


class NetLexer(RegexLexer):
    """The words of the language, definitions, types, calls and the names that `as` gives."""

    name = "netdsl"
    aliases: ClassVar[list[str]] = ["net", "netdsl"]
    filenames: ClassVar[list[str]] = ["*.net"]
    tokens: ClassVar[dict[str, list[tuple[object, ...]]]] = {
        "root": [
            (r"\s+", Whitespace),
            (r"#.*", Comment.Single),
            (r"\"(\\.|[^\"\\\n])*\"|'(\\.|[^'\\\n])*'", String),
            (
                r"\b(block|network|train)(\s+)([A-Za-z_][\w.]*)",
                bygroups(Keyword.Declaration, Whitespace, Name.Class),
            ),
            (rf"\b({'|'.join(_DECLARED)})(\s+)(?=[A-Za-z_])", bygroups(Keyword.Declaration, Whitespace)),
            (r"\b(as)(\s+)([A-Za-z_]\w*)", bygroups(Keyword, Whitespace, Name.Label)),
            (words(_WORDS, prefix=r"\b", suffix=r"\b"), Keyword),
            (words(("true", "false", "none"), prefix=r"\b", suffix=r"\b"), Keyword.Constant),
            (words(_TYPES, prefix=r"\b", suffix=r"\b"), Keyword.Type),
            (r"(->)(\s*)([A-Za-z_]\w*)", bygroups(Operator, Whitespace, Name.Function)),
            (r"[A-Za-z_]\w*(?=\()", Name.Function),
            (r"[A-Za-z_]\w*", Name),
            (r"\d+(\.\d+)?([eE][+-]?\d+)?", Number),
            (r"->|==|!=|<=|>=|\*\*|//|[-+*/%@=<>]", Operator),
            (r"[()\[\]{},.:]", Punctuation),
        ],
    }
