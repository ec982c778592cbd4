"""`netdsl train`: a recipe, data, a checkpoint."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from netdsl.cli.console import Console
from netdsl.cli.main import INTERRUPTED
from netdsl.cli.options import check_output, common
from netdsl.cli.training import job_of, machine_of, recipe
from netdsl.training.job import Job, train_job
from netdsl.training.loop import Outcome
from netdsl.training.progress import listed, make_display

SUFFIX = ".safetensors"


@click.command("train")
@click.argument("source", metavar="FILE.net")
@click.option("--data", required=True, metavar="DATA", help="An .npz, a folder of .npy files or of pictures, a .csv …")
@click.option("--val", metavar="DATA", help="Data to validate on after each epoch; or a share of the others, as 0.1.")
@click.option("-o", "--output", metavar="CKPT.safetensors", help="The checkpoint; FILE.safetensors by default.")
@click.option("--resume", is_flag=True, help="Go on from the checkpoint: the result is as if it had never stopped.")
@click.option("--epochs", type=click.IntRange(min=1), help="Epochs in all, instead of the recipe's.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Of weights, order and dropout, not the recipe's.")
@recipe
@common
@click.pass_obj
def command(
    console: Console, /, source: str, data: str, val: str | None, output: str | None, resume: bool, **options: Any
) -> int:
    """Train the recipe of FILE.net."""
    path = _checkpoint(source, output)
    validation = _share(val)
    job = job_of(source, options)
    console.warnings(job.made.warnings)
    display = make_display(sys.stderr, quiet=console.quiet)
    outcome = train_job(job, data, validation, path, machine_of(options), resume=resume, display=display)
    console.result(_said(job, path, outcome))
    return INTERRUPTED if outcome.interrupted else 0


def _checkpoint(source: str, output: str | None) -> Path:
    path = Path(output) if output else Path(source).with_suffix(SUFFIX)
    if path.suffix != SUFFIX:
        raise click.UsageError(f"-o {path}: a checkpoint of training is a {SUFFIX} file.")
    check_output(path, source)
    return path


def _share(text: str | None) -> str | float | None:
    """A number is a share of the data; everything else is a path. A file that is called like a number is `./0.1`."""
    if text is None:
        return None
    try:
        share = float(text)
    except ValueError:
        return text
    if not 0 < share < 1:
        raise click.UsageError(f"--val {text}: a share of the data to hold out lies between 0 and 1.")
    return share


def _said(job: Job, path: Path, outcome: Outcome) -> str:
    """One line: what was trained, how far, how well, and where it is."""
    record = outcome.record
    parts = [f"{job.recipe.network}: {outcome.epochs} of {job.recipe.epochs} epochs"]
    for part, prefix in (("train", ""), ("val", "val ")):
        numbers = {name: value for name, value in (record.get(part) or {}).items() if value is not None}
        parts += [listed(numbers, prefix)] if numbers else []
    if outcome.stopped_early:
        parts.append("stopped early")
    if outcome.best_epoch and record.get("val"):
        parts.append(f"best in epoch {outcome.best_epoch}")
    return f"{', '.join(parts)} -> {path}"
