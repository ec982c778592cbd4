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
         "block A(x) {\n    if x { } else if -x { y = 1 } else { z = 2 }\n}\n"),
        ("network N{input x:float32[N,3,]\noutput x}", "network N {\n    input x: float32[N, 3]\n    output x\n}\n"),
        ("", ""),
        ("\n\n# only a remark\n\n", "# only a remark\n"),
        ("A = 1\r\nB = 2\r\n", "A = 1\nB = 2\n"),
    ],
)  # fmt: skip
def test_layout(text: str, expected: str) -> None:
    assert formatted(text) == expected


def body(*lines: str) -> str:
    return "block A(x) {\n" + "".join(f"    {line}\n" if line else "\n" for line in lines) + "}\n"


def kept(*lines: str) -> None:
    """These lines of a body stay as they are."""
    assert formatted(body(*lines)) == body(*lines)


def test_the_users_breaks_between_steps_stay() -> None:
    kept(
        "y = x -> conv(64, 1) -> relu",
        "      -> conv(64, 3) -> relu",
        "      -> conv(256, 1)",
        "return y",
        "    -> conv(64, 1) -> relu",
        "    -> relu",
    )
    loose = body("y = x ->", "  conv(64, 1)   -> relu", " ->conv(64, 3) -> relu ->", "relu")
    assert formatted(loose) == body(
        "y = x", "    -> conv(64, 1) -> relu", "    -> conv(64, 3) -> relu", "    -> relu"
    )  # fmt: skip


def test_chains_are_indented_where_alignment_would_leave_no_room() -> None:
    long = "a_tensor_with_a_name_that_is_much_too_long_for_any_tensor"
    kept(f"y = {long} -> conv(64, 1) -> relu", "    -> conv(64, 3)")


def test_long_chains_break_before_their_calls() -> None:
    chain = (
        "conv(64, 7, stride=2, padding=3, bias=false) as stem -> batch_norm -> relu -> max_pool(3, stride=2) -> relu"
    )
    assert formatted(body(f"x = image -> {chain}")) == body(
        "x = image -> conv(64, 7, stride=2, padding=3, bias=false) as stem -> batch_norm -> relu",
        "          -> max_pool(3, stride=2) -> relu",
    )
    step = f"Layer({'123456789, ' * 8}last=1)"
    assert formatted(body(f"x = image -> relu -> {step} -> relu")) == body(
        "x = image -> relu", f"          -> {step}", "          -> relu"
    )
    assert formatted(body(f"x = an_image -> {step} -> relu")) == body("x = an_image", f"    -> {step} -> relu")


def test_the_users_breaks_between_items_stay() -> None:
    kept(
        "y = [",
        "    (1, 2), (3, 4),",
        "    (5, 6),",
        "]",
        "y = concat(x -> conv(64, 1),",
        "           x -> conv(64, 3),  # two",
        "           x -> max_pool(3))",
        "y = x -> Stage([",
        "    1, 2,",
        "    3,",
        "]) -> relu",
        "return x, y,",
        "    y",
    )
    assert formatted(body("y = f(", "a,", "b)", "y = f(a, b", ")", "y = (1,", "2)")) == body(
        "y = f(", "    a,", "    b,", ")", "y = f(a, b)", "y = (1,", "     2)"
    )


def test_broken_parts_of_aligned_lines_stay_to_their_right() -> None:
    kept(
        "y = concat(f(",
        "               1,",
        "           ),",
        "           2)",
        "y = x -> f(",
        "          1,",
        "      )",
        "      -> g",
    )


def test_long_calls_and_headers_break() -> None:
    name = "a_tensor_with_quite_a_long_nam"
    items = [name, f"{name} + 1", f"{name} -> relu", "axis=1"]
    assert formatted(f"A = concat({', '.join(items)})") == f"A = concat(\n    {', '.join(items)},\n)\n"
    more = [name, *items]
    assert formatted(f"A = concat({', '.join(more)})") == (
        "A = concat(\n" + "".join(f"    {item},\n" for item in more) + ")\n"
    )
    names = ", ".join(f"parameter_{letter}=1.0" for letter in "abcdef") + ", flag=1"
    assert formatted(f"block B({names}) {{ }}") == f"block B(\n    {names},\n) {{ }}\n"


def test_long_lists_fill_their_lines() -> None:
    row = ", ".join(["(64, 3, 1)"] * 9)
    assert formatted(f"A = [{row}, {row}]") == f"A = [\n    {row},\n    {row},\n]\n"
    assert formatted(body(f"for a, b, c in [{row}] as stage {{ x = a }}")) == body(
        "for a, b, c in [", f"    {row},", "] as stage { x = a }"
    )


def test_names_outside_of_brackets_break_at_commas() -> None:
    names = [f"a_block_with_a_name_{i}" for i in range(6)]
    assert formatted(f'from "std:layers" import {", ".join(names)}') == (
        f'from "std:layers" import {", ".join(names[:4])},\n    {", ".join(names[4:])}\n'
    )


def test_long_conditionals_and_sums_break_before_their_operators() -> None:
    long = "a_condition_with_quite_a_long_name_of_50_characters"
    assert formatted(f"A = if {long} then {long} else {long}") == f"A = if {long} then {long}\n    else {long}\n"
    assert formatted(f"A = {long} + {long} * 2 - {long}") == f"A = {long}\n    + {long} * 2\n    - {long}\n"
    assert formatted("A = if a\nthen b else c +\nd") == "A = if a\n    then b else c\n        + d\n"


def test_dimensions_of_types_are_tight() -> None:
    out = formatted(
        "network N { input x: float32[N , 3,32 * h-1, (h + 1)//2 ** 2, if a==1 then -h else f(k = h + 1)] }"
    )
    assert "input x: float32[N, 3, 32*h-1, (h+1)//2**2, if a == 1 then -h else f(k=h+1)]" in out


def test_a_body_on_one_line_stays_there_if_it_fits() -> None:
    kept(
        "repeat n - 1 { x = x -> f }",
        "for a in [",
        "    1, 2,",
        "] { x = x -> f }",
        "if a { x = 1 } else if b { } else { x = 2 }  # why",
        "repeat n {",
        "    repeat m { x = x -> f }",
        "}",
    )
    long = "x = x -> " + "f(1, 2, 3) -> " * 6 + "relu -> relu6"
    assert formatted(body(f"repeat depth {{ {long} }}")) == body("repeat depth {", f"    {long}", "}")
    split = ["repeat n {", "    x = f", "    y = g", "}", "repeat n {  # why", "    x = f", "}", "if a {", "    x = 1"]
    kept(*split, "} else {", "    x = 2", "}")
    loose = body("repeat n { x = f y = g }", "repeat n { # why", "x = f }", "if a { x = 1 } else {", "x = 2 }")
    assert formatted(loose) == body(*split, "} else {", "    x = 2", "}")
    assert formatted("block B(x) { return x }\nblock C(x) { return x }") == (
        "block B(x) { return x }\n\nblock C(x) { return x }\n"
    )


def test_subscripts_and_targets_get_no_trailing_comma() -> None:
    long = "a_name_that_is_quite_long_for_a_name_of_anything"
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
        "A = 1\nB = 2\n\nC = 3\n\nblock D(x) {\n    y = x\n\n    return y\n}\n\nblock E(x) { return x }\n\nF = 1\n"
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
