"""Comments that silence warnings: what they cover, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from netdsl.elaborate import check, elaborate
from netdsl.source import SourceFile
from netdsl.syntax.format import format_source
from netdsl.syntax.read import read_source
from tests.lint.helpers import names, warned

ALLOW = "# netdsl: allow stride-skips-pixels"


def network(*lines: str) -> str:
    return "network Net {\n    input x: float32[N, 3, 32, 32]\n" + "".join(f"    {line}\n" for line in lines) + "}\n"


@pytest.mark.parametrize(
    "text",
    [
        network(f"output y = x -> conv(8, 1, stride=2)  {ALLOW}"),
        network(ALLOW, "output y = x -> conv(8, 1, stride=2)"),
        network(ALLOW, "", "# why", "", "output y = x -> conv(8, 1, stride=2)"),
        network("output y = x", "    -> conv(8, 1, stride=2)", f"    -> relu  {ALLOW}"),
        network(ALLOW, "output y = x", "    -> relu -> conv(8, 1, stride=2)"),
        network("output y = x", f"    {ALLOW}", "    -> relu -> conv(8, 1, stride=2)"),
        network("output y = concat(x -> max_pool(2),", f"    {ALLOW}", "    (x -> relu) -> conv(8, 1, stride=2))"),
        network(ALLOW, "repeat 2 {", "    x = x -> conv(8, 1, stride=2)", "}", "output y = x"),
        network("repeat 2 {", f"    {ALLOW}", "    x = x -> conv(8, 1, stride=2)", "}", "output y = x"),
        network("if true {", f"    x = x -> conv(8, 1, stride=2)  {ALLOW}", "}", "output y = x"),
        network(f"repeat 2 {{ x = x -> conv(8, 1, stride=2) }}  {ALLOW}", "output y = x"),
        ALLOW + "\n" + network("output y = x -> conv(8, 1, stride=2)"),
        f"# A network.\n\n{ALLOW}\n\nDEPTH = 1\n" + network("output y = x -> conv(8, 1, stride=2)"),
        f"DEPTH = 1\n{ALLOW}\n" + network("output y = x -> conv(8, 1, stride=2)"),
        network(f"output y = x -> conv(8, 1, stride=2)  {ALLOW} (as published: 1, 2)"),
        network(f"output y = x -> conv(8, 1, stride=2)  {ALLOW}  # as published"),
        network(f"output y = x -> conv(8, 1, stride=2)  {ALLOW}: as published"),
        network("output y = x -> conv(8, 1, stride=2)  #netdsl:allow stride-skips-pixels"),
        network(f"z = (x -> relu) -> conv(8, 1, stride=2)  {ALLOW}, unused-value", "output y = x"),
        network(f"z = (x -> relu) -> conv(8, 1, stride=2)  {ALLOW} unused-value", "output y = x"),
    ],
)
def test_what_a_comment_covers(text: str) -> None:
    assert warned(text) == []
    assert warned(format_source(SourceFile("t.net", text))) == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (network(f"z = x -> relu  {ALLOW}", "output y = z -> conv(8, 1, stride=2)"), 4),
        (network(ALLOW, "z = x -> relu", "output y = z -> conv(8, 1, stride=2)"), 5),
        (network("output y = x -> conv(8, 1, stride=2)", ALLOW), 3),
        (network("output y = x -> conv(8, 1, stride=2)") + ALLOW, 3),
        (network("repeat 1 {", "    x = x -> conv(8, 1, stride=2)", f"}}  {ALLOW}", "output y = x"), 4),
        (network(f"repeat 1 {{  {ALLOW}", "    x = x -> conv(8, 1, stride=2)", "}", "output y = x"), 4),
        (f"DEPTH = 1\n{ALLOW}\nWIDTH = 1\n" + network("output y = x -> conv(8, 1, stride=2)"), 6),
    ],
)
def test_what_it_does_not_cover(text: str, line: int) -> None:
    found = warned(text)
    assert sorted(f.split()[0] for f in found) == ["stride-skips-pixels", "unused-allow"]
    assert any(f.startswith(f"stride-skips-pixels {line}:") for f in found)


@pytest.mark.parametrize(
    ("comment", "column"),
    [
        ("# netdsl: allow stride-skip-pixels", 17),
        ("# netdsl: allow E501", 17),
        ("# netdsl: allow", 1),
        ("# netdsl: allow , (all of them)", 1),
        ("# netdsl: alow unused-value", 1),
        ("# netdsl:", 1),
        ("# netdsl: disable unused-value", 1),
    ],
)
def test_comments_that_are_not_understood(comment: str, column: int) -> None:
    assert warned(f"{comment}\n" + network("output y = x")) == [f"unknown-allow 1:{column}"]


def test_the_misspelt_name_is_underlined_and_the_near_one_is_proposed() -> None:
    (found,) = check(SourceFile("t.net", "# netdsl: allow unused-allow, unused-vale\nA = 1\n"))
    assert found.span is not None
    assert found.span.text == "unused-vale"
    assert found.help == ("did you mean 'unused-value'?",)


def test_other_comments_about_netdsl_are_left_alone() -> None:
    assert (
        warned("# netdsl is what this is for, allow nothing\n# see netdsl: the docs\n" + network("output y = x")) == []
    )


def test_errors_are_not_silenced() -> None:
    text = "# netdsl: allow unknown-name\n" + network("output y = rleu(x)")
    assert [d.name for d in check(SourceFile("t.net", text))] == ["unknown-name"]


def test_comments_where_nothing_was_looked_at_are_left_alone() -> None:
    block = f"block Narrow(x) {{\n    return x -> conv(8, 1, stride=2)  {ALLOW}\n}}\n"
    assert warned(block) == []  # nobody calls it
    assert warned(block + network("output y = x -> Narrow")) == []
    assert names(block.replace(", stride=2", "") + network("output y = x -> Narrow")) == ["unused-allow"]
    needs = network(f"output y = x -> conv(c, 1)  {ALLOW}").replace("Net {", "Net(c) {")
    assert warned(needs) == []  # it has no value to run with
    assert names(needs.replace("(c)", "(c=1)")) == ["unused-allow"]


def test_only_a_check_tells_of_unused_comments() -> None:
    """A compilation looks at one network of the file, with settings of its own."""
    text = network(f"output y = x -> conv(8, 1)  {ALLOW}")
    assert names(text) == ["unused-allow"]
    assert elaborate(SourceFile("t.net", text)).warnings == ()


def test_allowing_these_warnings_themselves() -> None:
    assert warned("# netdsl: allow unused-allow, unused-value\n" + network("output y = x")) == []
    assert warned("# netdsl: allow unknown-allow, unused-vale\n" + network("output y = x")) == []


def test_a_comment_covers_its_own_file_alone(tmp_path: Path) -> None:
    (tmp_path / "part.net").write_text("block P(x) {\n    z = x\n    return x\n}\n")
    main = tmp_path / "main.net"
    main.write_text('# netdsl: allow unused-value\nfrom "part.net" import P\n' + network("output y = x -> P"))
    found = [(d.name, Path(d.place.path).name) for d in check(read_source(str(main)))]
    assert found == [("unused-allow", "main.net"), ("unused-value", "part.net")]
