"""Broken programs and the exact text that a user sees.

`NAME.net` stands beside `NAME.err`. A program whose first line is `# elaborate` is compiled, all others are checked;
files in `parts/` are imported by them. NETDSL_UPDATE_ERRORS=1 writes the `.err` files anew: read every change as a user
would.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from netdsl.diagnostics import DiagnosticError, Severity, render_all
from netdsl.elaborate import check, elaborate
from netdsl.lint import RULES
from netdsl.syntax.read import read_source

FOLDER = Path(__file__).parent
PROGRAMS = sorted(path.name for path in FOLDER.glob("*.net"))
UPDATE = os.environ.get("NETDSL_UPDATE_ERRORS") == "1"


def diagnose(name: str) -> str:
    """The text of all diagnostics of a program."""
    try:
        source = read_source(name)
        if source.text.startswith("# elaborate"):
            elaborate(source)
            return ""
        found = check(source)
    except DiagnosticError as error:
        found = error.diagnostics
    assert any(d.severity is Severity.ERROR for d in found) or name.startswith("warning_")
    return render_all(found) + "\n"


@pytest.mark.parametrize("name", PROGRAMS)
def test_message(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FOLDER)
    expected = FOLDER / name.replace(".net", ".err")
    text = diagnose(name)
    if UPDATE:
        expected.write_text(text, encoding="utf-8")
    assert text == expected.read_text(encoding="utf-8")


def test_every_warning_has_a_program() -> None:
    assert {f"warning_{name.replace('-', '_')}.net" for name in RULES} <= set(PROGRAMS)


def test_enough_programs() -> None:
    assert len(PROGRAMS) >= 80
    assert {path.name for path in FOLDER.glob("*.err")} == {name.replace(".net", ".err") for name in PROGRAMS}


@pytest.mark.parametrize("name", PROGRAMS)
def test_place_is_stated(name: str) -> None:
    """Every diagnostic starts with `file:line:column: error:`, or with the file where there is no text."""
    for block in (FOLDER / name.replace(".net", ".err")).read_text(encoding="utf-8").split("\n\n"):
        head = block.split("\n")[0]
        assert ": error: " in head or ": warning: " in head
