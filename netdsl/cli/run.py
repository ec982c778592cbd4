"""`netdsl run`: a model on arrays and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from netdsl import api
from netdsl.cli.arrays import load_input, write_npz
from netdsl.cli.console import Console
from netdsl.cli.options import check_output, common, level, program, weights
from netdsl.diagnostics import nearest
from netdsl.files import atomic_write
from netdsl.ir.types import NDArrayAny, TensorType
from netdsl.runtime.session import Session

TOP = 5  # classes shown for an output of rank 2


@click.command("run")
@click.argument("model", metavar="MODEL")
@click.option(
    "--input",
    "inputs",
    metavar="[NAME=]FILE",
    multiple=True,
    help="A .npy, .npz, .png or .jpg for an input. Pictures become RGB scaled to 0…1, resized to the input's shape. "
    "A model with one input needs no NAME.",
)
@click.option("-o", "--output", metavar="OUT.npz", help="Write the outputs there; otherwise print what they are.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@weights
@level
@program
@common
@click.pass_obj
def command(
    console: Console, /, model: str, inputs: tuple[str, ...], output: str | None, device: str, **options: Any
) -> int:
    """Run MODEL, a .net or .onnx file."""
    path = Path(output) if output else None
    if path:
        check_output(path, model)
    types, session = _opened(console, model, device, options)
    feeds = _feeds(inputs, types)
    try:
        with console.stage("running"):
            results = session.run(feeds)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    if path is None:
        console.result("\n".join(described(results)))
        return 0
    with atomic_write(path) as stream:
        write_npz(stream, results)
    console.message(f"wrote {path}: {', '.join(results)}")
    return 0


def _opened(
    console: Console, model: str, device: str, options: Mapping[str, Any]
) -> tuple[Mapping[str, TensorType], Session]:
    if Path(model).suffix == ".onnx":
        for name in ("network", "settings", "weights"):
            if options[name]:
                flag = "--set" if name == "settings" else f"--{name}"
                raise click.UsageError(f"{flag} is for .net files; {model} is an ONNX file.")
        session = Session(Path(model), device)
        return session.inputs, session
    with console.stage(f"compiling {model}"):
        made = api.compile(
            model,
            network=options["network"],
            set=options["settings"],
            weights=options["weights"],
            seed=options["seed"],
            level=options["level"],
        )
        console.warnings(made.warnings)
        return made.inputs, made.open(device)


def _feeds(given: Sequence[str], types: Mapping[str, TensorType]) -> dict[str, NDArrayAny]:
    """Each input's array. Raises UsageError for names that are unknown, given twice or missing."""
    files: dict[str, str] = {}
    for text in given:
        name, file = _split(text, types)
        if name in files:
            raise click.UsageError(f"--input: {name!r} is given twice.")
        files[name] = file
    missing = [f"{name}: {type}" for name, type in types.items() if name not in files]
    if missing:
        raise click.UsageError(f"--input NAME=FILE is missing for {'; '.join(missing)}.")
    return {name: load_input(file, name, types[name]) for name, file in files.items()}


def _split(text: str, types: Mapping[str, TensorType]) -> tuple[str, str]:
    name, equals, file = text.partition("=")
    if equals and name in types:
        return name, file
    if len(types) == 1 and (not equals or Path(text).exists()):
        return next(iter(types)), text
    if not equals:
        raise click.UsageError(f"--input {text}: say which input: NAME=FILE, with NAME one of {', '.join(types)}.")
    close = nearest(name, types)
    help = f"did you mean {close!r}?" if close else f"there are: {', '.join(types)}."
    raise click.UsageError(f"--input: there is no input {name!r}; {help}")


def described(results: Mapping[str, NDArrayAny]) -> list[str]:
    """Lines for each output: name, type, least, greatest and mean value; the greatest places of each row of rank 2."""
    lines = []
    for name, array in results.items():
        lines.append(f"{name}: {array.dtype}[{', '.join(map(str, array.shape))}]{_range(array)}")
        if array.ndim == 2 and array.dtype != np.bool_:
            lines += [f"  {_top(row, number, len(array))}" for number, row in enumerate(array[:8])]
            lines += [f"  and {len(array) - 8} more rows"] if len(array) > 8 else []
    return lines


def _range(array: NDArrayAny) -> str:
    if array.size == 0:
        return ""
    values = array.astype(np.float64)
    text = f", min {values.min():.6g}, max {values.max():.6g}, mean {values.mean():.6g}"
    bad = int(np.count_nonzero(~np.isfinite(values)))
    return text + (f", {bad} not finite" if bad else "")


def _top(row: NDArrayAny, number: int, rows: int) -> str:
    values = row.astype(np.float64)
    order = np.argsort(-values, kind="stable")[:TOP]
    label = "top" if rows == 1 else f"row {number}: top"
    return f"{label} {len(order)}: " + ", ".join(f"{i} ({values[i]:.6g})" for i in order)
