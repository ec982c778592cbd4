"""Options that several commands take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from netdsl.cli.console import Console

Decorated = Callable[..., Any]


def _set_quiet(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    ctx.ensure_object(Console).quiet = value


def _set_color(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    ctx.ensure_object(Console).color = value
    ctx.color = {"auto": None, "always": True, "never": False}[value]


def _settings(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    settings = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise click.BadParameter(f"{text!r} is not of the form name=value", ctx, param)
        settings[name.strip()] = value.strip()
    return settings


def common(command: Decorated) -> Decorated:
    """`--quiet` and `--color`, which every command takes."""
    quiet = click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=_set_quiet, help="Errors only.")
    color = click.option(
        "--color",
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        show_default=True,
        expose_value=False,
        is_eager=True,
        callback=_set_color,
        help="Colour the messages.",
    )
    return quiet(color(command))


def program(command: Decorated) -> Decorated:
    """`--network` and `--set`: which network of a file, and with which values."""
    network = click.option("--network", metavar="NAME", help="Which network of the file; the last one by default.")
    settings = click.option(
        "--set",
        "settings",
        metavar="NAME=VALUE",
        multiple=True,
        callback=_settings,
        help="Override a parameter of the network, or give a symbol such as N its value. May be repeated.",
    )
    return network(settings(command))


def weights(command: Decorated) -> Decorated:
    """`--weights` and `--seed`: where the parameters' values come from."""
    checkpoint = click.option(
        "--weights", metavar="FILE", help="A checkpoint: .safetensors, .npz or .onnx. Without it, weights are drawn."
    )
    seed = click.option(
        "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the weights that are drawn."
    )
    return checkpoint(seed(command))


def level(command: Decorated) -> Decorated:
    """`-O`: how much to rewrite."""
    return click.option(
        "-O",
        "level",
        type=click.IntRange(0, 2),
        default=2,
        show_default=True,
        help="0: no rewrites. 1: clean-ups and batch-norm folding. 2: all that lowers the cost.",
    )(command)


def check_output(path: Path, source: str) -> None:
    """Finds out before any work whether `path` can be written. Raises OSError (said by `main`) or UsageError."""
    if path.is_dir():
        raise IsADirectoryError(21, "is a directory, not a file to write", str(path))
    if not path.parent.is_dir():
        missing = path.parent
        raise NotADirectoryError(20, "there is no such directory to write to", str(missing))
    if path.exists() and Path(source).exists() and path.samefile(source):
        raise click.UsageError(f"{path} is the model itself; name another file with -o.")
