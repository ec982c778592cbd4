"""What `netdsl train` and `netdsl eval` share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click

from netdsl.cli.options import program
from netdsl.syntax.read import read_source
from netdsl.training.data import parse_columns
from netdsl.training.job import ENGINES, Job, Machine, make_job

Decorated = Callable[..., Any]


def _columns(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> Mapping[str, tuple[str, ...]]:
    try:
        return parse_columns(values)
    except ValueError as error:
        raise click.UsageError(str(error), ctx) from None


def recipe(command: Decorated) -> Decorated:
    """The options that say which recipe, with which data columns, and where it runs."""
    options = [
        click.option("--recipe", "label", metavar="LABEL", help="Which recipe; by default the one without a label."),
        click.option("--batch", type=click.IntRange(min=1), help="Items of a batch, instead of the recipe's."),
        click.option(
            "--columns",
            metavar="NAME=COLUMN,…",
            multiple=True,
            callback=_columns,
            help="Which columns of a .csv an input or target takes; FIRST:LAST for neighbours. May be repeated.",
        ),
        click.option(
            "--engine", type=click.Choice(ENGINES), default="standard", show_default=True, help="What computes."
        ),
        click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True),
        click.option("--threads", type=click.IntRange(min=1), help="CPU threads of one operator."),
    ]
    for option in reversed(options):
        command = option(command)
    return program(command)


def job_of(source: str, options: Mapping[str, Any]) -> Job:
    """The recipe that the options name. Raises DiagnosticError, UsageError."""
    return make_job(
        read_source(source),
        label=options["label"],
        network=options["network"],
        settings=options["settings"],
        epochs=options.get("epochs"),
        batch=options["batch"],
        seed=options.get("seed"),
        columns=options["columns"],
    )


def machine_of(options: Mapping[str, Any]) -> Machine:
    return Machine(options["engine"], options["device"], options["threads"])
