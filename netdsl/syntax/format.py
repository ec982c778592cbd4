"""`netdsl fmt`: the canonical layout of a source file.

One statement a line, four spaces of indentation, one blank line between definitions and at most one inside of bodies,
strings in double quotes, numbers as they were written. The user's line breaks between steps of chains and between items
stay, and so does a body of one statement on its header's line. Comments stay where they are. Formatting what was
formatted changes nothing, and the text keeps its meaning: it parses to the same tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from netdsl.diagnostics import DiagnosticError
from netdsl.source import SourceFile
from netdsl.syntax import literals, tree
from netdsl.syntax.compare import tree_equal
from netdsl.syntax.lalr import END, Token
from netdsl.syntax.layout import INDENT, WIDTH, lay_out
from netdsl.syntax.lex import lex
from netdsl.syntax.line import LineBuilder
from netdsl.syntax.parse import parse

__all__ = ["format_source", "tree_equal"]


def format_source(source: SourceFile) -> str:
    """The file's text in canonical layout. Raises DiagnosticError with every syntax error of a file that has one."""
    file, diagnostics = parse(source)
    if diagnostics:
        raise DiagnosticError(diagnostics)
    tokens = [token for token in lex(source).tokens if token.type != END]
    texts = {t.start: literals.quoted(literals.string(t.text)) for t in tokens if t.type == "STRING"}
    outline = _Outline.of(file)
    lines = list(_logical_lines(source, _merged(tokens, file.comments), outline))
    _space_definitions(lines)
    out: list[str] = []
    at = 0
    while at < len(lines):
        if lines[at].blank_before and out:
            out.append("")
        end = _end_of_run(lines, at, source.text)
        run = lines[at:end]
        out += _joined(run, [_render(line, source.text, texts, outline.targets) for line in run])
        at = end
    return "".join(text + "\n" for text in out)


# --- the outline -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Outline:
    """Offsets at which statements and definitions start; of definitions with a body; of brackets around targets."""

    starts: frozenset[int]
    bodies: frozenset[int]
    targets: frozenset[int]

    @staticmethod
    def of(file: tree.File) -> _Outline:
        starts, targets = set[int](), set[int]()
        stack: list[tree.Node] = list(file.definitions)
        while stack:
            node = stack.pop()
            match node:
                case tree.Body():
                    stack += node.statements
                    continue
                case tree.If():
                    stack += [branch.body for branch in node.branches] + ([node.otherwise] if node.otherwise else [])
                case tree.For():
                    targets |= _groups(node.target)
                    stack.append(node.body)
                case tree.Repeat() | tree.Block() | tree.Network() | tree.Train():
                    stack.append(node.body)
                case tree.Assign():
                    targets |= {at for target in node.targets for at in _groups(target)}
                case _:
                    pass
            starts.add(node.span.start)
        with_body = (d.span.start for d in file.definitions if isinstance(d, tree.Block | tree.Network | tree.Train))
        return _Outline(frozenset(starts), frozenset(with_body), frozenset(targets))


def _groups(target: tree.Target) -> set[int]:
    """Offsets of the brackets in a target."""
    found, stack = set[int](), [target]
    while stack:
        node = stack.pop()
        if node.span.file.text[node.span.start] == "(":
            # Redundant brackets, `((a, b))`, are one node: each of them is a bracket of targets.
            at, text = node.span.start, node.span.file.text
            while text[at] in "( \t\r\n\f":
                found |= {at} if text[at] == "(" else set()
                at += 1
        if isinstance(node, tree.TargetTuple):
            stack += node.items
    return found


# --- logical lines ---------------------------------------------------------------------------------------------------

Item = Token | tree.Comment


@dataclass(slots=True)
class _Line:
    items: list[Item]
    depth: int
    blank_before: bool
    starts_body: bool = False  # the header of a block, network or recipe
    ends_body: bool = False

    @property
    def is_comment(self) -> bool:
        return isinstance(self.items[0], tree.Comment)

    @property
    def is_plain(self) -> bool:
        """Whether it is a statement without a body or comments."""
        return all(isinstance(item, Token) and item.type not in ("LBRACE", "RBRACE") for item in self.items)

    @property
    def opens(self) -> bool:
        """Whether it ends in an opening brace."""
        last = self.items[-1]
        return isinstance(last, Token) and last.type == "LBRACE"

    @property
    def closes(self) -> bool:
        first = self.items[0]
        return isinstance(first, Token) and first.type == "RBRACE"

    @property
    def remark(self) -> str:
        """The comment at its end, with the space in front."""
        last = self.items[-1]
        return "" if isinstance(last, Token) or last.own_line else "  " + last.text


def _start(item: Item) -> int:
    return item.start if isinstance(item, Token) else item.span.start


