"""The engine's process as netdsl sees it: started, asked, and ended with its caller."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

if sys.platform == "linux":
    import fcntl

from netdsl.diagnostics import DiagnosticError, error
from netdsl.ir.types import NDArrayAny
from netdsl.runtime.session import EnvironmentLack
from netdsl.training.engines.onnxruntime_training import bootstrap
from netdsl.training.engines.onnxruntime_training.wire import WHOLE, Closed, Message, receive, send, size

_CRASHES = ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL")
_HEADER = 1 << 16  # bytes, more than one takes
_GRACE = 5.0  # seconds that the process has to end by itself
_SAID = 400  # characters of what it wrote last that a message shows
GOES_ON = "what was saved before is whole: the same command with --resume goes on from it"


class EngineFailure(Exception):
    """The engine answered that it could not do what it was asked; the message is its own, in one line."""


class EngineProcess:
    """Starts the engine with an environment's Python.

    Raises EnvironmentLack where it cannot be started there. A process that ends by itself later, killed or crashed, is
    a DiagnosticError that says so, from the call that finds out.
    """

    def __init__(self, python: Path, repair: str) -> None:
        """`repair` says how to get a working environment."""
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # it lives as long as the process
        own = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP")}
        environment = dict(os.environ) if python == Path(sys.executable) else own
        command = [str(python), "-P", "-u", str(Path(bootstrap.__file__))]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env=environment
            )
        except OSError as reason:
            raise EnvironmentLack(
                f"the engine's environment is broken: {reason.strerror}: {python}; {repair}"
            ) from None
        self._in = cast(BinaryIO, self._process.stdin)
        self._room = _widen(self._in)
        self._out = cast(BinaryIO, self._process.stdout)
        self._submitted = 0  # requests whose answers were not read
        self._early: deque[Message] = deque()  # answers that were read and not collected
        try:
            self.about: Mapping[str, Any] = self.ask("hello").about
        except (DiagnosticError, EngineFailure):
            said = self._said()
            self.close()
            raise EnvironmentLack(f"the engine's environment is broken ({said or python}); {repair}") from None

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, call: str, arrays: Mapping[str, NDArrayAny] | None = None, **about: Any) -> Message:
        """One request. Raises EngineFailure, DiagnosticError where the process is gone. Answers to earlier requests
        that were submitted are kept for `collect`."""
        while self._submitted:
            self._early.append(self._receive())
        self.submit(call, arrays, **about)
        return _checked(self._receive())

    def submit(self, call: str, arrays: Mapping[str, NDArrayAny] | None = None, **about: Any) -> None:
        """Sends a request, which the process takes up after those before it; `collect` gives its answer.

        One that the pipe cannot hold is sent only when the others are answered: the process, which may wait for the
        reader of an answer, would not read it.
        """
        message = Message({"call": call, **about}, arrays or {})
        while self._submitted and size(message) > self._room:
            self._early.append(self._receive())
        with self._talking():
            send(self._in, message)
        self._submitted += 1

    def collect(self) -> Message:
        """The answer to the oldest request that was submitted and has none yet. Raises as `ask` does."""
        return _checked(self._early.popleft() if self._early else self._receive())

    def forget(self) -> None:
        """Waits for the requests that were submitted; nobody collects their answers."""
        while self._submitted:
            self._receive()
        self._early.clear()

    def _receive(self) -> Message:
        with self._talking():
            answer = receive(self._out)
        self._submitted -= 1
        return answer

    @contextlib.contextmanager
    def _talking(self) -> Iterator[None]:
        """What happens to a message that is cut short, at either end."""
        try:
            yield
        except Closed:
            raise self._gone() from None
        except BaseException:  # an answer that nobody reads would be taken for that of the next request
            self.kill()
            raise

    def _gone(self) -> DiagnosticError:
        try:
            status = self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self.kill()
            status = self._process.returncode
        message = f"the process of the engine onnxruntime-training {_ended(status)}; {GOES_ON}"
        said = self._said()
        return DiagnosticError([error("engine-died", message + (f" (it said: {said})" if said else ""), path="")])

    def _said(self) -> str:
        """The last line that the process wrote."""
        try:
            self._log.seek(0)
            lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
        except (OSError, ValueError):
            return ""
        return lines[-1][-_SAID:].strip() if lines else ""

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Ends the process; twice is allowed."""
        for stream in (self._in, self._out):
            try:
                stream.close()
            except OSError:  # what was not sent yet has no reader
                continue
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self.kill()
        self._log.close()


def _checked(answer: Message) -> Message:
    if "failed" in answer.about:
        raise EngineFailure(answer.about["failed"])
    return answer


def _widen(pipe: BinaryIO) -> int:
    """Makes a pipe hold a batch, where the system can: else the two processes take turns over every 64 kB of it. How
    many bytes of arrays it holds, beside a header."""
    if sys.platform != "linux":
        return 0
    with contextlib.suppress(OSError):  # the system's limit for a user is reached
        fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, WHOLE)
    return int(fcntl.fcntl(pipe.fileno(), fcntl.F_GETPIPE_SZ)) - _HEADER


def _ended(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    number = -status
    name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
    return f"crashed ({name})" if name in _CRASHES else f"was killed ({name})"
