"""Syntax errors: the message, its place, what to write instead, and no follow-on noise."""

from __future__ import annotations

import pytest

from netdsl.diagnostics import render_all
from netdsl.source import SourceFile
from netdsl.syntax.parse import parse
from tests.syntax.error_cases import AT_THE_TOP, IN_A_BLOCK, Expected


def found(text: str) -> Expected:
    _, diagnostics = parse(SourceFile("m.net", text))
    render_all(diagnostics)
    return [(f"{d.place.line}:{d.place.column}", d.message, d.help[0] if d.help else "") for d in diagnostics]


@pytest.mark.parametrize(("statement", "expected"), IN_A_BLOCK)
def test_error_in_a_block(statement: str, expected: Expected) -> None:
    assert found("block A(x) {\n    " + statement.replace("\n", "\n    ") + "\n    return x\n}\n") == expected


@pytest.mark.parametrize(("text", "expected"), AT_THE_TOP)
def test_error_at_the_top(text: str, expected: Expected) -> None:
    assert found(text) == expected


def notes(text: str) -> list[tuple[str, str]]:
    _, diagnostics = parse(SourceFile("m.net", text))
    return [(note.text, str(note.span)) for d in diagnostics for note in d.notes]


def test_a_missing_bracket_points_at_its_opener() -> None:
    assert notes("block A(x) {\n    y = f(x, [1, 2\n    return y\n}") == [("this '[' is not closed", "m.net:2:14")]


def test_a_missing_brace_is_found_by_indentation() -> None:
    text = "block A(x) {\n    if x {\n        y = 1\n    repeat 2 {\n        y = 2\n    }\n}\nblock B(x) { return x }"
    assert notes(text) == [("this '{' is not closed", "m.net:2:10")]


def test_a_keyword_argument_twice_points_at_the_first() -> None:
    assert notes("y = f(a=1, b=2, a=3)") == [("it is given here already", "m.net:1:7")]


def test_every_broken_definition_is_reported_and_the_others_are_kept() -> None:
    text = (
        "A = 1\nblock B(x) { return x x }\nnetwork C { output y 3 }\nblock D(x) { return x }\ntrain C { loss 3 }\nE = 2"
    )
    file, diagnostics = parse(SourceFile("m.net", text))
    assert [d.place.line for d in diagnostics] == [2, 3, 5]
    assert [type(d).__name__ for d in file.definitions] == ["Constant", "Block"]


def test_names_may_look_like_definitions_across_lines() -> None:
    """`y = block` and `x = 3` are two statements; the parser must not take up there."""
    _, diagnostics = parse(SourceFile("m.net", "block A(x) {\n    y = block\n    x = 3 3\n    return y\n}"))
    assert [d.place.line for d in diagnostics] == [3]


@pytest.mark.parametrize(
    ("deep", "flat"),
    [
        ("y = " + "(" * 201 + "1" + ")" * 201, "y = " + "(" * 200 + "1" + ")" * 200),
        ("y = " + "f(" * 201 + ")" * 201, "y = " + "f(" * 200 + ")" * 200),
        ("y = " + "[" * 201 + "]" * 201, "y = " + "[" * 200 + "]" * 200),
        ("y = " + "- " * 201 + "1", "y = " + "- " * 200 + "1"),
        ("y = " + "not " * 201 + "x", "y = " + "not " * 200 + "x"),
        ("y = " + "2 ** " * 201 + "2", "y = " + "2 ** " * 200 + "2"),
        ("y = " + "if a then b else " * 201 + "c", "y = " + "if a then b else " * 200 + "c"),
        ("y = f" + "()" * 202, "y = f" + "()" * 201),
        ("y = x" + ".a" * 202, "y = x" + ".a" * 201),
        ("block A(x) " + "{ if x " * 201 + "{ }" + "}" * 201, "block A(x) " + "{ if x " * 199 + "{ }" + "}" * 199),
    ],
)
def test_nesting_is_limited(deep: str, flat: str) -> None:
    assert found(flat) == []
    (diagnostic,) = parse(SourceFile("m.net", deep))[1]
    assert diagnostic.name == "nesting"
    assert "more than 200 deep" in diagnostic.message


@pytest.mark.parametrize(
    "text", ["(" * 5000, ")" * 5000, "{" * 5000, "y = " + "-" * 100_000, '"' * 9999, "\0" * 9999, "if " * 5000]
)
def test_junk_is_refused_at_once(text: str) -> None:
    assert 1 <= len(found(text)) <= 500


def test_integers_are_limited_to_4096_bits() -> None:
    assert found(f"y = {2**4096 - 1}") == []
    assert found(f"y = {2**4096}") == [("1:5", "this integer has more than 4,096 bits", "")]
    assert found("y = " + "9" * 1_000_000)[0][1] == "this integer has more than 4,096 bits"
