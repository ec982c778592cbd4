"""The engine's process, in the engine's environment: run as a script with the folder of netdsl's modules.

It is given its requests on standard input and answers on standard output; what libraries print goes to standard error.
It ends with the process that started it.
"""

from __future__ import annotations

import importlib
import importlib.util
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


def _load_netdsl(folder: Path) -> None:
    """Makes netdsl importable without its neighbours, which belong to another environment."""
    spec = importlib.util.spec_from_file_location(
        "netdsl", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder} is not netdsl")
    module = importlib.util.module_from_spec(spec)
    sys.modules["netdsl"] = module
    spec.loader.exec_module(module)


def main() -> None:
    """Serves until the requests end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the trainer, which then asks for the state
    _end_with_parent()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for name in _NEED_TORCH:
        sys.modules[name] = types.ModuleType(name)
    _load_netdsl(Path(sys.argv[1]))
    server = importlib.import_module("netdsl.training.engines.onnxruntime_training.server")
    server.serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
