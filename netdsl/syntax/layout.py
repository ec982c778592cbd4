"""A stream of words, groups and possible line breaks → lines of at most 100 columns where that can be.

A group stays on one line if it fits there, with what follows it up to the next possible break; else all its breaks are
taken. Linear, and without recursion: neither depth nor length of an expression matters.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from netdsl.syntax.tree import Comment

WIDTH = 100
INDENT = 4


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class IfBroken:
    """Text that only a broken group has: its trailing comma."""

    text: str


@dataclass(frozen=True, slots=True)
class Break:
    """A line break in a broken group, `flat` in another. A closing one goes back to the group's own indentation."""

    flat: str
    closing: bool = False


@dataclass(slots=True)
class Open:
    """The start of a group, whose broken lines are indented `by` more than the line that it starts in."""

    by: int = INDENT
    width: int = 0  # on one line
    tail: int = 0  # what follows its end up to the next break
    forced: bool = False  # a comment inside


@dataclass(frozen=True, slots=True)
class Close:
    pass


@dataclass(frozen=True, slots=True)
class Remark:
    """A comment; a line ends after it."""

    comment: Comment


Part = Text | IfBroken | Break | Open | Close | Remark


@dataclass(slots=True)
class _Printer:
    indent: int  # of the next line to be started
    lines: list[str] = field(default_factory=list)
    current: list[str] = field(default_factory=list)
    column: int = 0
    line_indent: int = 0
    closed: bool = False  # the current line ends in a comment

    def newline(self) -> None:
        if self.current:
            self.lines.append("".join(self.current).rstrip())
        self.current, self.column, self.closed = [], 0, False

    def write(self, text: str) -> None:
        if self.closed:
            self.newline()
        if not self.current:
            text = text.lstrip()
            if not text:
                return
            self.line_indent = self.column = self.indent
            self.current.append(" " * self.indent)
        self.current.append(text)
        self.column += len(text)

    def remark(self, comment: Comment) -> None:
        if comment.own_line:
            self.newline()
        self.write("  " + comment.text)
        self.closed = True

    @property
    def at(self) -> int:
        """The column at which the next word stands."""
        return self.column if self.current and not self.closed else self.indent

    @property
    def base(self) -> int:
        """The indentation of the line in which it stands."""
        return self.line_indent if self.current and not self.closed else self.indent


def lay_out(parts: list[Part], indent: int) -> list[str]:
    """The stream's lines, the first of them indented by `indent` columns."""
    _measure(parts)
    printer = _Printer(indent)
    groups: list[tuple[bool, int, int]] = []  # broken; the indentation of its first line, and of its others
    for part in parts:
        match part:
            case Open():
                broken = part.forced or printer.at + part.width + part.tail > WIDTH
                groups.append((broken, printer.base, printer.base + part.by))
            case Close():
                groups.pop()
            case Break():
                broken, base, inner = groups[-1]
                if broken:
                    printer.newline()
                    printer.indent = base if part.closing else inner
                else:
                    printer.write(part.flat)
            case IfBroken():
                printer.write(part.text if groups[-1][0] else "")
            case Text():
                printer.write(part.text)
            case Remark():
                if printer.current:
                    printer.indent = groups[-1][2]
                printer.remark(part.comment)
                printer.indent = groups[-1][2]
    printer.newline()
    return printer.lines


def _measure(parts: list[Part]) -> None:
    """Sets the width and the tail of every group, and which ones a comment breaks."""
    tail, tails = 0, list[int]()
    for part in reversed(parts):
        tail = len(part.text) + tail if isinstance(part, Text) else 0 if isinstance(part, Break) else tail
        tails.append(tail)
    tails.reverse()
    position, forced, stack = 0, 0, list[tuple[Open, int, int]]()
    for i, part in enumerate(parts):
        match part:
            case Open():
                stack.append((part, position, forced))
            case Close():
                group, start, before = stack.pop()
                group.width, group.tail, group.forced = position - start, tails[i], forced > before
            case Text():
                position += len(part.text)
            case Break():
                position += len(part.flat)
            case Remark():
                forced += 1
            case _:
                pass
