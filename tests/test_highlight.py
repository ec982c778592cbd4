"""The Pygments lexer: Pygments finds it, and it knows every character of every program."""

from __future__ import annotations

from pathlib import Path

import pytest
from pygments.lexers import get_lexer_by_name, get_lexer_for_filename
from pygments.token import Comment, Error, Keyword, Name

from netdsl.highlight import NetLexer

ROOT = Path(__file__).parent.parent
PROGRAMS = sorted([*ROOT.glob("examples/*.net"), *ROOT.glob("netdsl/std/*.net")])


def test_pygments_finds_it() -> None:
    assert isinstance(get_lexer_by_name("net"), NetLexer)
    assert isinstance(get_lexer_for_filename("model.net"), NetLexer)


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_every_program_is_lexed(path: Path) -> None:
    tokens = list(NetLexer(stripnl=False).get_tokens(path.read_text(encoding="utf-8")))
    assert not [text for kind, text in tokens if kind is Error]
    assert "".join(text for _, text in tokens) == path.read_text(encoding="utf-8")


def test_words_have_their_kinds() -> None:
    text = "block B(x) { return x -> conv(4, 3) as stem }  # input\nnetwork N { input input: float32[N] }"
    kinds = {word: kind for kind, word in reversed(list(NetLexer().get_tokens(text))) if word.strip()}
    assert kinds["B"] is Name.Class and kinds["conv"] is Name.Function and kinds["stem"] is Name.Label
    assert kinds["return"] is Keyword and kinds["float32"] is Keyword.Type and kinds["# input"] is Comment.Single
    declared = [kind for kind, word in NetLexer().get_tokens("input input: float32[N]") if word == "input"]
    assert declared == [Keyword.Declaration, Name]
