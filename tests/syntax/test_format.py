"""`netdsl fmt`: the canonical layout, to the letter."""

from __future__ import annotations

import pytest

from netdsl.diagnostics import DiagnosticError
from netdsl.source import SourceFile
from netdsl.syntax.compare import tree_equal
from netdsl.syntax.format import format_source
from netdsl.syntax.parse import parse


def formatted(text: str) -> str:
    out = format_source(SourceFile("m.net", text))
    assert format_source(SourceFile("m.net", out)) == out
    return out


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1+2*-3", "A = 1 + 2 * -3\n"),
        ("A = f( x ,k = 1, )[ 0 : 2 , ... , :: -1 ]", "A = f(x, k=1)[0:2, ..., ::-1]\n"),
        ("A = 'it'", 'A = "it"\n'),
        ("A = 'say \"hi\"'", 'A = "say \\"hi\\""\n'),
        ("A = (1 ,)", "A = (1,)\n"),
        ("A = 1E-4 -> f as g->h", "A = 1E-4 -> f as g -> h\n"),
        ("A = not(a)and-b not in(c)", "A = not (a) and -b not in (c)\n"),
        ("A = 0 .x", "A = 0 .x\n"),
        ("train r . N 'a'(lr=1){}", 'train r.N "a" (lr=1) { }\n'),
        ("block A(x){repeat(x){}for(a)in[1]{}}", "block A(x) {\n    repeat (x) { }\n    for (a) in [1] { }\n}\n"),
        ("block A(x){if x{}else if-x{y=1}else{z=2}}",
         "block A(x) {\n    if x { } else if -x {\n        y = 1\n    } else {\n        z = 2\n    }\n}\n"),
        ("network N{input x:float32[N,3,]\noutput x}", "network N {\n    input x: float32[N, 3]\n    output x\n}\n"),
        ("", ""),
        ("\n\n# only a remark\n\n", "# only a remark\n"),
        ("A = 1\r\nB = 2\r\n", "A = 1\nB = 2\n"),
    ],
)  # fmt: skip
def test_layout(text: str, expected: str) -> None:
    assert formatted(text) == expected


def test_long_chains_break_at_each_step() -> None:
    chain = "conv(64, 7, stride=2, padding=3, bias=false) as stem -> batch_norm -> relu -> max_pool(3, stride=2)"
    assert formatted(f"block A(image) {{ x = image -> {chain} }}") == (
        "block A(image) {\n"
        "    x = image\n"
        "        -> conv(64, 7, stride=2, padding=3, bias=false) as stem\n"
        "        -> batch_norm\n"
        "        -> relu\n"
        "        -> max_pool(3, stride=2)\n"
        "}\n"
    )


def test_long_calls_break_at_each_argument() -> None:
    name = "a_tensor_with_quite_a_long_name"
    assert formatted(f"A = concat({name}, {name} + 1, k={name}, axis=1)") == (
        f"A = concat(\n    {name},\n    {name} + 1,\n    k={name},\n    axis=1,\n)\n"
    )


def test_long_conditionals_and_sums_break_before_their_operators() -> None:
    long = "a_condition_with_quite_a_long_name"
    assert formatted(f"A = if {long} then {long} else {long}") == f"A = if {long}\n    then {long}\n    else {long}\n"
    assert formatted(f"A = {long} + {long} * 2 - {long}") == f"A = {long}\n    + {long} * 2\n    - {long}\n"


def test_subscripts_and_targets_get_no_trailing_comma() -> None:
    long = "a_name_that_is_quite_long_for_a_name"
    out = formatted(f"A = x[{long}, {long}, {long}]\nblock B(x) {{ a, ({long}, {long}, {long}) = x }}")
    assert ",\n]" not in out
    assert f"({long}, {long}, {long})" in out


def test_comments_stay() -> None:
    text = """# head

A = f(1, # one
      # before two
      2 # two
      )   # end
# on B
block B(x # the input
        ) { # opens
    # inside

    y = x # start
      # between
      -> f # step


    # last
} # closes
C = 1 # tail"""
    assert (
        formatted(text)
        == """# head

A = f(
    1,  # one
    # before two
    2,  # two
)  # end

# on B
block B(
    x,  # the input
) {  # opens
    # inside

    y = x  # start
        # between
        -> f  # step

    # last
}  # closes

C = 1  # tail
"""
    )


def test_blank_lines() -> None:
    text = "\n\nA = 1\nB = 2\n\n\n\nC = 3\nblock D(x) {\n\n\n    y = x\n\n\n    return y\n\n}\n"
    text += "block E(x) { return x }\nF = 1\n"
    assert formatted(text) == (
        "A = 1\nB = 2\n\nC = 3\n\nblock D(x) {\n    y = x\n\n    return y\n}\n\n"
        "block E(x) {\n    return x\n}\n\nF = 1\n"
    )


def test_a_broken_file_is_not_formatted() -> None:
    with pytest.raises(DiagnosticError, match="expected ','"):
        format_source(SourceFile("m.net", "A = f(1 2)"))


def test_deep_and_long_texts_format() -> None:
    formatted("A = " + "f(" * 200 + "x" + ")" * 200)
    formatted("A = x" + " -> conv(64, 3)" * 2000)


def test_tree_equality_sees_every_difference() -> None:
    def equal(a: str, b: str) -> bool:
        return tree_equal(parse(SourceFile("a", a))[0], parse(SourceFile("b", b))[0])

    assert equal("A = f(1,  b)", "A=f(1,b,)")
    pairs = [
        ("A = 1", "A = 1.0"),
        ("A = 1", "A = true"),
        ("A = a", "A = b"),
        ("A = (a)", "A = a"),
        ("A = [1]", "A = [1, 1]"),
        ("A = a + b", "A = a - b"),
        ("A = 1 # c", "A = 1 # d"),
        ("A = f(a=1)", "A = f(1)"),
    ]
    assert not any(equal(a, b) for a, b in pairs)
