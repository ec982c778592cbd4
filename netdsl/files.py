"""Files that are written whole or not at all.

A file is written beside its target under another name, flushed to the disk and renamed. A full disk, an exception or a
kill at any moment leaves the old file as it was.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """A binary stream that becomes the file `path` when the block ends without an exception.

    Raises OSError, which names `path` whatever the call that failed.
    """
    with atomic_writes([Path(path)]) as (stream,):
        yield stream


@contextmanager
def atomic_writes(paths: Sequence[Path]) -> Iterator[tuple[IO[bytes], ...]]:
    """Streams of several files that belong together: each is complete before the first is renamed. The last path is
    renamed last: it should be the file that refers to the others."""
    files: list[_Written] = []
    try:
        for path in paths:
            with _named(path):
                files.append(_Written(path))
        yield tuple(f.stream for f in files)
        for file in files:
            with _named(file.path):
                file.complete()
        for file in files:
            with _named(file.path):
                file.rename()
    except OSError as error:
        own = next((f.path for f in files if error.filename in (None, str(f.path), str(f.temporary))), None)
        if own is None:
            raise
        raise _about(error, own) from None
    finally:
        for file in files:
            file.discard()


class _Written:
    """A file on its way. What is no regular file (a pipe, /dev/null) is written in place."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.target = Path(os.path.realpath(path))  # a link stays a link
        self.temporary: Path | None = None
        mode = self._mode()
        if mode is not None and not stat.S_ISREG(mode):
            self.stream: IO[bytes] = self.target.open("wb")
            return
        self.temporary = self.target.with_name(f".{self.target.name[:200]}.{secrets.token_hex(4)}.tmp")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        permissions = 0o666 if mode is None else stat.S_IMODE(mode)
        self.stream = os.fdopen(os.open(self.temporary, flags, permissions), "wb")

    def _mode(self) -> int | None:
        try:
            return self.target.stat().st_mode
        except FileNotFoundError:
            return None

    def complete(self) -> None:
        self.stream.flush()
        if self.temporary is not None:
            os.fsync(self.stream.fileno())
        self.stream.close()

    def rename(self) -> None:
        if self.temporary is not None:
            self.temporary.replace(self.target)
            self.temporary = None

    def discard(self) -> None:
        """Removes what was not renamed. Closing may fail once more on a full disk; that failure is already known."""
        try:
            self.stream.close()
        except OSError:
            pass
        finally:
            if self.temporary is not None:
                self.temporary.unlink(missing_ok=True)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """OSErrors name the file that the user asked for instead of the temporary one."""
    try:
        yield
    except OSError as error:
        raise _about(error, path) from None


def _about(error: OSError, path: Path) -> OSError:
    return OSError(error.errno, error.strerror or str(error), str(path))
