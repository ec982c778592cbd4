"""Finds Python interpreters on this machine that can make an environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

Version = tuple[int, int]

#: Prints the version, and fails where environments cannot be made (Debian ships venv without ensurepip).
_PROBE = "import sys, venv, ensurepip; print(*sys.version_info[:2])"
_PATIENCE = 20.0  # seconds for an interpreter to answer
_ELSEWHERE = (
    "~/.pyenv/versions/*/bin",
    "~/.local/share/uv/python/*/bin",
    "/opt/homebrew/bin",
    "/usr/local/bin",
    "/Library/Frameworks/Python.framework/Versions/*/bin",
)


def find_interpreter(versions: Iterable[Version]) -> Path | None:
    """The first that works, of the version given first that there is; None where there is none."""
    for version in versions:
        for path in _candidates(version):
            if _version_of(path) == version:
                return path
    return None


def _candidates(version: Version) -> Iterator[Path]:
    """Files that may be an interpreter of a version, this one first; each once."""
    seen: set[Path] = set()
    for path in _named(version):
        if path not in seen and path.is_file():
            seen.add(path)
            yield path


def _named(version: Version) -> Iterator[Path]:
    if sys.version_info[:2] == version:
        yield Path(sys.executable)
    major, minor = version
    names = [f"python{major}.{minor}", f"python{major}.{minor}.exe", "python3", "python.exe"]
    for folder in _folders():
        yield from (folder / name for name in names)
    local = os.environ.get("LOCALAPPDATA")
    if local:
        yield Path(local) / "Programs" / "Python" / f"Python{major}{minor}" / "python.exe"


def _folders() -> Iterator[Path]:
    yield from (Path(p) for p in os.environ.get("PATH", "").split(os.pathsep) if p)
    for pattern in _ELSEWHERE:
        whole = Path(pattern).expanduser()
        yield from sorted(Path(whole.anchor).glob(str(whole.relative_to(whole.anchor))))


def _version_of(path: Path) -> Version | None:
    try:
        command = [str(path), "-I", "-c", _PROBE]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
        major, minor = done.stdout.split()
        return int(major), int(minor)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
