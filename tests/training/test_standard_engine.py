"""The standard engine: its numbers, its state, freezing, accumulation, and where an overflow began."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from netdsl.ir.types import NDArrayAny
from netdsl.source import SourceFile
from netdsl.training.engines.standard import StandardEngine
from netdsl.training.initial import initial_weights
from netdsl.training.job import Job, make_job, minimum_batch

LINEAR = """network Linear {
    input x: float32[N, 3]
    output y = x -> dense(1) as layer
}
train Linear {
    target t: float32[N, 1]
    loss = mse(y, t)
    optimizer = sgd(lr=0.1)
}
"""

#: everything that has a state: moving averages, two moments per weight, masks
DEEP = """network Deep {
    input x: float32[N, 4]
    h = x -> dense(8) as first -> batch_norm as norm -> relu -> dropout(0.5)
    output y = h -> dense(2) as last
}
train Deep {
    target t: int64[N]
    loss = cross_entropy(y, t)
    metric accuracy = accuracy(y, t)
    optimizer = adam(lr=0.01)
    clip_norm = 1.0
}
"""


def job_of(text: str) -> Job:
    return make_job(SourceFile("test.net", text))


def engine_of(text: str) -> StandardEngine:
    job = job_of(text)
    weights = initial_weights(job.recipe, job.graph, job.folder)
    return StandardEngine(job.recipe, job.graph, weights, device="cpu", threads=1)


def linear_batch(items: int = 6) -> dict[str, NDArrayAny]:
    rng = np.random.default_rng(1)
    return {"x": rng.random((items, 3), np.float32), "t": rng.random((items, 1), np.float32)}


def deep_batch(number: int, items: int = 6) -> dict[str, NDArrayAny]:
    rng = np.random.default_rng(number)
    return {"x": rng.random((items, 4), np.float32), "t": rng.integers(0, 2, items)}


def same(a: Mapping[str, NDArrayAny], b: Mapping[str, NDArrayAny]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def copy(state: Mapping[str, NDArrayAny]) -> dict[str, NDArrayAny]:
    return {name: np.array(array) for name, array in state.items()}


def test_a_step_follows_the_formula() -> None:
    """w' = w - lr * 2/n * xᵀ(xw + b - t)."""
    engine, batch = engine_of(LINEAR), linear_batch()
    before = copy(engine.state())
    result = engine.step(batch, rate=0.1, seed=0)
    error = batch["x"] @ before["layer.weight"].T + before["layer.bias"] - batch["t"]
    assert result.loss == pytest.approx(float((error**2).mean()), rel=1e-6)
    after = engine.state()
    slope = 2 / len(error) * error.T @ batch["x"]
    np.testing.assert_allclose(after["layer.weight"], before["layer.weight"] - 0.1 * slope, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(after["layer.bias"], before["layer.bias"] - 0.2 * error.mean(0), rtol=1e-5, atol=1e-7)


def test_state_of_many_steps_on_both_buffers() -> None:
    """Odd and even numbers of steps read the buffer that was written last."""
    engine, batch = engine_of(LINEAR), linear_batch()
    weight = np.array(engine.state()["layer.weight"], np.float64)
    bias = np.array(engine.state()["layer.bias"], np.float64)
    for number in range(5):
        engine.step(batch, rate=0.1, seed=number)
        error = batch["x"] @ weight.T + bias - batch["t"]
        weight, bias = weight - 0.2 / 6 * error.T @ batch["x"], bias - 0.2 * error.mean(0)
        np.testing.assert_allclose(engine.state()["layer.weight"], weight, rtol=1e-5)


def test_loaded_state_goes_on_to_the_same_bits() -> None:
    one, other = engine_of(DEEP), engine_of(DEEP)
    for number in range(3):
        one.step(deep_batch(number), rate=0.01, seed=number)
    other.load(copy(one.state()))
    for number in range(3, 6):
        a = one.step(deep_batch(number), rate=0.01, seed=number)
        b = other.step(deep_batch(number), rate=0.01, seed=number)
        assert a.loss == b.loss
    assert same(copy(one.state()), other.state())
    assert "optimizer/first.weight/exp_avg" in one.state()


def test_loading_replaces_the_state_of_a_running_engine() -> None:
    engine = engine_of(DEEP)
    for number in range(2):
        engine.step(deep_batch(number), rate=0.01, seed=number)
    early = copy(engine.state())
    expected = engine.step(deep_batch(7), rate=0.01, seed=7).loss
    engine.step(deep_batch(8), rate=0.01, seed=8)
    engine.load(early)
    assert same(early, engine.state())
    assert engine.step(deep_batch(7), rate=0.01, seed=7).loss == expected


def test_the_seed_decides_dropout() -> None:
    losses = [engine_of(DEEP).step(deep_batch(0), rate=0.01, seed=seed).loss for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_evaluation_changes_nothing_and_drops_nothing() -> None:
    engine = engine_of(DEEP)
    engine.step(deep_batch(0), rate=0.01, seed=0)
    before = copy(engine.state())
    first = engine.evaluate(deep_batch(1))
    assert first.loss == engine.evaluate(deep_batch(1)).loss
    assert int(first.statistics["accuracy/count"]) == 6
    assert same(before, engine.state())


def test_frozen_parameters_stay_and_their_state_goes() -> None:
    engine = engine_of(DEEP)
    engine.step(deep_batch(0), rate=0.01, seed=0)
    head = frozenset({"last.weight", "last.bias"})
    before = copy(engine.state())
    engine.rebuild(dict.fromkeys(head, 0))
    engine.step(deep_batch(1), rate=0.01, seed=1)
    after = copy(engine.state())
    changed = {name for name in engine.weights if not np.array_equal(before[name], after[name])}
    assert changed == head, "a batch norm whose parameters are frozen keeps its statistics"
    assert {name for name in after if name.startswith("optimizer/") and name.count("/") > 1} == {
        f"optimizer/{name}/{part}" for name in head for part in ("exp_avg", "exp_avg_sq")
    }
    engine.rebuild({n: 0 if n in head else 3 for n in engine.trainable})
    engine.step(deep_batch(2), rate=0.01, seed=2)
    assert not np.array_equal(engine.state()["first.weight"], after["first.weight"])
    assert not np.array_equal(engine.state()["norm.running_mean"], after["norm.running_mean"])


def test_a_resumed_engine_freezes_as_one_that_was_not() -> None:
    one, other = engine_of(DEEP), engine_of(DEEP)
    one.step(deep_batch(0), rate=0.01, seed=0)
    saved, head = copy(one.state()), frozenset({"last.weight", "last.bias"})
    one.rebuild(dict.fromkeys(head, 0))
    other.rebuild(dict.fromkeys(head, 0))
    other.load(saved)
    for engine in (one, other):
        engine.step(deep_batch(1), rate=0.01, seed=1)
        engine.rebuild({n: 0 if n in head else 3 for n in engine.trainable})
        engine.step(deep_batch(2), rate=0.01, seed=2)
    assert same(copy(one.state()), other.state())


def test_moments_without_their_count_begin_anew() -> None:
    """As where a run goes on with a recipe that unfreezes in another epoch."""
    begun, engine, fresh = engine_of(DEEP), engine_of(DEEP), engine_of(DEEP)
    begun.step(deep_batch(0), rate=0.01, seed=0)
    late = {name: 0 if name.startswith("last") else 2 for name in begun.trainable}
    state = copy(begun.state())
    engine.rebuild(late)
    engine.load(state)
    fresh.rebuild(late)
    fresh.load({n: a for n, a in state.items() if "last" in n or not n.startswith("optimizer/") or n.count("/") == 1})
    for e in (engine, fresh):
        e.step(deep_batch(1), rate=0.01, seed=1)
    after = copy(engine.state())
    assert same(after, fresh.state())
    assert (after["optimizer/step"], after["optimizer/step_since_epoch_2"]) == (2, 1)


def test_accumulated_batches_count_as_one() -> None:
    whole, parts, batch = engine_of(LINEAR), engine_of(LINEAR), linear_batch(6)
    whole.step(batch, rate=0.1, seed=0)
    for phase, rows in (("first", slice(0, 2)), ("middle", slice(2, 5)), ("last", slice(5, 6))):
        piece = {name: array[rows] for name, array in batch.items()}
        parts.step(piece, rate=0.1, seed=0, phase=phase, share=len(piece["x"]) / 6)
    for name in whole.weights:
        np.testing.assert_allclose(parts.state()[name], whole.state()[name], rtol=1e-6, atol=1e-7)


def test_a_group_in_the_middle_is_saved() -> None:
    one, other, batch = engine_of(LINEAR), engine_of(LINEAR), linear_batch(6)
    one.step(batch, rate=0.1, seed=0, phase="first", share=0.5)
    other.load(copy(one.state()))
    for engine in (one, other):
        engine.step(batch, rate=0.1, seed=0, phase="last", share=0.5)
    assert same(copy(one.state()), other.state())


OVERFLOW = """network Big {
    input x: float32[N, 3]
    h = x -> dense(4) as first
    g = h * 100.0
    output y = g -> exp as boom -> dense(1) as last
}
train Big {
    target t: float32[N, 1]
    loss = mse(y, t)
    optimizer = sgd(lr=0.1)
}
"""


def test_an_overflow_is_named_with_its_layer() -> None:
    engine, batch = engine_of(OVERFLOW), linear_batch()
    batch["x"] = batch["x"] * 100
    result = engine.step(batch, rate=0.1, seed=0)
    assert not np.isfinite(result.loss)
    said = engine.explain_overflow(batch)
    assert said.startswith("boom (test.net:5:21): the output of exp is infinite, first at [")
    assert "inputs are finite" in said


def test_a_weight_that_overflowed_is_named() -> None:
    engine, batch = engine_of(LINEAR), linear_batch()
    state = copy(engine.state())
    state["layer.weight"][0, 1] = np.inf
    engine.load(state)
    engine.step(batch, rate=0.1, seed=0)
    assert engine.explain_overflow(batch) == "layer.weight: the last update made this weight infinite"


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_mixed_precision_trains(precision: str) -> None:
    engine = engine_of(DEEP.replace("clip_norm = 1.0", f'precision = "{precision}"').replace("-> dropout(0.5)", ""))
    losses = [engine.step(deep_batch(0), rate=0.05, seed=0).loss for _ in range(40)]
    assert losses[-1] < 0.7 * losses[0]
    assert all(np.asarray(array).dtype == np.float32 for array in engine.state().values())


@pytest.mark.parametrize(("shape", "fewest"), [("[N, 4]", 2), ("[N, 4, 1, 1]", 2), ("[N, 4, 3, 3]", 1)])
def test_fewest_items_of_a_batch_norm(shape: str, fewest: int) -> None:
    text = f"""network A {{
    input x: float32{shape}
    output y = x -> batch_norm
}}
train A {{
    loss = mean(y ** 2)
    optimizer = sgd(lr=0.1)
}}
"""
    assert minimum_batch(job_of(text).graph) == fewest
