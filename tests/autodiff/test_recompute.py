"""Recomputation: the same numbers, from less memory, whatever ONNX Runtime's optimiser would like to merge."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netdsl.autodiff.memory import step_peak_bytes
from netdsl.autodiff.recompute import dropped_values
from netdsl.diagnostics import DiagnosticError
from netdsl.ir.build import GraphBuilder
from netdsl.ir.opdef import Target
from netdsl.ir.types import DType, TensorType
from netdsl.ir.verify import verify
from netdsl.onnx.export import to_proto
from netdsl.ops import PRIMITIVES
from netdsl.ops.ordering import After
from netdsl.runtime.session import Session
from netdsl.weights import WeightStore
from tests.autodiff.stepping import Runner, step_of

RESIDUAL = """
block Unit(x, width) {
    y = x -> conv(width, 3, padding=1) -> batch_norm -> relu -> dropout(0.2) -> conv(width, 3, padding=1) -> batch_norm
    return relu(x + y)
}
network T {
    input x: float32[N, 3, 8, 8]
    y = x -> conv(6, 3, padding=1) as stem
    for i in range(6) as stage { y = y -> Unit(6) }
    output logits = y -> global_avg_pool -> flatten -> dense(4) as head
}
train T {
    target t: int64[N]
    loss = cross_entropy(logits, t)
    optimizer = sgd(0.05, momentum=0.9)
}
"""
CHOICES: dict[str, Any] = {"auto": "auto", "all": ("*",), "stages": ("stage_2.*", "stage_3.*"), "norms": ("*norm",)}
CHOSEN = pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)


def batch() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {"x": rng.normal(size=(4, 3, 8, 8)).astype("f"), "t": rng.integers(0, 4, 4)}


@CHOSEN
@pytest.mark.parametrize("runtime", [False, True], ids=["numpy", "onnxruntime"])
def test_a_step_computes_the_same(choice: Any, runtime: bool) -> None:
    """Dropout's masks and batch norm's statistics included."""
    plain, again = Runner(runtime), Runner(runtime)
    step, other = step_of(RESIDUAL), step_of(RESIDUAL, recompute=choice)
    verify(other.graph, PRIMITIVES)
    for seed in range(2):
        expected, found = (r.run(s, batch(), seed=seed) for r, s in ((plain, step), (again, other)))
        np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-6)
    for name, array in plain.state.items():
        np.testing.assert_allclose(again.state[name], array, rtol=1e-4, atol=1e-6, err_msg=name)


@CHOSEN
def test_what_is_computed_again_waits_for_a_gradient(choice: Any) -> None:
    graph = step_of(RESIDUAL, recompute=choice).graph
    late = {v for n in graph.nodes if isinstance(n.op, After) for v in n.outputs}
    assert late
    for node in graph.nodes:
        if node.path.endswith(".recompute"):
            assert any(v in late for v in node.inputs), node
            late.update(node.outputs)
        elif isinstance(node.op, After):
            assert ".gradient" in node.inputs[1].name


def test_auto_drops_what_is_cheap() -> None:
    nodes = step_of(RESIDUAL).graph.nodes
    forward = [n for n in nodes if ".gradient" not in n.path and ".update" not in n.path]
    dropped = dropped_values(forward, "auto")
    made = {n.op.name for n in forward if any(v in dropped for v in n.outputs)}
    assert {"batch_norm_training", "relu", "uniform_random", "mul"} <= made
    assert not {"conv", "dense", "softmax_nll"} & made
    assert dropped_values(forward, ()) == frozenset()


def test_a_pattern_that_matches_nothing_names_the_nearest() -> None:
    with pytest.raises(DiagnosticError) as caught:
        step_of(RESIDUAL, recompute=("stam",))
    (diagnostic,) = caught.value.diagnostics
    assert '"stam" matches no layer' in diagnostic.message
    assert "stem" in str(diagnostic.help)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("signal", [0.0, -1.5, 2.0, np.nan, np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int64"])
def test_after_gives_its_operand_whatever_the_signal(device: Any, signal: float, dtype: str) -> None:
    builder = GraphBuilder("T")
    x = builder.input("x", TensorType(DType[dtype], (3, 4)))
    gradient = builder.input("g", TensorType(DType.float16 if dtype == "float16" else DType.float32, (2, 5)))
    builder.output("y", builder.emit(After(), x, gradient))
    model = to_proto(builder.finish(), WeightStore(()), target=Target(device))
    given = np.arange(12).reshape(3, 4).astype(DType[dtype].numpy)
    found = Session(model.SerializeToString(), "cpu").run(
        {"x": given, "g": np.full((2, 5), signal, gradient.dtype.numpy)}
    )
    np.testing.assert_array_equal(found["y"], given)


PLAIN = """
network T {{
    input x: float32[N, 3, 48, 48]
    y = x -> conv(16, 3, padding=1) -> batch_norm -> relu
    repeat {depth} {{ y = y -> conv(16, 3, padding=1) -> batch_norm -> relu }}
    output logits = y -> global_avg_pool -> flatten -> dense(4) as head
}}
train T {{ target t: int64[N]  loss = cross_entropy(logits, t)  optimizer = sgd(0.05) }}
"""

MEASURE = """
import sys
from pathlib import Path
import numpy as np
from netdsl.autodiff.step import NEXT
from netdsl.ir.types import DType
from netdsl.onnx.export import to_proto
from netdsl.passes.log import RewriteLog
from netdsl.passes.pipelines import TRAINING, run_passes
from netdsl.runtime.stepper import DeviceState, Stepper
from netdsl.weights import WeightStore
from tests.autodiff.stepping import initial, step_of
from tests.autodiff.test_recompute import CHOICES, PLAIN
step = step_of(PLAIN.format(depth=14), recompute=CHOICES.get(sys.argv[1], ()))
graph = run_passes(step.graph, TRAINING, RewriteLog())
model = to_proto(graph, WeightStore(())).SerializeToString()
changed = [o.name.removeprefix(NEXT) for o in graph.outputs if o.name.startswith(NEXT)]
state = DeviceState({t.name: initial(t) for t in step.state}, changed, "cpu")
stepper = Stepper(model, state, step.results, threads=1)
batch = {"x": np.ones((16, 3, 48, 48), "f"), "t": np.zeros(16, np.int64)}
batch |= {"learning_rate": np.asarray(0.1, "f"), "seed": np.asarray(1, np.int64)}
def peak():
    # not getrusage's figure, which begins at the peak of the process that started this one
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])
before = peak()
for _ in range(3):
    stepper.run(batch)
