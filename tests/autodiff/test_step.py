"""The training step: clipping, accumulation, freezing, loss scaling, what an evaluation gives, names and places."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest

from netdsl.autodiff.step import StepOptions, build_step
from netdsl.diagnostics import DiagnosticError
from netdsl.ir.opdef import Primitive
from netdsl.ir.verify import verify
from netdsl.ops import PRIMITIVES
from tests.autodiff.stepping import Arrays, Runner, evaluation_of, recipe, step_of, trainable

PROGRAM = """
network T {
    input x: float32[N, 4]
    output y = x -> dense(3) as a -> tanh -> dense(2) as b
}
train T {
    target t: float32[N, 2]
    loss = mse(y, t)
    metric error = mae(y, t)
    optimizer = sgd(0.1, momentum=0.9)
}
"""
WEIGHTS = ("a.weight", "a.bias", "b.weight", "b.bias")
BOTH = pytest.mark.parametrize("runtime", [False, True], ids=["numpy", "onnxruntime"])


def batch(size: int = 6, seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    return {"x": rng.normal(size=(size, 4)).astype("f"), "t": rng.normal(size=(size, 2)).astype("f")}


def change(before: Arrays, after: Arrays, names: Any = WEIGHTS) -> Arrays:
    return {n: np.asarray(after[n] - before[n]) for n in names}


def moved(runner: Runner, step: Any, given: Arrays, **more: Any) -> Arrays:
    """What a step of plain gradient descent at rate 1 adds to the weights: the gradient, negated."""
    runner.prepare(step)
    before = dict(runner.state)
    runner.run(step, given, rate=1.0, **more)
    return change(before, runner.state)


def plain(**options: Any) -> Any:
    return step_of(PROGRAM, arguments={"momentum": 0.0, "nesterov": False, "weight_decay": 0.0}, **options)


@BOTH
def test_clipping_bounds_the_norm_of_all_gradients_together(runtime: bool) -> None:
    free = moved(Runner(runtime), plain(), batch())
    norm = np.sqrt(sum(float(np.sum(g.astype(np.float64) ** 2)) for g in free.values()))
    for limit in (norm / 3, norm * 3):
        clipped = moved(Runner(runtime), plain(clip_norm=float(limit)), batch())
        factor = min(1.0, limit / (norm + 1e-6))
        for name, g in free.items():
            np.testing.assert_allclose(clipped[name], factor * g, rtol=1e-4, atol=1e-7)


@BOTH
@pytest.mark.parametrize("sizes", [(2, 4), (1, 3, 2), (2, 2, 1, 1)])
@pytest.mark.parametrize("limit", [None, 0.05])
def test_accumulated_batches_are_one_large_batch(runtime: bool, sizes: tuple[int, ...], limit: float | None) -> None:
    """For a loss that is a mean; the momentum shows that there is one update, the clipping that it comes last."""
    whole, ends = batch(sum(sizes)), np.cumsum(sizes)
    one, parts = Runner(runtime), Runner(runtime)
    options: dict[str, Any] = {"clip_norm": limit}
    steps = {phase: step_of(PROGRAM, phase=phase, **options) for phase in ("only", "first", "middle", "last")}
    for _ in range(3):
        expected = one.run(steps["only"], whole)
        total = 0.0
        for number, (size, end) in enumerate(zip(sizes, ends, strict=True)):
            phase = "first" if number == 0 else "last" if number == len(sizes) - 1 else "middle"
            given = {n: a[end - size : end] for n, a in whole.items()}
            before = dict(parts.state)
            result = parts.run(steps[phase], given, gradient_share=size / sum(sizes))
            total += float(result["loss"]) * size / sum(sizes)
            if phase != "last" and before:
                assert all(np.array_equal(before[n], parts.state[n]) for n in WEIGHTS)
        np.testing.assert_allclose(total, expected["loss"], rtol=1e-5)
        for name in one.state:
            np.testing.assert_allclose(parts.state[name], one.state[name], rtol=2e-5, atol=1e-6, err_msg=name)


def test_frozen_parameters_stay_and_have_no_state() -> None:
    runner = Runner()
    step = step_of(PROGRAM, trainable=frozenset({"b.weight", "b.bias"}))
    runner.prepare(step)
    before = dict(runner.state)
    runner.run(step, batch())
    assert all(np.any(after) for after in change(before, runner.state, ("b.weight", "b.bias")).values())
    assert not any(np.any(after) for after in change(before, runner.state, ("a.weight", "a.bias")).values())
    assert {s.name for s in step.state if s.kind == "optimizer"} == {
        "optimizer/step",
        "optimizer/b.weight/momentum",
        "optimizer/b.bias/momentum",
    }
    assert not any(o.name.startswith("next/a.") for o in step.graph.outputs)
    assert not any(n.path.startswith("a.") and n.path.endswith(".gradient") for n in step.graph.nodes)


def test_a_layer_that_is_used_twice_gets_the_sum_of_both_gradients() -> None:
    def weights(body: str) -> Arrays:
        source = f"network T {{ input x: float32[N, 3] {body} }} train T {{ loss = mean(y * y) optimizer = sgd(1) }}"
        runner, step = Runner(), step_of(source)
        x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
        runner.prepare(step)
        start = np.linspace(-0.7, 0.9, 9, dtype=np.float32).reshape(3, 3)
        runner.state |= {n: start.copy() for n in runner.state if n.endswith("weight")}
        before = dict(runner.state)
        runner.run(step, {"x": x}, rate=1.0)
        return change(before, runner.state, [n for n in before if n.endswith("weight")])

    shared = weights("shared f = dense(_, 3)  output y = x -> f -> tanh -> f")
    apart = weights("output y = x -> dense(3) as f -> tanh -> dense(3) as g")
    assert list(shared) == ["f.weight"]
    np.testing.assert_allclose(shared["f.weight"], apart["f.weight"] + apart["g.weight"], rtol=1e-5, atol=1e-6)


@BOTH
def test_loss_scaling_leaves_the_step_as_it_is(runtime: bool) -> None:
    one, scaled = Runner(runtime), Runner(runtime)
    for seed in range(3):
        expected = one.run(step_of(PROGRAM, clip_norm=0.5), batch(seed=seed))
        found = scaled.run(step_of(PROGRAM, clip_norm=0.5, loss_scaling=True), batch(seed=seed))
        np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-6)
    for name in WEIGHTS:
        np.testing.assert_allclose(scaled.state[name], one.state[name], rtol=1e-5, atol=1e-6)
    assert scaled.state["loss_scale"] == 65536 and scaled.state["loss_scale/good_steps"] == 3


@BOTH
@pytest.mark.parametrize("fault", [np.nan, np.inf, 3e38])
def test_an_overflow_changes_nothing_but_the_scale(runtime: bool, fault: float) -> None:
    runner, step = Runner(runtime), step_of(PROGRAM, loss_scaling=True)
    runner.run(step, batch())
    before = dict(runner.state)
    wrong = batch()
    wrong["t"][2, 1] = fault
    runner.run(step, wrong)
    assert runner.state["loss_scale"] == 32768 and runner.state["loss_scale/good_steps"] == 0
    for name, array in before.items():
        if not name.startswith("loss_scale"):
            np.testing.assert_array_equal(runner.state[name], array, err_msg=name)
    runner.run(step, batch())
    assert runner.state["optimizer/step"] == 2 and runner.state["loss_scale/good_steps"] == 1


def test_the_scale_doubles_after_2000_good_steps() -> None:
    runner, step = Runner(), step_of(PROGRAM, loss_scaling=True)
    runner.prepare(step)
    runner.state |= {"loss_scale/good_steps": np.float32(1998), "loss_scale": np.float32(1024)}
    scales = []
    for _ in range(3):
        runner.run(step, batch())
        scales.append((float(runner.state["loss_scale"]), float(runner.state["loss_scale/good_steps"])))
    assert scales == [(1024, 1999), (2048, 0), (2048, 1)]


def test_the_scale_keeps_within_float32() -> None:
    """It neither grows to infinity nor falls to nothing, from where it could not come back."""
    runner, step = Runner(), step_of(PROGRAM, loss_scaling=True)
    wrong = batch()
    wrong["t"][:] = np.nan
    for _ in range(400):
        runner.run(step, wrong)
    assert runner.state["loss_scale"] > 0
    runner.state |= {"loss_scale/good_steps": np.float32(1999), "loss_scale": np.float32(2**127)}
    runner.run(step, batch())
    assert np.isfinite(runner.state["loss_scale"])


@BOTH
@pytest.mark.parametrize("size", [1, 2, 4])
def test_overflow_in_an_accumulated_group_skips_the_update(runtime: bool, size: int) -> None:
    runner = Runner(runtime)
    first, last = (step_of(PROGRAM, phase=phase, loss_scaling=True) for phase in ("first", "last"))
    runner.prepare(last)
    before = dict(runner.state)
    wrong = batch(size)
    wrong["x"][0] = np.nan
    runner.run(first, wrong, gradient_share=0.5)
    runner.run(last, batch(), gradient_share=0.5)
    assert all(np.array_equal(before[n], runner.state[n]) for n in WEIGHTS)
    assert runner.state["loss_scale"] == 32768


@BOTH
def test_an_evaluation_changes_nothing(runtime: bool) -> None:
    runner = Runner(runtime)
    step, evaluation = step_of(PROGRAM), evaluation_of(PROGRAM)
    runner.prepare(step)
    before = dict(runner.state)
    measured = runner.run(evaluation, batch())
    assert all(np.array_equal(before[n], runner.state[n]) for n in before)
    trained = runner.run(step, batch())
    assert measured.keys() == trained.keys() == {"loss", "error/sum", "error/count"}
    for name, value in measured.items():
        np.testing.assert_allclose(trained[name], value, rtol=1e-5)
    assert runner.run(evaluation, batch())["loss"] < measured["loss"]


def test_the_step_says_what_it_reads_and_makes() -> None:
    step = step_of(PROGRAM)
    verify(step.graph, PRIMITIVES)
    names = [v.name for v in step.graph.inputs]
    assert names == ["x", "t", "learning_rate", "seed", *(s.name for s in step.state)]
    assert step.batch == ("x", "t") and step.results == ("loss", "error/sum", "error/count")
    assert {o.name.removeprefix("next/") for o in step.graph.outputs if o.name.startswith("next/")} == {
        s.name for s in step.state
    }
    assert all(n.place is not None for n in step.graph.nodes if n.path.startswith(("a", "b")))


@dataclass(frozen=True)
class Rounded(Primitive):
    """An operator without a gradient."""

    name: ClassVar[str] = "rounded"
    family: ClassVar[str] = "internal"


def test_an_operator_without_gradient_is_named_with_its_place() -> None:
    made = recipe(PROGRAM)
    nodes = [replace(n, op=Rounded()) if n.op.name == "tanh" else n for n in made.graph.nodes]
    graph = replace(made.graph, nodes=tuple(nodes))
    options = StepOptions("sgd", made.recipe.optimizer.arguments, trainable(graph))
    with pytest.raises(DiagnosticError) as caught:
        build_step(graph, options, ["loss"])
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.message == "rounded has no gradient, but the loss depends on trained parameters through tanh"
    assert diagnostic.span is not None and diagnostic.span.text.startswith("tanh")
    build_step(graph, replace(options, trainable=frozenset({"b.weight", "b.bias"})), ["loss"])  # it stands before them


@pytest.mark.parametrize("more", ["", " + mean(scores)"])
def test_a_loss_behind_a_selection_alone_is_named_with_its_place(more: str) -> None:
    """What is kept of the boxes are integers, through which nothing is trained."""
    made = recipe(f"""network T {{
        input x: float32[N, 3]
        boxes = x -> dense(20) -> reshape([N, 5, 4])
        output scores = x -> dense(5) -> unsqueeze(1)
        output kept = non_max_suppression(boxes, scores)
    }}
    train T {{
        loss = mean(cast(kept, float32)){more}
        optimizer = sgd(lr=0.1)
    }}""")
    options = StepOptions("sgd", made.recipe.optimizer.arguments, trainable(made.graph))
    if more:
        build_step(made.graph, options, ["loss"])
        return
    with pytest.raises(DiagnosticError) as caught:
        build_step(made.graph, options, ["loss"])
    (diagnostic,) = caught.value.diagnostics
    assert "depends on trained parameters only through non_max_suppression" in diagnostic.message
    assert diagnostic.span is not None and diagnostic.span.text.startswith("non_max_suppression")


def test_a_loss_of_no_parameter_trains_nothing() -> None:
    source = "network T { input x: float32[N, 4] output y = dense(x, 2) } train T { loss = mean(x) optimizer = adam() }"
    runner, step = Runner(True), step_of(source, clip_norm=1.0, loss_scaling=True)
    assert float(runner.run(step, {"x": np.ones((3, 4), "f")})["loss"]) == 1
