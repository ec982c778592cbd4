"""The house rules that tools can check: layout, lint, strict types, layers, programs. pre-commit runs the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMMANDS = {
    "format": ["ruff", "format", "--check", "."],
    "lint": ["ruff", "check", "."],
    "types": ["mypy"],
    "layers": ["lint-imports"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_tool(name: str) -> None:
    tool, *arguments = COMMANDS[name]
    executable = Path(sys.executable).parent / tool
    done = subprocess.run([executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_programs_are_formatted() -> None:
    from netdsl.source import SourceFile
    from netdsl.syntax.format import format_source

    for path in [*ROOT.glob("examples/*.net"), *ROOT.glob("netdsl/std/*.net")]:
        text = path.read_text()
        assert format_source(SourceFile(path.name, text)) == text, f"netdsl fmt {path}"


def test_wheel_holds_grammar_and_library(tmp_path: Path) -> None:
    import zipfile

    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, ROOT], check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("netdsl-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"netdsl/_grammar/netdsl.lark", "netdsl/_grammar/ir.lark", "netdsl/std/layers.net"} <= names
