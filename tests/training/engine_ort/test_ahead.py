"""Steps that are sent before the one before them is answered: nothing but the waiting may change by it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from netdsl.diagnostics import DiagnosticError
from netdsl.ir.types import NDArrayAny
from netdsl.training.engines.base import Phase, Step, StepResult
from netdsl.training.engines.onnxruntime_training.wire import WHOLE
from netdsl.training.job import Job
from tests.training.engine_ort.networks import batch_of, engines, job_of, small

GROUP: tuple[Phase, ...] = ("first", "middle", "last")


def kept(result: StepResult) -> tuple[float, dict[str, NDArrayAny]]:
    """A result that outlives the next."""
    return result.loss, {name: np.array(array) for name, array in result.statistics.items()}


def same(one: Mapping[str, NDArrayAny], two: Mapping[str, NDArrayAny]) -> None:
    assert one.keys() == two.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, two[name], err_msg=name)


def steps_of(job: Job, count: int = 7) -> list[Step]:
    """Groups of three batches, and one alone; every number differs from step to step."""
    phases = [*GROUP, *GROUP, "only"][:count]
    batches = [batch_of(job, 8, seed) for seed in range(count)]
    return [
        Step(batch, 0.01 * (n + 1), n, phase, 1.0 if phase == "only" else 1 / 3)
        for n, (batch, phase) in enumerate(zip(batches, phases, strict=True))
    ]


def test_they_equal_steps_one_by_one(engine: Path) -> None:
    job = small(more="accumulate = 3")
    _, ahead = engines(job)
    _, alone = engines(job)
    steps = steps_of(job)
    together = [kept(result) for result in ahead.steps(steps)]
    single = [kept(next(alone.steps([step]))) for step in steps]
    for (loss, statistics), (expected, others) in zip(together, single, strict=True):
        assert loss == expected
        same(statistics, others)
    same(ahead.state(), alone.state())
    ahead.close()
    alone.close()


def test_the_next_step_is_sent_before_a_result_is_given(engine: Path) -> None:
    job = small()
    standard, other = engines(job)
    for made, ahead in ((standard, 0), (other, 1)):
        taken: list[int] = []

        def counted(taken: list[int] = taken) -> Iterator[Step]:
            for number in range(4):
                taken.append(number)
                yield Step(batch_of(job), 0.01, number)

        seen = [len(taken) for _ in made.steps(counted())]
        assert seen == [min(number + 1 + ahead, 4) for number in range(4)]
        made.close()


def test_nothing_is_made_after_a_loss_that_is_not_finite(engine: Path) -> None:
    """The state is the one of that step, and the weights before it say where it began."""
    job = small(dropout=0.0)
    standard, ahead = engines(job)
    _, alone = engines(job)
    steps = [Step(batch_of(job, seed=number), 0.05, number) for number in range(5)]
    wild = Step({**steps[2].batch, "image": np.full_like(steps[2].batch["image"], 1e38)}, 0.05, 2)
    steps[2] = wild
    losses = [result.loss for result in standard.steps(steps)]
    made = ahead.steps(steps)
    assert [next(made).loss for _ in range(2)] == pytest.approx(losses[:2], abs=1e-4)
    assert not np.isfinite(next(made).loss)
    assert ahead.explain_overflow(wild.batch) == standard.explain_overflow(wild.batch) != ""
    assert not list(made)
    assert len(losses) == 3
    for step in steps[:3]:
        alone.step(step.batch, rate=step.rate, seed=step.seed)
    same(ahead.state(), alone.state())
    for e in (standard, ahead, alone):
        e.close()


LARGE = """
network Large {
    input x: float32[N, 1000]
    output y = x -> dense(1000)
}
train Large {
    target t: int64[N]
    loss = cross_entropy(y, t)
    metric area = auc(y, t)
    optimizer = sgd(0.01)
}
"""


def test_batches_and_results_that_no_pipe_holds(engine: Path) -> None:
    """Neither process waits for the other to read."""
    job = job_of(LARGE)
    _, other = engines(job)
    batch = batch_of(job, 600)
    assert batch["x"].nbytes > 2 * WHOLE
    results = [kept(r) for r in other.steps(Step(batch, 0.01, number) for number in range(4))]
    assert len(results) == 4
    assert all(sum(a.nbytes for a in statistics.values()) > WHOLE for _, statistics in results)
    other.close()


def test_a_step_that_fails_lets_no_later_one_run(engine: Path) -> None:
    job = small()
    _, other = engines(job)
    good = batch_of(job)
    wrong = {**good, "label": np.full_like(good["label"], 99)}
    steps = [Step(good, 0.05, 0), Step(wrong, 0.05, 1), Step(good, 0.05, 2)]
    with pytest.raises(DiagnosticError, match="the engine onnxruntime-training: "):
        list(other.steps(steps))
    after_failure = dict(other.state())
    _, alone = engines(job)
    alone.step(good, rate=0.05, seed=0)
    same(after_failure, alone.state())
    assert np.isfinite(other.step(good, rate=0.05, seed=2).loss)
    other.close()
    alone.close()


def test_results_that_nobody_waited_for_are_not_taken_for_others(engine: Path) -> None:
    job = small(dropout=0.0)
    _, other = engines(job)
    batch = batch_of(job)
    left = other.steps(Step(batch, 0.0, number) for number in range(5))
    first = next(left).loss
    left.close()  # type: ignore[attr-defined]  # a generator's
    different = batch_of(job, seed=1)
    assert next(other.steps([Step(different, 0.0, 9)])).loss != first
    assert next(other.steps([Step(batch, 0.0, 9)])).loss == pytest.approx(first, rel=1e-5)
    other.close()
