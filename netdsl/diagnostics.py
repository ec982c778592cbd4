"""Diagnostics as values, and the one renderer that turns them into text.

model.net:3:14: error: conv: expected a positive integer for 'kernel', found 3.5
  |
3 |     y = x -> conv(64, 3.5)
  |                       ^^^
  = help: …
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from netdsl.source import Place, Span

MAX_REPORTED = 50  # diagnostics printed in one run; the rest are counted
MAX_LINE = 160  # characters of a source line shown around the fault


class Severity(Enum):
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Note:
    """A remark under a diagnostic; with a span it shows its own source line ("this is float32[N, 64] from here")."""

    text: str
    span: Span | None = None


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One error or warning.

    `name` is the stable name of the kind of diagnostic (`unknown-name`, `shape-mismatch`, …). `span` is the fault
    itself; `path` stands in where there is no text (a missing file). `notes` say where things came from, `help` what
    to write instead, `trace` the calls that led here, innermost first.
    """

    severity: Severity
    name: str
    message: str
    span: Span | None = None
    path: str = ""
    notes: tuple[Note, ...] = ()
    help: tuple[str, ...] = ()
    trace: tuple[Note, ...] = ()

    @property
    def place(self) -> Place:
        """Where the fault is; line 1, column 1 of `path` if no text is at hand."""
        return self.span.place if self.span else Place(self.path, 1, 1)

    def with_trace(self, trace: Sequence[Note]) -> Diagnostic:
        return replace(self, trace=(*self.trace, *trace))


class DiagnosticError(Exception):
    """Raised with every diagnostic of a run, at least one of them an error."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n".join(render(d) for d in self.diagnostics))


def error(
    name: str,
    message: str,
    span: Span | None = None,
    *,
    path: str = "",
    notes: Sequence[Note] = (),
    help: Sequence[str] | str = (),
) -> Diagnostic:
    """An error; `help` may be one sentence or several."""
    helps = (help,) if isinstance(help, str) else tuple(help)
    return Diagnostic(Severity.ERROR, name, message, span, path, tuple(notes), helps)


def warning(
    name: str, message: str, span: Span | None, *, notes: Sequence[Note] = (), help: Sequence[str] | str = ()
) -> Diagnostic:
    """A warning; `# netdsl: allow NAME` silences it."""
    return replace(error(name, message, span, notes=notes, help=help), severity=Severity.WARNING)


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like `name`, or None where none is close; letter case does not count."""
    folded: dict[str, str] = {}
    for candidate in candidates:
        folded.setdefault(candidate.lower(), candidate)
    found = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    return folded[found[0]] if found else None


_COLORS = {
    "error": "\x1b[1;31m",
    "warning": "\x1b[1;33m",
    "note": "\x1b[1;36m",
    "help": "\x1b[1;32m",
    "bold": "\x1b[1m",
}


class _Style:
    def __init__(self, color: bool) -> None:
        self.color = color

    def __call__(self, kind: str, text: str) -> str:
        return f"{_COLORS[kind]}{text}\x1b[0m" if self.color else text


def render(diagnostic: Diagnostic, *, color: bool = False) -> str:
    """The text of a diagnostic as the user sees it, without a final line break."""
    style = _Style(color)
    kind = diagnostic.severity.value
    suffix = f" [{diagnostic.name}]" if diagnostic.severity is Severity.WARNING else ""
    place = str(diagnostic.place) if diagnostic.span else diagnostic.path or "netdsl"
    lines = [f"{style('bold', place + ':')} {style(kind, kind + ':')} {style('bold', diagnostic.message + suffix)}"]
    if diagnostic.span:
        lines += _snippet(diagnostic.span, style, kind)
    for note in (*diagnostic.notes, *diagnostic.trace):
        lines += _note(note, style)
    lines += [f"  = {style('help', 'help:')} {text}" for text in diagnostic.help]
    return "\n".join(lines)


def _note(note: Note, style: _Style) -> list[str]:
    if note.span is None:
        return [f"  = {style('note', 'note:')} {note.text}"]
    return [f"{note.span.place}: {style('note', 'note:')} {note.text}", *_snippet(note.span, style, "note")]


def _snippet(span: Span, style: _Style, kind: str) -> list[str]:
    """The source line with the span underlined; a span of several lines is underlined to the end of its first."""
    line, column = span.file.position(span.start)
    text = span.file.line_text(line)
    width = max(1, min(span.end - span.start, len(text) - column + 1))
    text, column = _window(text, column, width)
    shown = "".join(" " if c == "\t" or not c.isprintable() else c for c in text)
    margin = " " * len(str(line))
    indent = " " * _cells(shown[: column - 1])
    carets = "^" * max(1, _cells(shown[column - 1 : column - 1 + width]))
    return [f"{margin} |", f"{line} | {shown}", f"{margin} | {indent}{style(kind, carets)}"]


def _cells(text: str) -> int:
    """Terminal cells that a text takes: two for the wide characters of East Asian scripts."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 0 if unicodedata.combining(c) else 1 for c in text)


def _window(text: str, column: int, width: int) -> tuple[str, int]:
    """Cuts a very long line to the part around the fault."""
    if len(text) <= MAX_LINE:
        return text, column
    start = max(0, column - 1 - MAX_LINE // 2)
    end = min(len(text), start + MAX_LINE)
    head, tail = ("…" if start else ""), ("…" if end < len(text) else "")
    return head + text[start:end] + tail, column - start + len(head)


def render_all(diagnostics: Sequence[Diagnostic], *, color: bool = False) -> str:
    """All diagnostics, a blank line between them, and a count when there are more than are shown."""
    shown = [render(d, color=color) for d in diagnostics[:MAX_REPORTED]]
    if len(diagnostics) > MAX_REPORTED:
        shown.append(f"… and {len(diagnostics) - MAX_REPORTED} more")
    return "\n\n".join(shown)
