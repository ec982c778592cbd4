"""`netdsl check`: every diagnostic of files, as text or JSON."""

from __future__ import annotations

import json
from typing import Any

import click

from netdsl.cli.console import Console
from netdsl.cli.options import common
from netdsl.diagnostics import Diagnostic, DiagnosticError, Note, Severity, nearest
from netdsl.elaborate import check
from netdsl.lint import RULES
from netdsl.lint.page import plain
from netdsl.lint.rule import Rule
from netdsl.source import Span
from netdsl.syntax.read import read_source


@click.command("check")
@click.argument("files", metavar="FILE.net...", nargs=-1)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--explain", metavar="NAME", help="Print what a warning means and what to do, instead of checking.")
@common
@click.pass_obj
def command(console: Console, files: tuple[str, ...], form: str, explain: str | None) -> int:
    """Report every error and warning of FILE.net ..., recipes and blocks that nobody calls included.

    Writes nothing. Text goes to stderr; `--format json` prints a list of objects to stdout. Exit status 1 if there is
    any error. `# netdsl: allow NAME` in a file silences a warning; `--explain NAME` says what it is about.
    """
    if explain is not None:
        console.result(plain(_rule(explain)))
        return 0
    if not files:
        raise click.UsageError("Missing argument 'FILE.net...'.")
    found: dict[tuple[object, ...], Diagnostic] = {}
    for file in files:
        own = _diagnose(file)
        for diagnostic in own:  # files may import the same third one: say its errors once
            found.setdefault((diagnostic.place, diagnostic.name, diagnostic.message), diagnostic)
        if form == "text" and not console.quiet and not _errors(own):
            console.result(f"{file}: ok ({_count(len(own), 'warning')})")
    everything = list(found.values())
    if form == "json":
        console.result(json.dumps([as_object(d) for d in everything], indent=2, ensure_ascii=False))
    else:
        console.diagnostics(everything)
    return 1 if _errors(everything) else 0


def _rule(name: str) -> Rule:
    """The kind of warning of that name. Raises UsageError."""
    if name in RULES:
        return RULES[name]
    near = nearest(name, RULES)
    hint = f"did you mean {near}?" if near else f"there are {', '.join(RULES)}"
    raise click.UsageError(f"There is no warning {name!r}: {hint}")


def _diagnose(file: str) -> tuple[Diagnostic, ...]:
    try:
        return check(read_source(file))
    except DiagnosticError as error:
        return error.diagnostics


def _errors(diagnostics: list[Diagnostic] | tuple[Diagnostic, ...]) -> int:
    return sum(d.severity is Severity.ERROR for d in diagnostics)


def _count(number: int, what: str) -> str:
    return f"no {what}s" if number == 0 else f"{number} {what}{'s' if number > 1 else ''}"


def as_object(diagnostic: Diagnostic) -> dict[str, Any]:
    """A diagnostic as JSON. Lines and columns count from 1; the end is the position after the last character."""
    return {
        **_range(diagnostic.span, diagnostic.path),
        "severity": diagnostic.severity.value,
        "name": diagnostic.name,
        "message": diagnostic.message,
        "notes": [_note(note) for note in (*diagnostic.notes, *diagnostic.trace)],
        "help": list(diagnostic.help),
    }


def _note(note: Note) -> dict[str, Any]:
    return {"message": note.text, **(_range(note.span, "") if note.span else {})}


def _range(span: Span | None, path: str) -> dict[str, Any]:
    if span is None:
        return {"file": path, "line": 1, "column": 1, "end_line": 1, "end_column": 1}
    line, column = span.file.position(span.start)
    end_line, end_column = span.file.position(span.end)
    return {"file": span.file.path, "line": line, "column": column, "end_line": end_line, "end_column": end_column}
