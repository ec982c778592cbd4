"""A warning's kind: its name, what its page says, and how one is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from netdsl.diagnostics import Diagnostic, Note, warning
from netdsl.source import Span


@dataclass(frozen=True, slots=True)
class Rule:
    """A kind of warning and its page: `title` is the heading, `what` says when it is given, `why` what it costs the
    user, `mend` what to write instead. `example` is a program that gets this warning and no other, `mended` the same
    program without it. Texts are Markdown, paragraphs in long lines."""

    name: str
    title: str
    what: str
    why: str
    mend: str
    example: str
    mended: str

    def warn(
        self, message: str, span: Span, *, notes: Sequence[Note] = (), help: Sequence[str] | str = ()
    ) -> Diagnostic:
        """A warning of this kind at `span`."""
        return warning(self.name, message, span, notes=notes, help=help)


def note_at(text: str, span: Span | None, other: Span) -> tuple[Note, ...]:
    """A note at `span`; none where that is unknown, or the place of the warning itself (a loop's other turn)."""
    return (Note(text, span),) if span is not None and span != other else ()
