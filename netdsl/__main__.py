"""`python -m netdsl`, and what the installed `netdsl` command runs."""

from __future__ import annotations

import gc
import signal
import sys
import warnings
from types import FrameType
from typing import NoReturn

from netdsl.cli.main import command_line


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """Leaves as an exception does, so that half-written files are removed."""
    sys.exit(128 + number)


def main() -> None:
    """Runs the command line and leaves with its exit status."""
    signal.signal(signal.SIGTERM, _terminate)
    gc.set_threshold(200_000, 50, 100)  # graphs are large and hold few cycles: the default spends a third of the time
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # a library's deprecation is no message for the user of a compiler
    command_line.main(prog_name="netdsl")


if __name__ == "__main__":
    main()
