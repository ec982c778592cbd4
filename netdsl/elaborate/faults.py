"""How evaluation fails: a fault ends a statement; the statement's names become poison and the next one goes on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from netdsl.diagnostics import Diagnostic


class UsageError(Exception):
    """A setting or a network that the file does not have: the command line's mistake, not the file's."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Fault(Exception):
    """Diagnostics to report; none of them where the cause was reported before."""

    def __init__(self, diagnostics: Iterable[Diagnostic] = ()) -> None:
        super().__init__()
        self.diagnostics = tuple(diagnostics)


class Refusal(Exception):
    """A plain operation that cannot be done; the evaluator knows where it stands and makes a `Fault` of it."""

    def __init__(self, message: str, *, help: Sequence[str] | str = (), name: str = "invalid-value") -> None:
        super().__init__(message)
        self.message = message
        self.help = (help,) if isinstance(help, str) else tuple(help)
        self.name = name


class Limit(Refusal):
    """A limit of the language is exceeded."""

    def __init__(self, message: str, *, help: Sequence[str] | str = ()) -> None:
        super().__init__(message, help=help, name="limit")


class Exhausted(Limit):
    """A limit on the evaluation as a whole: going on would take too long."""


class Abort(Exception):
    """Ends a whole evaluation: a limit after which going on would take too long. The diagnostic was reported."""
