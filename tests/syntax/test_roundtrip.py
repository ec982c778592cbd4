"""Generated programs over the whole grammar: parse, format, parse again."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netdsl.diagnostics import render_all
from netdsl.source import SourceFile
from netdsl.syntax import format as formatter
from netdsl.syntax import layout
from netdsl.syntax.compare import tree_equal
from netdsl.syntax.format import format_source
from netdsl.syntax.parse import parse
from netdsl.syntax.tree import File
from tests.strategies.programs import programs

relaxed = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def parsed(text: str) -> File:
    file, diagnostics = parse(SourceFile("generated.net", text))
    assert not diagnostics, render_all(diagnostics)
    return file


@relaxed
@given(programs())
def test_formatting_keeps_the_tree_and_is_idempotent(text: str) -> None:
    before = parsed(text)
    formatted = format_source(before.source)
    after = parsed(formatted)
    assert tree_equal(before, after)
    assert format_source(after.source) == formatted
    assert all(len(line) == len(line.rstrip()) for line in formatted.split("\n"))


@pytest.mark.parametrize("width", [1, 30])
@relaxed
@given(text=programs())
def test_formatting_to_narrow_lines_is_idempotent(width: int, text: str) -> None:
    """Lines that never fit break wherever they may; every break of the first run is one of the user's in the second."""
    before = parsed(text)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("WIDTH", width), ("MAX_ALIGNED", width // 2)):
            patch.setattr(layout, name, value)
        patch.setattr(formatter, "WIDTH", width)
        formatted = format_source(before.source)
        after = parsed(formatted)
        assert tree_equal(before, after)
        assert format_source(after.source) == formatted


@relaxed
@given(programs(), st.data())
def test_broken_programs_are_explained_and_never_crash(text: str, data: st.DataObject) -> None:
    """A piece cut out, doubled or replaced: every diagnostic has a place and renders."""
    start = data.draw(st.integers(0, len(text)))
    end = min(len(text), start + data.draw(st.integers(0, 12)))
    piece = data.draw(
        st.sampled_from(("", "}", "(", "]", "->", "if", "else", "=", "as", "in", ",", "'", "¬", ":", "block x(", "-"))
    )
    _, diagnostics = parse(SourceFile("broken.net", text[:start] + piece + text[end:]))
    render_all(diagnostics)
    for diagnostic in diagnostics:
        assert diagnostic.span is not None
        assert 0 <= diagnostic.span.start <= diagnostic.span.end <= len(diagnostic.span.file.text)
        assert diagnostic.message
