"""What a failed run says: one or a few lines and an exit status, never a traceback."""

from __future__ import annotations

from netdsl.cli.console import Console
from netdsl.cli.main import TRACEBACK_HINT
from netdsl.diagnostics import DiagnosticError
from netdsl.elaborate import UsageError
from netdsl.runtime.session import EnvironmentLack


def explain(console: Console, error: Exception) -> int:
    """Prints what went wrong and returns the exit status."""
    match error:
        case DiagnosticError():
            console.diagnostics(error.diagnostics)
            return 1
        case UsageError():
            console.error(str(error))
            return 2
        case EnvironmentLack():
            console.error(str(error))
            return 3
        case ModuleNotFoundError() if error.name and not error.name.startswith("netdsl"):
            console.error(f"the package {error.name!r} is not installed; pip install netdsl again brings it")
            return 3
        case OSError():
            console.error(sentence(error))
            return 1
        case MemoryError():
            console.error("there is not enough memory for this")
            return 1
        case _:
            kind = type(error).__name__
            console.error(f"internal error, please report it ({kind}: {_first_line(error)}); {TRACEBACK_HINT}")
            return 1


def sentence(error: OSError) -> str:
    """`model.onnx: No space left on device`."""
    what = error.strerror or _first_line(error)
    return f"{error.filename}: {what}" if error.filename else what


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]
