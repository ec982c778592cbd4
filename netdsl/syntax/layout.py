"""A stream of words, groups and possible line breaks → lines of at most 120 columns where that can be.

A group with line breaks of the user's own keeps them, and breaks further only where a line would be too long. Another
stays on one line if it fits there, with what follows it up to the next possible break; else it breaks in the manner of
its kind. Whatever is decided is what a second run finds as the user's breaks, so that it changes nothing. Linear, and
without recursion: neither depth nor length of an expression matters.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from netdsl.syntax.tree import Comment

WIDTH = 120
INDENT = 4
MAX_ALIGNED = 60  # further to the right, lines are indented instead of aligned


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class IfOpened:
    """Text that only a bracket has whose items stand on lines of their own: its trailing comma."""

    text: str


@dataclass(slots=True)
class Break:
    """A possible line break, `flat` where none is made. `kind` is "item" (between items, before operators), or "open"
    and "close" for those inside of a bracket's ends."""

    flat: str
    kind: str = "item"
    kept: bool = False  # the user made it
    hard: bool = True  # made whenever the group is too long; else only where the line is
    ahead: int = 0  # columns from here to the next break of the group, or to the end of the line
    last: bool = False  # no item's break of the group comes after it
    cut: bool = False  # a line certainly ends before the next break of the group


@dataclass(slots=True)
class Open:
    """The start of a group. `kind` is "plain" (operators, …), "chain" or "bracket"."""

    kind: str = "plain"
    by: int = INDENT
    width: int = 0  # on one line
    tail: int = 0  # what follows its end up to the next break
    kept: bool = False  # has breaks that the user made
    opened: bool = False  # a bracket that the user opened to lines of its own
    first: int | None = None  # columns up to the first certain line break inside, if there is one
    final: int = 0  # columns from the last of them to the end


@dataclass(frozen=True, slots=True)
class Close:
    pass


@dataclass(frozen=True, slots=True)
class Remark:
    """A comment; a line ends after it."""

    comment: Comment


Part = Text | IfOpened | Break | Open | Close | Remark


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


@dataclass(slots=True)
class _Group:
    """A group while it is written."""

    part: Open
    broken: bool
    base: int  # the indentation of its first line
    inner: int  # and of its others
    floor: int  # the least indentation of groups inside: what is aligned stays to the right of its column
    opened: bool = False
    in_full: bool = True  # every hard break is made
    begun: bool = False  # an item's break was met

    @staticmethod
    def of(part: Open, printer: _Printer, floor: int) -> _Group:
        base, at = max(printer.base, floor), printer.at
        broken = part.kept or not _fits(part, at, base)
        group = _Group(part, broken, base, base + part.by, floor, in_full=not part.kept)
        if part.kind == "bracket" and broken:
            group.opened = part.opened or not part.kept or at > MAX_ALIGNED
            if not group.opened:
                group.inner = group.floor = at
            group.in_full &= part.first is not None or group.inner + part.width + 1 > WIDTH
        return group

    def breaks(self, part: Break, at: int) -> bool:
        """Whether a line ends at the break; `at` is the column before it."""
        if not self.broken:
            return False
        if part.kind != "item":
            return self.opened
        first, self.begun = not self.begun, True
        after = 0 if self.part.kind != "bracket" or not part.last else 1 if self.opened else self.part.tail
        taken = part.kept or at + part.ahead + after > WIDTH
        if self.part.kind == "chain" and first:
            taken |= self.in_full and (part.cut or at >= MAX_ALIGNED)
            if not taken and at < MAX_ALIGNED:
                self.inner = self.floor = at + 1
            return taken
        return taken or (self.in_full and part.hard)


def _fits(part: Open, at: int, base: int) -> bool:
    if part.first is None:
        return at + part.width + part.tail <= WIDTH
    return at + part.first <= WIDTH and base + part.final + part.tail <= WIDTH


def lay_out(parts: list[Part], indent: int) -> list[str]:
    """The stream's lines, the first of them indented by `indent` columns."""
    _measure(parts)
    printer = _Printer(indent)
    groups: list[_Group] = []
    for part in parts:
        match part:
            case Open():
                groups.append(_Group.of(part, printer, groups[-1].floor if groups else 0))
            case Close():
                groups.pop()
            case Break():
                group = groups[-1]
                if group.breaks(part, printer.at):
                    printer.newline()
                    printer.indent = group.base if part.kind == "close" else group.inner
                else:
                    printer.write(part.flat)
            case IfOpened():
                printer.write(part.text if groups[-1].opened else "")
            case Text():
                printer.write(part.text)
            case Remark():
                if printer.current:
                    printer.indent = groups[-1].inner
                printer.remark(part.comment)
                printer.indent = groups[-1].inner
    printer.newline()
    return printer.lines


# --- widths ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Frame:
    """A group while it is measured: where it starts, and its last break; with the number of line ends before each."""

    group: Open
    start: int
    ends_before: int
    waiting: Break | None = None
    waiting_at: int = 0
    waiting_ends: int = 0


def _measure(parts: list[Part]) -> None:
    """Sets the widths of every group and break, and what the user's breaks and comments make certain."""
    tails = _tails(parts)
    position, ends, stack = 0, list[int](), list[_Frame]()
    for i, part in enumerate(parts):
        match part:
            case Open():
                stack.append(_Frame(part, position, len(ends)))
            case Close():
                frame = stack.pop()
                group = frame.group
                group.width, group.tail = position - frame.start, tails[i]
                if len(ends) > frame.ends_before:
                    group.first, group.final = ends[frame.ends_before] - frame.start, position - ends[-1]
                _settle(frame, position + tails[i], ends, last=True)
            case Break():
                frame = stack[-1]
                _settle(frame, position, ends, last=part.kind == "close")
                if part.kind == "item":
                    frame.waiting, frame.waiting_at = part, position
                if part.kept or (part.kind == "close" and frame.group.opened):
                    frame.group.kept = True
                    frame.group.opened |= part.kind == "open"
                    ends.append(position)
                frame.waiting_ends = len(ends)
                position += len(part.flat)
            case Text():
                position += len(part.text)
            case Remark():
                ends.append(position)
            case _:
                pass


def _settle(frame: _Frame, position: int, ends: list[int], last: bool) -> None:
    """What lies between the group's last break and `position`, where its next one is or it ends."""
    part = frame.waiting
    if part is not None:
        part.cut = len(ends) > frame.waiting_ends
        part.ahead = (ends[frame.waiting_ends] if part.cut else position) - frame.waiting_at
        part.last = last
        frame.waiting = None


def _tails(parts: list[Part]) -> list[int]:
    """For each part, the columns that follow up to the next possible break."""
    tail, tails = 0, list[int]()
    for part in reversed(parts):
        match part:
            case Text() | IfOpened():
                tail += len(part.text)
            case Break() | Remark():
                tail = 0
            case _:
                pass
        tails.append(tail)
    tails.reverse()
    return tails
