"""The table of warnings, and the programs that must be free of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import netdsl
from netdsl.diagnostics import Severity, render_all
from netdsl.elaborate import check
from netdsl.lint import RULES
from netdsl.lint.page import WIDTH, plain
from netdsl.source import SourceFile
from netdsl.syntax.format import format_source
from netdsl.syntax.read import read_source

ROOT = Path(__file__).parent.parent.parent
PROGRAMS = [*sorted((ROOT / "examples").glob("*.net")), *sorted((ROOT / "netdsl" / "std").rglob("*.net"))]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_examples_and_the_library_are_free_of_warnings(path: Path) -> None:
    found = check(read_source(str(path)))
    assert not found, render_all(found)


@pytest.mark.parametrize("name", RULES)
def test_each_page_shows_a_program_that_gets_the_warning_and_one_that_does_not(name: str) -> None:
    rule = RULES[name]
    (found,) = check(SourceFile("t.net", rule.example))
    assert (found.severity, found.name) == (Severity.WARNING, name)
    assert found.help
    assert check(SourceFile("t.net", rule.mended)) == ()
    for program in (rule.example, rule.mended):
        assert format_source(SourceFile("t.net", program)) == program


@pytest.mark.parametrize("name", RULES)
def test_a_comment_at_the_top_silences_it(name: str) -> None:
    text = f"# netdsl: allow {name}\n{RULES[name].example}"
    assert check(SourceFile("t.net", text)) == ()


@pytest.mark.parametrize("name", RULES)
def test_pages_are_complete_and_fit_a_terminal(name: str) -> None:
    rule = RULES[name]
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)
    assert all((rule.title, rule.what, rule.why, rule.mend))
    page = plain(rule)
    assert rule.example.splitlines()[0] in page
    assert "](" not in page
    prose = [line for line in page.splitlines() if not line.startswith("    ")]
    assert all(len(line) <= WIDTH for line in prose)


def test_the_api_gives_them_as_values() -> None:
    model = netdsl.compile_source(RULES["bias-before-batch-norm"].example)
    assert [w.name for w in model.warnings] == ["bias-before-batch-norm"]
