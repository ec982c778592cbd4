"""State that needs no second buffer: what is read only on the way to its next value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netdsl.autodiff.in_place import in_place_state
from netdsl.autodiff.step import NEXT
from netdsl.ir.recipe import OPTIMIZERS, OptimizerSpec
from netdsl.onnx.export import to_proto
from netdsl.passes.log import RewriteLog
from netdsl.passes.pipelines import TRAINING, run_passes
from netdsl.runtime.stepper import DeviceState, Stepper
from netdsl.weights import WeightStore
from tests.autodiff.stepping import Arrays, initial, step_of

PROGRAM = """
network T { input x: float32[N, 4]  output y = x -> dense(40) as a -> batch_norm as bn -> tanh -> dense(2) as b }
train T { target t: float32[N, 2]  loss = mse(y, t)  optimizer = sgd(0.1, momentum=0.9) }
"""
EXTRA: dict[str, dict[str, Any]] = {"sgd": {"momentum": 0.9}, "rmsprop": {"momentum": 0.5, "centered": True}}


@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.1}, {"loss_scaling": True}, {"phase": "last"}], ids=str)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_buffer_gives_the_same_bits_as_two(name: str, options: dict[str, Any]) -> None:
    spec = OptimizerSpec.of(name, EXTRA.get(name, {}))
    step = step_of(PROGRAM, optimizer=spec.name, arguments=spec.arguments, **options)
    graph = run_passes(step.graph, TRAINING, RewriteLog())
    once = in_place_state(graph, NEXT)
    weights = {s.name for s in step.state if s.kind == "parameter"}
    slots = {s.name for s in step.state if s.kind == "optimizer" and s.name.count("/") == 2}
    assert slots and slots <= once
    assert not once & weights and "loss_scale" not in once
    model = to_proto(graph, WeightStore(())).SerializeToString()
    changed = [o.name.removeprefix(NEXT) for o in graph.outputs if o.name.startswith(NEXT)]

    def trained(doubled: list[str]) -> Arrays:
        state = DeviceState({t.name: initial(t) for t in step.state}, doubled, "cpu")
        stepper = Stepper(model, state, step.results, threads=1)
        rng = np.random.default_rng(0)
        for number in range(5):
            batch = {"x": rng.normal(size=(8, 4)).astype("f"), "t": rng.normal(size=(8, 2)).astype("f")}
            if number == 3:
                batch["x"][0, 0] = np.inf if options.get("loss_scaling") else 1
            scalars = {"learning_rate": 0.1, "gradient_share": 1.0}
            batch |= {n: np.asarray(a, np.float32) for n, a in scalars.items()}
            stepper.run({**batch, "seed": np.asarray(number, np.int64)})
        return state.arrays()

    two, one = trained(changed), trained([n for n in changed if n not in once])
    for n, array in two.items():
        np.testing.assert_array_equal(one[n], array, err_msg=n)
