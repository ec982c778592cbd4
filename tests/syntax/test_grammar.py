"""The grammar itself: LALR(1) without conflicts, and cheap to load."""

from __future__ import annotations

import logging

import pytest
from lark import Lark, logger

from netdsl.resources import grammar_text
from netdsl.syntax.lalr import load


def conflicts(grammar: str, caplog: pytest.LogCaptureFixture) -> list[str]:
    logger.addHandler(caplog.handler)
    level = logger.level
    logger.setLevel(logging.DEBUG)
    try:
        Lark(grammar, parser="lalr", lexer="basic", debug=True)
    finally:
        logger.setLevel(level)
        logger.removeHandler(caplog.handler)
    return [r.getMessage() for r in caplog.records if "conflict" in r.getMessage().lower()]


def test_the_grammar_has_no_conflicts(caplog: pytest.LogCaptureFixture) -> None:
    assert conflicts(grammar_text("netdsl.lark"), caplog) == []


def test_a_conflict_would_be_seen(caplog: pytest.LogCaptureFixture) -> None:
    assert conflicts('start: "if" start | "if" start "else" start | "x"', caplog)


def test_reserved_words_are_those_of_the_language() -> None:
    soft = "input output target metric param shared frozen block network train repeat"
    reserved = "import from as for in if then else return assert true false none and or not _"
    assert set(load("netdsl.lark").keywords) == {*soft.split(), *reserved.split()}


def test_a_missing_grammar_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.lark"):
        grammar_text("absent.lark")
