"""The command line's entry: the table of commands, and the one place where exceptions become exit statuses.

0 done; 1 the input has errors; 2 wrong usage; 3 the environment lacks something; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from netdsl.cli.console import Console
from netdsl.diagnostics import nearest
from netdsl.version import __version__

INTERRUPTED = 130  # 128 + SIGINT, as shells count
BROKEN_PIPE = 1  # as click has it

#: Each command's module and its line in the help: nothing of a command is imported until it is called.
COMMANDS = {
    "compile": ("netdsl.cli.compile", "Compile a .net file to an optimised ONNX model."),
    "check": ("netdsl.cli.check", "Report every error and warning of .net files; write nothing."),
    "fmt": ("netdsl.cli.fmt", "Lay .net files out in the canonical form, comments kept."),
    "run": ("netdsl.cli.run", "Run a .net or .onnx model on arrays or pictures."),
    "train": ("netdsl.cli.train", "Train a recipe of a .net file; --resume goes on from the last checkpoint."),
    "eval": ("netdsl.cli.eval", "The loss and the metrics of a recipe on data."),
    "engine": ("netdsl.cli.engine", "Install, list or remove training engines that need an environment of their own."),
    "report": ("netdsl.cli.report", "Parameters, MACs, FLOPs, memory and receptive field of a model."),
}


class CommandLine(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(COMMANDS[cmd_name][0]).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            close = nearest(name, COMMANDS)
            help = f"Did you mean {close!r}?" if close else f"There are: {', '.join(COMMANDS)}."
            raise click.UsageError(f"No such command {name!r}. {help}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Runs a command; leaves with its exit status, or returns that where `standalone_mode` is false."""
        console = Console()
        status = self._guarded(console, args, prog_name, complete_var, obj=console, **extra)
        if standalone_mode:
            sys.exit(status)
        return status

    def _guarded(
        self,
        console: Console,
        args: Sequence[str] | None,
        prog_name: str | None,
        complete_var: str | None,
        **extra: Any,
    ) -> int:
        try:
            status = super().main(args, prog_name or "netdsl", complete_var, standalone_mode=False, **extra)
            sys.stdout.flush()
            return status if isinstance(status, int) else 0
        except (click.Abort, KeyboardInterrupt):
            return INTERRUPTED
        except click.UsageError as error:
            error.show()
            return error.exit_code
        except click.ClickException as error:
            console.error(error.format_message())
            return error.exit_code
        except BrokenPipeError:
            _discard_stdout()
            return BROKEN_PIPE
        except Exception as error:
            if os.environ.get("NETDSL_TRACEBACK"):
                raise
            return _fail(console, error)


def _fail(console: Console, error: Exception) -> int:
    """Says what went wrong. What knows the kinds of failure is imported only now: it needs the compiler's modules."""
    try:
        status: int = import_module("netdsl.cli.failure").explain(console, error)
    except ImportError:
        console.error(f"internal error, please report it ({type(error).__name__}: {error}); {TRACEBACK_HINT}")
        return 1
    return status


TRACEBACK_HINT = "NETDSL_TRACEBACK=1 shows where it happened"


def _discard_stdout() -> None:
    """Sends what is left in the buffer nowhere, so that Python's own flush at exit does not fail again."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # stdout is no file (a test's buffer)
        return


@click.group(
    cls=CommandLine,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit status: 0 done, 1 the input has errors, 2 wrong usage, 3 the environment lacks something.",
)
@click.version_option(__version__, prog_name="netdsl")
def command_line() -> None:
    """netdsl compiles neural networks written in .net files to optimised ONNX."""