print(peak() - before)
"""


def measured(choice: str) -> int:
    """Peak memory that three steps of a plain network add to a process, in KiB."""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", MEASURE, choice], cwd=root, capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_memory_falls() -> None:
    """Of 15 layers' two activations each, "auto" keeps one, "*" about one in four layers."""
    none, auto, everything = (measured(choice) for choice in ("none", "auto", "all"))
    assert auto < 0.75 * none
    assert everything < 0.65 * none


def test_the_reported_peak_falls() -> None:
    peaks = [step_peak_bytes(step_of(PLAIN.format(depth=14), recompute=c)) for c in ((), "auto", ("*",))]
    none, auto, everything = (p for p in peaks if p is not None)
    assert auto < 0.7 * none
    assert everything < 0.6 * none


def test_the_peak_counted_by_hand() -> None:
    source = """network T { input x: float32[N, 100] output y = dense(x, 10, bias=false) -> exp -> reshape([N, 2, 5]) }
    train T { loss = mean(y)  optimizer = sgd(0.1, momentum=0.9) }"""
    weight, scalars = 4 * 1000, 4 + 8 + 4  # rate, seed, the step's number
    state = 3 * weight + scalars + 400  # the weight twice, momentum once, the batch
    peak = step_peak_bytes(step_of(source))
    assert peak is not None
    assert state + 2 * weight <= peak <= state + 2 * weight + 300  # gradient, momentum * 0.9; activations are small
