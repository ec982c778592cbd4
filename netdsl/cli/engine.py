"""`netdsl engine`: the environments of training engines."""

from __future__ import annotations

from typing import cast

import click

from netdsl.cli.console import Console
from netdsl.cli.options import common
from netdsl.training.engines.onnxruntime_training.environment import (
    INSTALL,
    NAME,
    VARIANTS,
    VERSION,
    Variant,
    environments,
    here,
    install,
    remove,
)

_name = click.argument("name", metavar="NAME", type=click.Choice([NAME]))
_device = click.option(
    "--device",
    type=click.Choice(VARIANTS),
    default="cpu",
    show_default=True,
    help="What it computes on; cuda: CUDA 11.8 and cuDNN 8.",
)


@click.group("engine")
def command() -> None:
    """Install, list or remove training engines that need an environment of their own."""


@command.command("install")
@_name
@_device
@common
@click.pass_obj
def install_command(console: Console, name: str, device: str) -> int:
    """Make the environment of an engine, or repair a broken one.

    It is made once, in the user's cache folder (or in $NETDSL_CACHE), with a Python that the engine has packages for.
    """
    with console.stage(f"installing {name}", long=True):
        install(cast(Variant, device), console.message)
    return 0


@command.command("list")
@common
@click.pass_obj
def list_command(console: Console) -> int:
    """List the engines, and where they are installed."""
    console.result("standard: part of netdsl")
    for place in environments():
        if here(place.variant):
            where = "in the environment that netdsl runs in"
        else:
            where = {
                "absent": "not installed",
                "broken": f"broken, in {place.folder}: {INSTALL} --device {place.variant} repairs it",
                "installed": f"installed in {place.folder}",
            }[place.state]
        console.result(f"{NAME} {VERSION} ({place.variant}): {where}")
    return 0


@command.command("remove")
@_name
@_device
@common
@click.pass_obj
def remove_command(console: Console, name: str, device: str) -> int:
    """Delete the environment of an engine."""
    gone = remove(cast(Variant, device))
    console.message(f"{name} ({device}): {'removed' if gone else 'was not installed'}")
    return 0
