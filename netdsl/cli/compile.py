"""`netdsl compile`: the main job."""

from __future__ import annotations

import time
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from typing import Any

import click

from netdsl import api
from netdsl.cli.console import Console
from netdsl.cli.options import check_output, common, level, program, weights
from netdsl.cli.summary import explanation, summary
from netdsl.diagnostics import nearest
from netdsl.ir.graph import Graph
from netdsl.ir.text import print_graph
from netdsl.ir.types import DType
from netdsl.passes import PASSES, PIPELINES, optimize

BFLOAT16 = (
    "note: ONNX Runtime's CPU kernels know few operators in bfloat16: the others widen to float32 and back,"
    " which is slower than float32 on a CPU"
)
LARGE = 200_000_000  # bytes of weights whose writing is worth a line of progress


@click.command("compile")
@click.argument("source", metavar="MODEL.net")
@click.option("-o", "--output", metavar="OUT.onnx", help="What to write; MODEL.onnx beside the source by default.")
@weights
@click.option("--opset", type=click.IntRange(17, 26), default=21, show_default=True, help="ONNX's operator set.")
@level
@click.option(
    "--precision",
    type=click.Choice(["float32", "float16", "bfloat16", "int8"]),
    default="float32",
    show_default=True,
    help="Element type of the exported weights and activations.",
)
@click.option("--verify", is_flag=True, help="Run the graph before and after the rewrites and compare the outputs.")
@click.option("--external-data", is_flag=True, help="Weights in a file beside the model (by itself above 2 GB).")
@click.option(
    "--training",
    metavar="DIR",
    help="Write the recipe's training step there, with its evaluation, initial state and documentation.",
)
@click.option("--recipe", "label", metavar="LABEL", help="Which recipe, with --training.")
@click.option(
    "--engine",
    type=click.Choice(["standard", "onnxruntime-training"]),
    default="standard",
    show_default=True,
    help="Whose files to write, with --training: standard ONNX, or the artefacts of onnxruntime-training.",
)
@click.option("--print-ir", is_flag=True, help="Print the graph that is exported (with -O 0, as the program wrote it).")
@click.option("--print-ir-after", metavar="PASS", help="Print the graph after that pass.")
@click.option(
    "--explain", is_flag=True, help="List every rewrite with what it saved, and every refusal with its reason."
)
@program
@common
@click.pass_obj
def command(console: Console, /, source: str, output: str | None, **options: Any) -> int:
    """Compile MODEL.net to an optimised ONNX model."""
    began = time.perf_counter()
    if options["training"] is not None:
        return _training(console, source, output, options)
    if options["engine"] != "standard":
        raise click.UsageError("--engine says whose training files to write: it goes with --training DIR.")
    path = _output(source, output)
    _check_usage(options)
    with console.stage(f"compiling {source}"):
        model = api.compile(
            source,
            network=options["network"],
            set=options["settings"],
            weights=options["weights"],
            seed=options["seed"],
            opset=options["opset"],
            level=options["level"],
            precision=options["precision"],
        )
    console.warnings(model.warnings)
    for note in model.store.notes:
        console.message(f"{options['weights']}: {note}")
    if options["precision"] == "bfloat16":
        console.message(BFLOAT16)
    _print(console, model, options)
    if options["verify"] and not _verified(console, model):
        return 1
    size = sum(p.value.type.bytes for p in model.graph.parameters)
    with console.stage(f"writing {path}", long=isinstance(size, int) and size > LARGE):
        model.save(path, external_data=True if options["external_data"] else None)
    console.message(summary(model, source, path, options["external_data"], time.perf_counter() - began))
    return 0


def _training(console: Console, source: str, output: str | None, options: dict[str, Any]) -> int:
    """`--training`: other files than the model's, so the model's options are refused."""
    for flag in ("verify", "external_data", "print_ir", "print_ir_after", "explain"):
        if options[flag]:
            raise click.UsageError(f"--training writes no model that --{flag.replace('_', '-')} could go with.")
    if output is not None:
        raise click.UsageError("--training DIR says where to write; -o goes without it.")
    if options["engine"] != "standard" and _is_given("opset"):
        raise click.UsageError(f"--engine {options['engine']} writes opset 17; --opset goes without it.")
    folder = Path(options["training"])
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(20, "is a file, not a directory to write to", str(folder))
    with console.stage(f"compiling {source}"):
        written = import_module("netdsl.api_training").export_training(  # which only this needs
            source,
            folder,
            recipe=options["label"],
            network=options["network"],
            set=options["settings"],
            weights=options["weights"],
            seed=options["seed"] if _is_given("seed") else None,
            opset=options["opset"],
            engine=options["engine"],
        )
    console.message("\n".join(f"{path}  {path.stat().st_size:,} bytes" for path in written))
    return 0


def _is_given(option: str) -> bool:
    """Whether it stands on the command line: else a recipe has its own value."""
    source = click.get_current_context().get_parameter_source(option)
    return source is not click.core.ParameterSource.DEFAULT


def _output(source: str, output: str | None) -> Path:
    if Path(source).suffix == ".onnx":
        raise click.UsageError(f"{source} is an ONNX file; compile takes a .net file.")
    path = Path(output) if output else Path(source).with_suffix(".onnx")
    check_output(path, source)
    return path


def _check_usage(options: dict[str, Any]) -> None:
    if options["precision"] == "int8":
        raise click.UsageError("--precision int8 needs calibration, which this version does not have.")
    name = options["print_ir_after"]
    if name is None:
        return
    if name not in PASSES:
        close = nearest(name, PASSES)
        help = f"did you mean {close!r}?" if close else f"there are: {', '.join(PASSES)}."
        raise click.UsageError(f"--print-ir-after: there is no pass {name!r}; {help}")
    if name not in [p.name for p in PIPELINES[options["level"]]]:
        raise click.UsageError(f"--print-ir-after: the pass {name!r} does not run at -O {options['level']}.")


def _print(console: Console, model: api.Model, options: dict[str, Any]) -> None:
    if options["print_ir_after"]:
        console.result(print_graph(graph_after(model.source_graph, options["level"], options["print_ir_after"])))
    if options["print_ir"]:
        console.result(print_graph(model.graph))
    if options["explain"]:
        console.result(explanation(model.log, model.source_graph))


def graph_after(graph: Graph, level: int, name: str) -> Graph:
    """The graph as a pass left it the last time that it changed it; as it found it, if it never did."""
    order = [p.name for p in PIPELINES[level]]
    seen: list[tuple[str, Graph]] = []
    optimize(graph, level, after=lambda one, result: seen.append((one, result)))
    own = [result for one, result in seen if one == name]
    if own:
        return own[-1]
    before = [result for _, result in takewhile(lambda e: order.index(e[0]) < order.index(name), seen)]
    return before[-1] if before else graph


def _verified(console: Console, model: api.Model) -> bool:
    with console.stage("verifying", long=True):
        found = model.verify()
    if found.ok:
        console.message(f"verified: {found}")
    elif model.precision is DType.float32:
        console.error(f"the rewrites changed the outputs, so nothing was written: {found}; please report it")
    else:
        console.error(
            f"{model.precision} is too coarse for this network, so nothing was written: {found}; "
            "without --verify it is written all the same"
        )
    return bool(found.ok)
