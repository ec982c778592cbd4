"""`python -m netdsl`, and what the installed `netdsl` command runs."""

from __future__ import annotations

import sys
import warnings

from netdsl.cli.main import command_line


def main() -> None:
    """Runs the command line and leaves with its exit status."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # a library's deprecation is no message for the user of a compiler
    command_line.main(prog_name="netdsl")


if __name__ == "__main__":
    main()