def _end(item: Item) -> int:
    return item.end if isinstance(item, Token) else item.span.end


def _merged(tokens: list[Token], comments: tuple[tree.Comment, ...]) -> list[Item]:
    """Tokens and comments in the order of the text; a comma or an opening brace goes before comments in front of it."""
    items: list[Item] = sorted([*tokens, *comments], key=_start)
    out: list[Item] = []
    for item in items:
        at = len(out)
        if isinstance(item, Token) and item.type in ("COMMA", "LBRACE"):
            while at and isinstance(out[at - 1], tree.Comment):
                at -= 1
        elif isinstance(item, tree.Comment) and out and isinstance(out[-1], tree.Comment):
            item = replace(item, own_line=True)  # the word in front of it went before the other comment
        out.insert(at, item)
    return out


def _logical_lines(source: SourceFile, items: list[Item], outline: _Outline) -> Iterator[_Line]:
    """Splits the file into statements, headers, closing braces and comments on lines of their own."""
    line: _Line | None = None
    depth, end = 0, 0
    begins = _boundaries(items, outline)
    for i, item in enumerate(items):
        if line is None or begins[i]:
            if line is not None:
                yield line
            closing = isinstance(item, Token) and item.type == "RBRACE"
            depth -= closing
            blank = source.text.count("\n", end, _start(item)) > 1 and not closing and not _opens(line)
            header = _start(item) in outline.bodies and isinstance(item, Token)
            line = _Line([], depth, blank, header, closing and depth == 0)
        line.items.append(item)
        if isinstance(item, Token) and item.type == "LBRACE":
            depth += 1
        elif isinstance(item, Token) and item.type == "RBRACE" and len(line.items) > 1:
            depth -= 1  # `{ }` on one line
            line.ends_body = depth == 0
        end = max(end, _end(item))
    if line is not None:
        yield line


def _opens(line: _Line | None) -> bool:
    """Whether the line ends in an opening brace, a comment behind it aside."""
    return line is not None and any(isinstance(item, Token) and item.type == "LBRACE" for item in line.items[-2:])


def _boundaries(items: list[Item], outline: _Outline) -> list[bool]:
    """For each item, whether a logical line starts with it; comments with lines of their own before one do, too."""
    found = [False] * len(items)
    boundary = True  # whether nothing but comments stands between the item and the next line's start, or the end
    for i in range(len(items) - 1, -1, -1):
        item, before = items[i], items[i - 1] if i else None
        if isinstance(item, tree.Comment):
            found[i] = boundary and item.own_line
            continue
        opened = isinstance(before, Token) and before.type == "LBRACE"
        boundary = item.start in outline.starts or item.type == "RBRACE"
        found[i] = boundary and not (item.type == "RBRACE" and opened)
    return found


def _space_definitions(lines: list[_Line]) -> None:
    """A blank line before and after each definition with a body; a comment right before one belongs to it."""
    for i, line in enumerate(lines):
        if line.depth == 0 and i and lines[i - 1].ends_body and not line.ends_body:
            line.blank_before = True
        if line.starts_body:
            first = i
            while first and lines[first - 1].is_comment and lines[first - 1].depth == 0:
                first -= 1
            if not any(before.blank_before for before in lines[first : i + 1]):
                lines[first].blank_before = True


def _render(line: _Line, text: str, texts: dict[int, str], targets: frozenset[int]) -> list[str]:
    if line.is_comment:
        return [" " * (line.depth * INDENT) + item.text for item in line.items if isinstance(item, tree.Comment)]
    items = line.items[:-1] if line.remark else line.items
    out = lay_out(LineBuilder(items, text, texts, targets).build(), line.depth * INDENT)
    out[-1] += line.remark
    return out


# --- bodies on one line ----------------------------------------------------------------------------------------------


def _end_of_run(lines: list[_Line], at: int, text: str) -> int:
    """The end of the lines from `at` on that may become one: a header, and bodies of one plain statement each that the
    user wrote on one line. `at + 1` where there are none."""
    end = at
    while end + 2 < len(lines) and lines[end].opens:
        body, closing = lines[end + 1], lines[end + 2]
        between = text[_end(lines[end].items[-1]) : _start(closing.items[0])]
        if not (body.is_plain and closing.closes) or "\n" in between or "\r" in between:
            break
        end += 2
    return at + 1 if lines[end].opens else end + 1


def _joined(lines: list[_Line], rendered: list[list[str]]) -> list[str]:
    """The lines of such a run as one, if it fits; else each for itself."""
    head, rest = rendered[0], rendered[1:]
    if rest and all(len(out) == 1 for out in rest):
        joined = " ".join([head[-1], *(out[0].strip() for out in rest)])
        if len(joined) - len(lines[-1].remark) <= WIDTH:
            return [*head[:-1], joined]
    return [text for out in rendered for text in out]
