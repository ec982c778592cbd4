"""`netdsl fmt`: the canonical layout."""

from __future__ import annotations

from pathlib import Path

import click

from netdsl.cli.console import Console
from netdsl.cli.options import common
from netdsl.diagnostics import DiagnosticError
from netdsl.files import atomic_write
from netdsl.syntax.format import format_source
from netdsl.syntax.read import read_source


@click.command("fmt")
@click.argument("files", metavar="FILE.net...", nargs=-1, required=True)
@click.option("--check", is_flag=True, help="Write nothing; list the files that would change and exit with status 1.")
@common
@click.pass_obj
def command(console: Console, files: tuple[str, ...], check: bool) -> int:
    """Lay FILE.net ... out in the canonical form, in place. Comments are kept.

    A file with syntax errors is left as it is.
    """
    status = 0
    for file in files:
        try:
            old = Path(file).read_bytes() if Path(file).is_file() else b""
            new = format_source(read_source(file)).encode()
        except DiagnosticError as error:
            console.diagnostics(error.diagnostics)
            status = 1
            continue
        if new == old:
            continue
        if check:
            console.result(file)
            status = 1
            continue
        with atomic_write(Path(file)) as stream:
            stream.write(new)
        console.message(f"{file}: reformatted")
    return status
