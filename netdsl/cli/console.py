"""What a command prints: results to stdout, messages and progress to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Literal

from netdsl.diagnostics import Diagnostic, render_all

ColorMode = Literal["auto", "always", "never"]


class Console:
    """Made once for each run; `--quiet` and `--color` set its fields."""

    def __init__(self) -> None:
        self.quiet = False
        self.color: ColorMode = "auto"

    def colors(self, stream: IO[str]) -> bool:
        """Whether to colour what goes to `stream`. NO_COLOR (no-color.org) counts in `auto`."""
        if self.color != "auto":
            return self.color == "always"
        return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def result(self, text: str) -> None:
        """A line, or several, of the command's result."""
        _write(sys.stdout, text)

    def message(self, text: str) -> None:
        """A line for whoever watches; `--quiet` drops it."""
        if not self.quiet:
            _write(sys.stderr, text)

    def error(self, text: str) -> None:
        label = "\x1b[1;31merror:\x1b[0m" if self.colors(sys.stderr) else "error:"
        _write(sys.stderr, f"netdsl: {label} {text}")

    def diagnostics(self, diagnostics: Sequence[Diagnostic]) -> None:
        if diagnostics:
            _write(sys.stderr, render_all(diagnostics, color=self.colors(sys.stderr)))

    def warnings(self, diagnostics: Sequence[Diagnostic]) -> None:
        """What a command says besides its result; `--quiet` drops it."""
        if not self.quiet:
            self.diagnostics(diagnostics)

    @contextmanager
    def stage(self, text: str, *, long: bool = False) -> Iterator[None]:
        """Shows what is being done: on a terminal a line that goes away; elsewhere a plain line, if it takes `long`."""
        terminal = sys.stderr.isatty()
        if self.quiet or not (terminal or long):
            yield
            return
        _put(sys.stderr, f"{text} …" + ("" if terminal else "\n"))
        try:
            yield
        finally:
            if terminal:
                _put(sys.stderr, "\r\x1b[2K")


def _write(stream: IO[str], text: str) -> None:
    _put(stream, text if text.endswith("\n") else text + "\n")


def _put(stream: IO[str], text: str) -> None:
    """Writes text, with `?` for what the stream's encoding lacks."""
    try:
        stream.write(text)
    except UnicodeEncodeError as error:
        encoding = error.encoding
        stream.write(text.encode(encoding, "replace").decode(encoding))
    stream.flush()
