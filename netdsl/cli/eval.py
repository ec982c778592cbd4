"""`netdsl eval`: the loss and the metrics of a recipe, with the weights of a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from netdsl.cli.console import Console
from netdsl.cli.options import common
from netdsl.cli.training import job_of, machine_of, recipe
from netdsl.training.job import evaluate_job


@click.command("eval")
@click.argument("source", metavar="FILE.net")
@click.option("--weights", required=True, metavar="CKPT", help="A checkpoint: .safetensors, .npz or .onnx.")
@click.option("--data", required=True, metavar="DATA", help="An .npz, a folder of .npy files or of pictures, a .csv …")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help='json: {"loss": …, "metrics": {"accuracy": …}}.',
)
@recipe
@common
@click.pass_obj
def command(console: Console, /, source: str, weights: str, data: str, form: str, **options: Any) -> int:
    """Evaluate the recipe of FILE.net on data."""
    job = job_of(source, options)
    console.warnings(job.made.warnings)
    with console.stage("evaluating"):
        found = evaluate_job(job, data, Path(weights), machine_of(options)).as_json()
    console.result(json.dumps(found, ensure_ascii=False) if form == "json" else table(found))
    return 0


def table(found: Mapping[str, Any]) -> str:
    """A row for the loss and one for each metric; matrices and curves stand below their names."""
    rows = {"loss": found["loss"], **found["metrics"]}
    width = max(map(len, rows))
    return "\n".join(f"{name:<{width}}  {_cell(value, width)}" for name, value in rows.items())


def _cell(value: Any, width: int) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list) and all(isinstance(row, list) for row in value):
        return _matrix(value, width)
    return "a curve: see --format json"


def _matrix(rows: list[list[float]], indent: int) -> str:
    """Counts, true classes as rows and predicted ones as columns."""
    cells = [[f"{number:.0f}" for number in row] for row in rows]
    size = max(len(cell) for row in cells for cell in row)
    lines = [" ".join(cell.rjust(size) for cell in row) for row in cells]
    return f"\n{' ' * (indent + 2)}".join(lines)
