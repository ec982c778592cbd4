"""`# netdsl: allow NAME`: the comments that silence warnings, what each of them covers, and what is wrong with them.

A comment behind a statement covers its line, and the statement if that ends there; one on a line of its own the
statement or definition that follows; one before the first definition the file.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from netdsl.diagnostics import Diagnostic, Severity, nearest
from netdsl.lint.rule import Rule
from netdsl.source import Span
from netdsl.syntax import tree

_DIRECTIVE = re.compile(r"#\s*netdsl\s*:\s*(?P<word>[\w-]*)(?P<names>[^(#:]*)")  # a remark may follow
_T = TypeVar("_T")
_Node = TypeVar("_Node", bound=tree.Node)
_NAME = re.compile(r"[^\s,]+")

_HOW = (
    "A comment behind a statement covers that statement, one on a line of its own the statement, loop or definition "
    "that follows, and one before the first definition or import the whole file."
)

UNKNOWN = Rule(
    name="unknown-allow",
    title="A comment that allows no known warning",
    what="A comment starts with `# netdsl:` and is not understood: `allow` is missing or misspelt, or it names no "
    "warning.",
    why="The warning that was meant is still given, or will be when the code changes.",
    mend="Write `# netdsl: allow NAME`; several names are separated by commas, and a remark may follow in parentheses.",
    example="""\
network Net {
    input image: float32[N, 3, 32, 32]

    output y = image -> conv(32, 1, stride=2)  # netdsl: allow stride-skips-pixels, stride-skip-pixel (meant)
}
""",
    mended="""\
network Net {
    input image: float32[N, 3, 32, 32]

    output y = image -> conv(32, 1, stride=2)  # netdsl: allow stride-skips-pixels (meant)
}
""",
)

UNUSED = Rule(
    name="unused-allow",
    title="A comment that silences nothing",
    what=f"A comment `# netdsl: allow NAME` stands where that warning is not given. {_HOW} `netdsl check` tells, since "
    "it looks at all networks of a file. Comments in a block that nobody calls are left alone.",
    why="The code was mended and the comment left behind, or it stands in the wrong place.",
    mend="Delete it, or move it.",
    example="""\
network Net {
    input image: float32[N, 3, 32, 32]

    # netdsl: allow bias-before-batch-norm
    output y = image -> conv(16, 3, bias=false) -> batch_norm
}
""",
    mended="""\
network Net {
    input image: float32[N, 3, 32, 32]

    output y = image -> conv(16, 3, bias=false) -> batch_norm
}
""",
)


@dataclass(frozen=True, slots=True, eq=False)
class Allowance:
    """One name in such a comment: `span` is its place; it covers the lines `first` to `last`. `owner`: the definition
    in which it stands."""

    name: str
    span: Span
    first: int
    last: int
    owner: tree.Definition | None


def allowances(file: tree.File) -> tuple[Allowance, ...]:
    """Every name that a comment of the file allows, in the order of the text."""
    found: list[Allowance] = []
    for comment in file.comments:
        match = _DIRECTIVE.match(comment.text)
        if match and match["word"] == "allow":
            first, last = _covered(file, comment)
            owner = _last_before(file.definitions, comment.span.start)
            owner = owner if owner and comment.span.start < owner.span.end else None
            for name, span in _names(comment, match):
                found.append(Allowance(name, span, first, last, owner))
    return tuple(found)


def without_allowed(
    diagnostics: Sequence[Diagnostic], allowed: Sequence[Allowance]
) -> tuple[list[Diagnostic], set[Allowance]]:
    """What no comment silences, and the comments' names that silence something."""
    silenced, used = set[int](), set[Allowance]()
    comments = _grouped(allowed, lambda a: (id(a.span.file), a.name))
    given = _grouped(range(len(diagnostics)), lambda i: _subject(diagnostics[i]))
    for key, names in comments.items():
        lines = sorted((span.line, i) for i in given.get(key, ()) if (span := diagnostics[i].span))
        names.sort(key=lambda a: a.first)
        at, active = 0, list[Allowance]()
        for line, i in lines:
            while at < len(names) and names[at].first <= line:
                active.append(names[at])
                at += 1
            active = [a for a in active if a.last >= line]
            used.update(active)
            silenced |= {i} if active else set()
    return [d for i, d in enumerate(diagnostics) if i not in silenced], used


