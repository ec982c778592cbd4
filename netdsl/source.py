"""Source text and places in it.

A `SourceFile` is the text of one file; a `Span` is a range of its characters; a `Place` is what a graph keeps of a
span: file, line and column, which survive being printed and read back.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property


@dataclass(frozen=True, eq=False)
class SourceFile:
    """The text of one source file. `path` is the name shown to the user; offsets count characters."""

    path: str
    text: str

    @cached_property
    def line_starts(self) -> list[int]:
        starts = [0]
        find, at = self.text.find, -1
        while (at := find("\n", at + 1)) >= 0:
            starts.append(at + 1)
        return starts

    def position(self, offset: int) -> tuple[int, int]:
        """The line and column, both counted from 1, of a character offset."""
        line = bisect_right(self.line_starts, offset)
        return line, offset - self.line_starts[line - 1] + 1

    def line_text(self, line: int) -> str:
        """The text of a line (counted from 1) without its line break."""
        start = self.line_starts[line - 1]
        end = self.line_starts[line] if line < len(self.line_starts) else len(self.text)
        return self.text[start:end].rstrip("\r\n")


@dataclass(frozen=True, slots=True)
class Span:
    """The characters `start` to `end` (exclusive) of a file."""

    file: SourceFile
    start: int
    end: int

    @property
    def line(self) -> int:
        return self.file.position(self.start)[0]

    @property
    def column(self) -> int:
        return self.file.position(self.start)[1]

    @property
    def text(self) -> str:
        return self.file.text[self.start : self.end]

    @property
    def place(self) -> Place:
        line, column = self.file.position(self.start)
        return Place(self.file.path, line, column, self)

    def to(self, other: Span) -> Span:
        """The span from the start of this one to the end of `other`, in the same file."""
        return Span(self.file, self.start, max(self.end, other.end))

    def __str__(self) -> str:
        return str(self.place)


@dataclass(frozen=True, slots=True)
class Place:
    """`file:line:column`. `span`, where the text is at hand, lets a diagnostic underline it; it is no part of
    equality."""

    path: str
    line: int
    column: int
    span: Span | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"
