"""Reads source files, with an error of its own for each way in which that fails."""

from __future__ import annotations

import codecs
from pathlib import Path

from netdsl.diagnostics import Diagnostic, DiagnosticError, error, nearest
from netdsl.source import SourceFile, Span

MAX_BYTES = 3_000_000  # a chain of 100,000 convolutions fits; no text may take minutes or gigabytes to parse


def read_source(path: str | Path, display: str | None = None) -> SourceFile:
    """The text of a file; `display` is its name in messages (default: the path as given).

    UTF-8, with or without a byte order mark; any line ends. Raises DiagnosticError where the file is missing, a
    directory, not readable, too large, not UTF-8, or holds NUL bytes. An empty file is fine here.
    """
    path = Path(path)
    shown = display if display is not None else str(path)
    try:
        if path.is_dir():
            raise _failure("this is a directory, not a .net file", shown, _first_net_file(path))
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _failure("there is no such file", shown, _similar_file(path, shown)) from None
    except PermissionError:
        raise _failure("the file cannot be read: permission denied", shown) from None
    except (OSError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or str(fault)
        raise _failure(f"the file cannot be read: {reason}", shown) from None
    if len(data) > MAX_BYTES:
        raise _failure(
            f"the file is larger than {MAX_BYTES // 1_000_000} MB: too large for a description of a network", shown
        )
    return _decode(data, shown)


def _failure(message: str, shown: str, help: str = "") -> DiagnosticError:
    return DiagnosticError([error("file", message, path=shown, help=help or ())])


def _decode(data: bytes, shown: str) -> SourceFile:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise _failure("the file is UTF-16, expected UTF-8", shown, "save it as UTF-8")
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as fault:
        before = data[: fault.start].decode("utf-8")
        message = f"the file is not UTF-8: byte 0x{data[fault.start]:02X} cannot stand here"
        source = SourceFile(shown, data.decode("utf-8", errors="replace"))
        raise DiagnosticError([_at(source, len(before), "encoding", message, "save the file as UTF-8")]) from None
    source = SourceFile(shown, text)
    if (at := text.find("\0")) >= 0:
        message = "the file holds a NUL byte: it is no text"
        raise DiagnosticError(
            [_at(source, at, "encoding", message, "is this a .net file, or an .onnx file or an image?")]
        )
    return source


def _at(source: SourceFile, offset: int, name: str, message: str, help: str) -> Diagnostic:
    return error(name, message, Span(source, offset, offset + 1), help=help)


def _similar_file(path: Path, shown: str) -> str:
    """The file in the same folder that has the nearest name."""
    try:
        names = sorted(
            entry.name for entry in path.parent.iterdir() if entry.suffix == path.suffix or entry.suffix == ".net"
        )
    except OSError:
        return ""
    found = nearest(path.name, names)
    return f"did you mean '{shown.removesuffix(path.name)}{found}'?" if found and shown.endswith(path.name) else ""


def _first_net_file(path: Path) -> str:
    try:
        names = sorted(entry.name for entry in path.iterdir() if entry.suffix == ".net")
    except OSError:
        return ""
    return f"name one of its files: {', '.join(names[:3])}" + (", …" if len(names) > 3 else "") if names else ""