def _subject(diagnostic: Diagnostic) -> tuple[int, str] | None:
    """The file and the name of a warning; errors are not silenced."""
    if diagnostic.severity is not Severity.WARNING or diagnostic.span is None:
        return None
    return id(diagnostic.span.file), diagnostic.name


def _grouped(items: Iterable[_T], key: Callable[[_T], Any]) -> dict[Any, list[_T]]:
    groups: dict[Any, list[_T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def unknown(file: tree.File, known: Container[str], names: Sequence[str]) -> Iterator[Diagnostic]:
    """Comments that name no known warning. `names` are those that a slip may have meant."""
    for comment in file.comments:
        match = _DIRECTIVE.match(comment.text)
        if match is None:
            continue
        if match["word"] != "allow":
            yield UNKNOWN.warn("this comment is not understood", comment.span, help="write # netdsl: allow NAME")
            continue
        if not _NAME.search(match["names"]):
            message = "this comment does not say which warning it allows"
            yield UNKNOWN.warn(message, comment.span, help="write # netdsl: allow NAME")
        for name, span in _names(comment, match):
            if name not in known:
                near = nearest(name, names)
                help = f"did you mean '{near}'?" if near else "netdsl check prints the name behind each warning"
                yield UNKNOWN.warn(f"there is no warning '{name}'", span, help=help)


def unused(
    allowed: Sequence[Allowance], used: Container[Allowance], judged: Callable[[Allowance], bool]
) -> Iterator[Diagnostic]:
    """Comments that silence nothing; `judged` says whether all that they cover was looked at."""
    for allowance in allowed:
        if allowance not in used and allowance.name not in (UNUSED.name, UNKNOWN.name) and judged(allowance):
            message = f"this comment silences nothing: there is no {allowance.name} where it stands"
            yield UNUSED.warn(message, allowance.span, help="delete it")


def _names(comment: tree.Comment, match: re.Match[str]) -> Iterator[tuple[str, Span]]:
    for name in _NAME.finditer(comment.text, *match.span("names")):
        start = comment.span.start
        yield name.group(), Span(comment.span.file, start + name.start(), start + name.end())


# --- what a comment covers -------------------------------------------------------------------------------------------


def _covered(file: tree.File, comment: tree.Comment) -> tuple[int, int]:
    """The first and the last line."""
    line = comment.span.line
    nodes, inside = _around(file, comment.span.start)
    if not comment.own_line:
        before = None if inside else _last_before(nodes, comment.span.start)
        ends_here = before is not None and _last_line(before) == line and not _bodies(before)
        return (before.span.line, line) if before and ends_here else (line, line)
    if not file.definitions or comment.span.start < file.definitions[0].span.start:
        return 1, len(file.source.line_starts)
    if inside:  # between the lines of a statement
        return line, _next_line(file, line)
    at = bisect_right(nodes, comment.span.start, key=_start)
    return (nodes[at].span.line, _last_line(nodes[at])) if at < len(nodes) else (line, line)


def _around(file: tree.File, offset: int) -> tuple[Sequence[tree.Node], bool]:
    """The statements or definitions of the innermost body around an offset, and whether it is inside of one of them."""
    nodes: Sequence[tree.Node] = file.definitions
    while True:
        within = _last_before(nodes, offset)
        if within is None or within.span.end <= offset:
            return nodes, False
        body = next((b for b in _bodies(within) if b.span.start < offset < b.span.end), None)
        if body is None:
            return nodes, True
        nodes = body.statements


def _last_before(nodes: Sequence[_Node], offset: int) -> _Node | None:
    """The last of the nodes that starts before an offset."""
    at = bisect_right(nodes, offset, key=_start)
    return nodes[at - 1] if at else None


def _start(node: tree.Node) -> int:
    return node.span.start


def _bodies(node: tree.Node) -> tuple[tree.Body, ...]:
    match node:
        case tree.Block() | tree.Network() | tree.Train() | tree.For() | tree.Repeat():
            return (node.body,)
        case tree.If():
            return (*(branch.body for branch in node.branches), *([node.otherwise] if node.otherwise else []))
        case _:
            return ()


def _last_line(node: tree.Node) -> int:
    return node.span.file.position(node.span.end)[0]


def _next_line(file: tree.File, line: int) -> int:
    """The next line that holds more than a comment."""
    count = len(file.source.line_starts)
    while line < count:
        line += 1
        text = file.source.line_text(line).strip()
        if text and not text.startswith("#"):
            break
    return line
