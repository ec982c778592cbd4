"""`netdsl report`: what a model costs."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from netdsl.cli.console import Console
from netdsl.cli.options import check_output, common, program
from netdsl.elaborate import elaborate
from netdsl.files import atomic_write
from netdsl.report.formats import to_csv, to_json, to_markdown
from netdsl.report.group import By, group_rows
from netdsl.report.model import Report, Row, analyse
from netdsl.report.page import to_html
from netdsl.report.table import to_table
from netdsl.report.training import training_peak
from netdsl.syntax.read import read_source


@click.command("report")
@click.argument("model", metavar="MODEL.net")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv", "markdown", "html"]),
    default="table",
    show_default=True,
)
@click.option("-o", "--output", metavar="FILE", help="Write to FILE, not to stdout.")
@click.option(
    "--by",
    type=click.Choice(["layer", "block", "op"]),
    default="layer",
    show_default=True,
    help="One row for each layer, block or operator.",
)
@click.option(
    "--depth",
    type=click.IntRange(min=1),
    metavar="K",
    help="Put what stands deeper than K segments of the path together. Blocks: 1 unless given.",
)
@click.option("--compare", metavar="OTHER", help="Another model, whose totals stand beside.")
@program
@common
@click.pass_obj
def command(
    console: Console,
    model: str,
    form: str,
    output: str | None,
    by: By,
    depth: int | None,
    compare: str | None,
    network: str | None,
    settings: Mapping[str, str],
) -> int:
    """Parameters, MACs, FLOPs, memory and receptive field of MODEL.net.

    MACs count convolutions and matrix products, without bias; FLOPs 2 per MAC and 1 for every other operation. Figures
    are for one item (symbols that lead an input's shape count as 1) unless --set says otherwise; where they depend on
    another symbol they are formulas.
    """
    path = Path(output) if output else None
    if path:
        check_output(path, model)
    report = _analysed(console, model, network, settings)
    other = _analysed(console, compare, None, {}) if compare else None
    text = _rendered(console, form, report, group_rows(report.rows, by, depth), other, to_file=path is not None)
    if path is None:
        console.result(text)
        return 0
    with atomic_write(path) as stream:
        stream.write((text if text.endswith("\n") else text + "\n").encode())
    console.message(f"wrote {path}")
    return 0


def _analysed(console: Console, model: str, network: str | None, settings: Mapping[str, str]) -> Report:
    if Path(model).suffix == ".onnx":
        raise click.UsageError(f"{model} is an ONNX file; this version reports on .net files alone.")
    source = read_source(model)
    made = elaborate(source, network=network, settings=settings)
    console.warnings(made.warnings)
    return analyse(made.graph, training_peak(source, made, settings))


def _rendered(
    console: Console, form: str, report: Report, rows: tuple[Row, ...], other: Report | None, *, to_file: bool
) -> str:
    if form == "json":
        return to_json(report, rows, other)
    if form == "csv":
        return to_csv(report, rows, other)
    if form == "markdown":
        return to_markdown(report, rows, other)
    if form == "html":
        return to_html(report, rows, other)
    terminal = sys.stdout.isatty() and not to_file
    width = shutil.get_terminal_size().columns if terminal else None
    return to_table(report, rows, other, width=width, color=not to_file and console.colors(sys.stdout))
