"""The engine's process, in the engine's environment: run as a script.

It is given its requests on standard input and answers on standard output; what libraries print goes to standard error.
It ends with the process that started it.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time
import types
from pathlib import Path

#: what `import onnxruntime.training` imports without need, and what needs PyTorch, which the wheel does not declare
_NEED_TORCH = ("onnxruntime.training.optim", "onnxruntime.training.amp")
_POLL = 0.5  # seconds between looks at whether the parent still is there


def _end_with_parent() -> None:
    """A parent that was killed closes the pipe, which is seen only between two requests; one of them may take long."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _find_netdsl() -> None:
    """Makes netdsl's modules importable without their neighbours, which belong to another environment."""
    module = types.ModuleType("netdsl")
    module.__path__ = [str(Path(__file__).parents[3])]
    sys.modules["netdsl"] = module


def main() -> None:
    """Serves until the requests end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the trainer, which then asks for the state
    _end_with_parent()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for name in _NEED_TORCH:
        sys.modules[name] = types.ModuleType(name)
    _find_netdsl()
    server = importlib.import_module("netdsl.training.engines.onnxruntime_training.server")
    server.serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
