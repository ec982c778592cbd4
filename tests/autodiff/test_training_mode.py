"""Batch norm and dropout while they are trained: statistics, moving averages, masks, what is frozen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netdsl.autodiff.step import StepGraph
from tests.autodiff.stepping import Arrays, Runner, evaluation_of, step_of

NORM = """
network T { input x: float32[N, 2, 3, H]  output y = x -> conv(4, 1) as c -> batch_norm(momentum=0.8) as bn }
train T { loss = mean(y * y * y)  optimizer = sgd(0.1) }
"""
BOTH = pytest.mark.parametrize("runtime", [False, True], ids=["numpy", "onnxruntime"])


def pictures(seed: int = 0, size: int = 5) -> Arrays:
    return {"x": np.random.default_rng(seed).normal(2, 3, size=(size, 2, 3, 4)).astype("f")}


def convolved(state: Arrays, x: Any) -> Any:
    w, b = state["c.weight"][:, :, 0, 0].astype(np.float64), state["c.bias"].astype(np.float64)
    return np.einsum("ncij,oc->noij", x.astype(np.float64), w) + b[None, :, None, None]


@BOTH
def test_moving_averages_are_those_of_pytorch(runtime: bool) -> None:
    """The batch's mean, and its variance with n - 1 in the denominator."""
    runner, step = Runner(runtime), step_of(NORM)
    runner.prepare(step)
    mean, var = np.zeros(4), np.ones(4)
    for seed in range(3):
        given = pictures(seed)
        y = convolved(runner.state, given["x"])
        runner.run(step, given)
        mean = 0.8 * mean + 0.2 * y.mean((0, 2, 3))
        var = 0.8 * var + 0.2 * y.var((0, 2, 3), ddof=1)
        np.testing.assert_allclose(runner.state["bn.running_mean"], mean, rtol=1e-5)
        np.testing.assert_allclose(runner.state["bn.running_var"], var, rtol=1e-5)


@BOTH
def test_training_normalises_by_the_batch_and_evaluation_by_the_averages(runtime: bool) -> None:
    runner, step, evaluation = Runner(runtime), step_of(NORM), evaluation_of(NORM)
    given = pictures()
    runner.prepare(step)
    runner.state["bn.bias"] = np.asarray([0.5, -1, 0, 2], np.float32)
    bias = runner.state["bn.bias"][None, :, None, None]
    y = convolved(runner.state, given["x"])
    spread = (y - y.mean((0, 2, 3), keepdims=True)) / np.sqrt(y.var((0, 2, 3), keepdims=True) + 1e-5)
    np.testing.assert_allclose(
        runner.run(evaluation, given)["loss"], np.mean((y / np.sqrt(1 + 1e-5) + bias) ** 3), rtol=1e-4
    )
    np.testing.assert_allclose(runner.run(step, given)["loss"], np.mean((spread + bias) ** 3), rtol=1e-4)


@BOTH
def test_a_shared_norm_moves_twice(runtime: bool) -> None:
    source = """network T { input x: float32[N, 2] shared f = batch_norm(_, momentum=0.5) output y = f(f(x) * 3 + 1) }
    train T { loss = mean(y)  optimizer = sgd(0.1) }"""
    runner, x = Runner(runtime), np.random.default_rng(0).normal(4, 2, (8, 2)).astype("f")
    runner.run(step_of(source), {"x": x})
    wide = x.astype(np.float64)
    first = 0.5 * wide.mean(0)
    second = (wide - wide.mean(0)) / np.sqrt(wide.var(0) + 1e-5) * 3 + 1
    np.testing.assert_allclose(runner.state["f.running_mean"], 0.5 * first + 0.5 * second.mean(0), rtol=1e-5)
    var = 0.5 * (0.5 + 0.5 * wide.var(0, ddof=1)) + 0.5 * second.var(0, ddof=1)
    np.testing.assert_allclose(runner.state["f.running_var"], var, rtol=1e-5)


@pytest.mark.parametrize(
    ("trained", "moves"), [({"c.weight"}, False), ({"bn.bias"}, True), ({"bn.weight", "c.bias"}, True)]
)
def test_a_norm_whose_parameters_are_all_frozen_keeps_its_statistics(trained: set[str], moves: bool) -> None:
    runner, step = Runner(), step_of(NORM, trainable=frozenset(trained))
    runner.run(step, pictures())
    assert bool(np.any(runner.state["bn.running_mean"])) is moves


def test_averages_move_in_every_batch_of_a_group() -> None:
    runner = Runner()
    for phase in ("first", "middle", "last"):
        step = step_of(NORM, phase=phase)
        runner.prepare(step)
        before = runner.state["bn.running_mean"].copy()
        runner.run(step, pictures(), gradient_share=1 / 3)
        assert np.all(before != runner.state["bn.running_mean"]), phase


def test_an_overflow_keeps_the_averages() -> None:
    """They would be NaN for good."""
    runner, step = Runner(), step_of(NORM, loss_scaling=True)
    runner.run(step, pictures())
    before = dict(runner.state)
    wrong = pictures()
    wrong["x"][0, 0, 0, 0] = np.nan
    runner.run(step, wrong)
    for name in ("bn.running_mean", "bn.running_var"):
        np.testing.assert_array_equal(runner.state[name], before[name])


DROP = """
network T {
    input x: float32[N, 40]
    output y = x -> dropout(0.25) as first -> dropout(0.25) as second
    output z = x -> drop_path(0.5)
    output w = x -> dense(1)
}
train T { loss = mean(y) + mean(z) + mean(w)  metric a = mean(w)  optimizer = sgd(0.1) }
"""


def masked(step: StepGraph, seed: int, runtime: bool) -> float:
    return float(Runner(runtime).run(step, {"x": np.ones((30, 40), "f")}, seed=seed)["loss"])


@BOTH
def test_masks_depend_on_the_seed_alone(runtime: bool) -> None:
    step = step_of(DROP)
    losses = [masked(step, seed, runtime) for seed in (1, 2, 1, 3)]
    assert losses[0] == losses[2] and len(set(losses)) == 3
    assert losses[0] == pytest.approx(masked(step_of(DROP), 1, not runtime), rel=1e-5)


def test_layers_draw_masks_of_their_own() -> None:
    """Two dropouts of 1/4 in a row keep 9/16, not 3/4; the kept are scaled by 16/9."""
    source = """network T { input x: float32[N, 500] output y = x -> dropout(0.25) -> dropout(0.25) }
    train T { loss = mean(cast(y > 0, float32))  metric top = max(y)  optimizer = sgd(0.1) }"""
    for runtime in (False, True):
        result = Runner(runtime).run(step_of(source), {"x": np.ones((20, 500), "f")}, seed=5)
        assert abs(float(result["loss"]) - 9 / 16) < 0.03
        assert float(result["top/value"]) == pytest.approx(16 / 9)


def test_an_evaluation_drops_nothing() -> None:
    x = np.ones((30, 40), "f")
    result = Runner().run(evaluation_of(DROP), {"x": x})
    assert float(result["loss"] - result["a/value"]) == pytest.approx(2, abs=1e-5)
