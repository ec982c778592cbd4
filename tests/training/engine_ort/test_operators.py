"""Asks the engine for the gradient of every operator, and keeps the table in the documentation in step."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto

from netdsl.autodiff.backward import backward
from netdsl.autodiff.extend import Extension
from netdsl.diagnostics import DiagnosticError
from netdsl.ir.dims import evaluate
from netdsl.ir.graph import Graph, Output, Value
from netdsl.ir.types import NDArrayAny
from netdsl.onnx.export import to_proto
from netdsl.ops import PRIMITIVES
from netdsl.ops import gradient_tools as g
from netdsl.passes.dead_code import DeadCode
from netdsl.passes.log import RewriteLog
from netdsl.passes.pipelines import run_passes
from netdsl.runtime.bind import bind
from netdsl.runtime.interpret import interpret
from netdsl.training.engines.onnxruntime_training.convert import ALL_FORMS, engine_form
from netdsl.training.engines.onnxruntime_training.cuts import cut, join
from netdsl.training.engines.onnxruntime_training.models import OPSET
from netdsl.training.engines.onnxruntime_training.process import EngineProcess
from netdsl.training.engines.onnxruntime_training.support import NATIVE
from netdsl.training.engines.onnxruntime_training.table import support_table
from netdsl.training.engines.onnxruntime_training.wire import blob
from netdsl.weights import WeightStore
from tests.autodiff.checking import run as run_nodes
from tests.ops.harness import Case, all_cases, graph_of, inputs_of

DOCS = Path(__file__).parents[3] / "docs" / "engines.md"
OTHER_FLOATS = re.compile(r"float16|float64")

#: NumPy's special values, at which a product with 0 is not 0; a form that training never meets
LEFT_OUT = {"arithmetic-mod_special_float32", "arithmetic-floor_div_special_float32"}
#: what the engine refuses, by what it says
REFUSED = (
    "with a negative step on a symbolic axis",
    "over axes of symbolic size",
    "from the end to the beginning of a symbolic time axis",
    "over a symbolic time axis",
    "through dropout",
    "through drop_path",
)


def families() -> list[str]:
    return sorted({name.partition("-")[0] for name in all_cases()})


def cases(family: str) -> Iterator[tuple[str, Case]]:
    """Those with float32 operands; of the many windows and resizes a sample."""
    chosen = [(n, c) for n, c in all_cases().items() if n.partition("-")[0] == family and n not in LEFT_OUT]
    chosen = [(n, c) for n, c in chosen if "float32" in c.source and not OTHER_FLOATS.search(c.source)]
    step = max(len(chosen) // 80, 1)
    yield from chosen[::step]


@pytest.fixture(scope="module")
def process(engine: Path) -> Iterator[EngineProcess]:
    made = EngineProcess(engine, "")
    yield made
    made.close()


@pytest.mark.parametrize("family", families())
def test_gradients_are_those_of_netdsl(process: EngineProcess, family: str) -> None:
    checked = 0
    for name, case in cases(family):
        checked += _check(process, name, case)
    assert checked, f"no case of {family} was checked"


def _check(process: EngineProcess, name: str, case: Case) -> bool:
    """Compares the engine's gradients for every float operand with netdsl's, by the NumPy rules."""
    graph = graph_of(case)
    arrays: dict[str, NDArrayAny] = dict(inputs_of(case, graph))
    env = bind({v.name: v.type for v in graph.inputs}, arrays)
    rng = np.random.default_rng(0)
    for p in graph.parameters:
        arrays[p.name] = rng.uniform(0.5, 1.5, [evaluate(d, env) for d in p.value.shape]).astype(np.float32)
    values = (*graph.inputs, *(p.value for p in graph.parameters))
    run_nodes(graph.nodes, {v: arrays[v.name] for v in values}, env)  # finds the counts
    forward, sources = _with_loss(graph, arrays, env, rng)
    try:
        reference, found = _reference(forward, sources)
    except Exception as reason:  # sizes that netdsl's own backward graph cannot name; its own tests are elsewhere
        assert "is not possible" in str(getattr(reason, "diagnostics", reason)) or "is not possible" in str(reason)
        return False
    if not found:
        return False
    expected = interpret(reference, arrays, WeightStore(()))
    try:
        form = engine_form(forward, frozenset(found))
    except DiagnosticError as refused:
        assert any(text in d.message for d in refused.diagnostics for text in REFUSED), (name, refused)
        return False
    for source, gradient in _by_engine(process, form, found, arrays).items():
        wanted = expected[source]
        np.testing.assert_allclose(
            gradient,
            wanted,
            rtol=1e-3,
            atol=1e-4 * max(float(np.abs(wanted).max(initial=0)), 1e-3),
            err_msg=f"{name}: {source}",
        )
    return True


def _with_loss(
    graph: Graph, arrays: dict[str, NDArrayAny], env: dict[str, int], rng: np.random.Generator
) -> tuple[Graph, list[Value]]:
    """The sum of the float outputs times weights, as `loss`; parameters are inputs. Adds the weights to the arrays."""
    extension = Extension(graph)
    extension.nodes = list(graph.nodes)
    loss, seeds = None, []
    for value in dict.fromkeys(o.value for o in graph.outputs if o.value.dtype.is_float):
        seed = Value(extension.names.take("seed"), value.type)
        seeds.append(seed)
        arrays[seed.name] = rng.normal(size=[evaluate(d, env) for d in value.shape]).astype(np.float32)
        part = g.sum_all(extension, g.mul(extension, value, seed))
        loss = part if loss is None else g.add(extension, loss, part)
    parameters = [p.value for p in graph.parameters]
    sources = [v for v in graph.inputs if v.dtype.is_float]
    sources += [p.value for p in graph.parameters if p.kind == "parameter" and p.value.dtype.is_float]
    outputs = (Output("loss", loss),) if loss is not None else ()
    return Graph("case", (*graph.inputs, *parameters, *seeds), outputs, tuple(extension.nodes), ()), sources


def _reference(forward: Graph, sources: list[Value]) -> tuple[Graph, list[str]]:
    if not forward.outputs:
        return forward, []
    extension = Extension(forward)
    one = extension.constant(1.0, forward.outputs[0].value.dtype)
    found = backward(extension, forward.nodes, {forward.outputs[0].value: one}, sources)
    outputs = tuple(Output(v.name, gradient) for v, gradient in found.items())
    renamed = tuple(Output(o.name, o.value) for o in outputs)
    return Graph("gradients", forward.inputs, renamed, (*forward.nodes, *extension.nodes), ()), [v.name for v in found]


def _by_engine(
    process: EngineProcess, form: Graph, names: list[str], arrays: dict[str, NDArrayAny]
) -> dict[str, NDArrayAny]:
    used = run_passes(form, (DeadCode(),), RewriteLog())
    parts = cut(to_proto(used, WeightStore(()), opset=OPSET), used)
    made = process.ask("gradients", {"model": blob(parts.model.SerializeToString())}, trained=names).blob("model")
    model = join(ModelProto.FromString(made), parts)
    process.ask("begin", device="cpu")
    about = {"results": [o.name for o in model.graph.output], "threads": 1, "spinning": False}
    process.ask("load", {"model": blob(model.SerializeToString())}, key="case", **about)
    inputs = {i.name for i in model.graph.input}
    found = process.ask("run", {n: a for n, a in arrays.items() if n in inputs}, key="case").arrays
    return {name: found[f"{name}_grad"] for name in names}


def test_every_differentiable_operator_has_a_row() -> None:
    known = NATIVE | set(ALL_FORMS) | {"batch_norm_gradient"}
    missing = {n for n, op in PRIMITIVES.items() if op.differentiable and op.family != "internal"} - known
    assert missing == {"dropout", "drop_path"}, "these two take another form in training"
    assert not NATIVE & set(ALL_FORMS)


def test_the_documented_table_is_the_real_one() -> None:
    text = DOCS.read_text("utf-8")
    begin, end = "<!-- operators: begin -->\n", "<!-- operators: end -->"
    assert text[text.index(begin) + len(begin) : text.index(end)].strip() == support_table().strip()
