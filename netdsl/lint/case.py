"""Names that differ by the case of their letters alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from netdsl.diagnostics import Diagnostic
from netdsl.lint.rule import Rule, note_at
from netdsl.source import Span
from netdsl.syntax import tree
from netdsl.syntax.bindings import bindings_of

CASE = Rule(
    name="names-differ-by-case",
    title="Two names that differ by case",
    what="Two names of one body, two constants, or two blocks and networks of one file are the same but for upper and "
    "lower case. Names of a single letter (`x` and `X`) are left alone, and so are names of different kinds: a block "
    "`Stage` beside a value `stage`, a constant `CLASSES` beside a parameter `classes`.",
    why="Readers, and tired writers, take one for the other; the program stays valid and computes something else.",
    mend="Give one of them another name.",
    example="""\
network Net {
    input image: float32[N, 3, 32, 32]

    skipA = image -> conv(8, 3, padding=1)
    skipa = image -> conv(8, 1)
    output y = skipA * skipa
}
""",
    mended="""\
network Net {
    input image: float32[N, 3, 32, 32]

    wide = image -> conv(8, 3, padding=1)
    narrow = image -> conv(8, 1)
    output y = wide * narrow
}
""",
)


def check(file: tree.File) -> Iterator[Diagnostic]:
    yield from _alike((d.name.id, d.name.span) for d in file.definitions if isinstance(d, tree.Constant))
    yield from _alike(_parts(file))
    for definition in file.definitions:
        if isinstance(definition, tree.Block | tree.Network | tree.Train):
            parameters = {p.name.id: p.name.span for p in definition.parameters}
            yield from _alike((parameters | bindings_of(definition.body).names).items())


def _parts(file: tree.File) -> Iterator[tuple[str, Span]]:
    """Blocks and networks, imported ones too."""
    for definition in file.definitions:
        if isinstance(definition, tree.Block | tree.Network):
            yield definition.name.id, definition.name.span
        elif isinstance(definition, tree.FromImport):
            for item in definition.names:
                name = item.alias or item.name
                yield name.id, name.span


def _alike(names: Iterable[tuple[str, Span]]) -> Iterator[Diagnostic]:
    first: dict[str, tuple[str, Span]] = {}
    for name, span in names:
        other, place = first.setdefault(name.lower(), (name, span))
        if other != name and len(name) > 1:
            yield CASE.warn(
                f"'{name}' and '{other}' differ by case alone",
                span,
                notes=note_at(f"'{other}' is here", place, span),
                help="give one of them another name",
            )
