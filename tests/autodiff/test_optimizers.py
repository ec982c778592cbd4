"""Every optimizer, its state included, against PyTorch's definitions: written out in NumPy, and by PyTorch itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netdsl.autodiff.step import (
    DIRECTION,
    GRADIENT,
    NEXT,
    StepGraph,
    StepOptions,
    build_directions,
    build_update,
)
from netdsl.ir.recipe import OPTIMIZERS as SIGNATURES
from netdsl.ir.recipe import OptimizerSpec
from netdsl.ir.types import NDArrayAny
from netdsl.runtime.interpret import interpret
from netdsl.weights import WeightStore
from tests.autodiff.stepping import Arrays, Runner, initial, recipe, step_of

PROGRAM = """
network T {
    input x: float32[N, 4]
    output y = x -> dense(3) as a -> tanh -> dense(2) as b
}
train T { target t: float32[N, 2]  loss = mse(y, t)  optimizer = sgd(0.1) }
"""

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("sgd", {}),
    "sgd decay": ("sgd", {"weight_decay": 0.1}),
    "momentum": ("sgd", {"momentum": 0.9, "weight_decay": 0.01}),
    "nesterov": ("sgd", {"momentum": 0.8, "nesterov": True, "weight_decay": 0.01}),
    "adagrad": ("adagrad", {}),
    "adagrad all": (
        "adagrad",
        {"lr_decay": 0.1, "weight_decay": 0.01, "initial_accumulator_value": 0.3, "eps": 1e-3},
    ),
    "adadelta": ("adadelta", {}),
    "adadelta all": ("adadelta", {"rho": 0.7, "eps": 1e-3, "weight_decay": 0.01}),
    "rmsprop": ("rmsprop", {}),
    "rmsprop momentum": ("rmsprop", {"alpha": 0.8, "momentum": 0.7, "weight_decay": 0.01, "eps": 1e-4}),
    "rmsprop centered": ("rmsprop", {"centered": True, "alpha": 0.9}),
    "rmsprop all": ("rmsprop", {"centered": True, "momentum": 0.5, "weight_decay": 0.02}),
    "adam": ("adam", {}),
    "adam all": ("adam", {"betas": (0.7, 0.95), "eps": 1e-4, "weight_decay": 0.05}),
    "adamw": ("adamw", {}),
    "adamw all": ("adamw", {"betas": (0.6, 0.9), "eps": 1e-5, "weight_decay": 0.2}),
    "adamw no decay": ("adamw", {"weight_decay": 0.0}),
}
STEPS = 6
UNFREEZE = 3  # the step from which on all weights are trained, where the first layer is frozen before
WEIGHTS = ("a.weight", "a.bias", "b.weight", "b.bias")


def batches() -> list[Arrays]:
    rng = np.random.default_rng(0)
    return [{"x": rng.normal(size=(5, 4)).astype("f"), "t": rng.normal(size=(5, 2)).astype("f")} for _ in range(STEPS)]


def trained(case: str, runtime: bool) -> tuple[list[Arrays], list[float]]:
    """The state before the first and after each step, and the losses."""
    name, given = CASES[case]
    spec = OptimizerSpec.of(name, given)
    step = step_of(PROGRAM, optimizer=spec.name, arguments=spec.arguments)
    runner, states, losses = Runner(runtime), [], []
    runner.prepare(step)
    states.append(dict(runner.state))
    for number, batch in enumerate(batches()):
        losses.append(float(runner.run(step, batch, rate=rate_of(number))["loss"]))
        states.append(dict(runner.state))
    return states, losses


def rate_of(step: int) -> float:
    """Another one in each step: the rate is an input."""
    return 0.05 / (1 + step)


def test_all_are_covered() -> None:
    assert {name for name, _ in CASES.values()} == set(SIGNATURES)


def gradients_of(state: Arrays, batch: Arrays) -> Arrays:
    """Of the program's loss, by hand, in float64."""
    w = {n: state[n].astype(np.float64) for n in WEIGHTS}
    x, t = (batch[n].astype(np.float64) for n in "xt")
    h = np.tanh(x @ w["a.weight"].T + w["a.bias"])
    dy = 2 * (h @ w["b.weight"].T + w["b.bias"] - t) / t.size
    dh = (dy @ w["b.weight"]) * (1 - h * h)
    return {"a.weight": dh.T @ x, "a.bias": dh.sum(0), "b.weight": dy.T @ h, "b.bias": dy.sum(0)}


class Reference:
    """torch.optim's update formulas, one parameter at a time."""

    def __init__(self, name: str, given: dict[str, Any]) -> None:
        spec = OptimizerSpec.of(name, given)
        self.rule, self.o = getattr(self, name), spec.arguments
        self.state: dict[str, NDArrayAny] = {}

    def __call__(self, w: Any, g: Any, lr: float, t: int) -> Any:
        if t == 1:
            first = float(self.o.get("initial_accumulator_value", 0.0))
            self.s: dict[str, Any] = {"sum": np.full_like(w, first)}
        if self.rule != self.adamw:
            g = g + self.o["weight_decay"] * w
        return self.rule(w, g, lr, t)

    def kept(self, name: str, w: Any) -> Any:
        return self.s.get(name, np.zeros_like(w))

    def sgd(self, w: Any, g: Any, lr: float, t: int) -> Any:
        mu = self.o["momentum"]
        if not mu:
            return w - lr * g
        buffer = g if t == 1 else mu * self.s["momentum"] + g
        self.s["momentum"] = buffer
        return w - lr * (g + mu * buffer if self.o["nesterov"] else buffer)

    def adagrad(self, w: Any, g: Any, lr: float, t: int) -> Any:
        self.s["sum"] = self.s["sum"] + g * g
        return w - lr / (1 + (t - 1) * self.o["lr_decay"]) * g / (np.sqrt(self.s["sum"]) + self.o["eps"])

    def adadelta(self, w: Any, g: Any, lr: float, t: int) -> Any:
        rho, eps = self.o["rho"], self.o["eps"]
        square = rho * self.kept("square_avg", w) + (1 - rho) * g * g
        delta = np.sqrt(self.kept("acc_delta", w) + eps) / np.sqrt(square + eps) * g
        self.s |= {"square_avg": square, "acc_delta": rho * self.kept("acc_delta", w) + (1 - rho) * delta**2}
        return w - lr * delta

    def rmsprop(self, w: Any, g: Any, lr: float, t: int) -> Any:
        alpha = self.o["alpha"]
        square = alpha * self.kept("square_avg", w) + (1 - alpha) * g * g
        self.s["square_avg"] = spread = square
        if self.o["centered"]:
            mean = alpha * self.kept("grad_avg", w) + (1 - alpha) * g
            self.s["grad_avg"], spread = mean, square - mean**2
        direction = g / (np.sqrt(spread) + self.o["eps"])
        if self.o["momentum"]:
            direction = self.o["momentum"] * self.kept("momentum_buffer", w) + direction
            self.s["momentum_buffer"] = direction
        return w - lr * direction

    def adam(self, w: Any, g: Any, lr: float, t: int) -> Any:
        beta1, beta2 = self.o["beta1"], self.o["beta2"]
        mean = beta1 * self.kept("exp_avg", w) + (1 - beta1) * g
        square = beta2 * self.kept("exp_avg_sq", w) + (1 - beta2) * g * g
        self.s |= {"exp_avg": mean, "exp_avg_sq": square}
        unbiased = np.sqrt(square) / np.sqrt(1 - beta2**t)
        return w - lr / (1 - beta1**t) * mean / (unbiased + self.o["eps"])

    def adamw(self, w: Any, g: Any, lr: float, t: int) -> Any:
        return self.adam(w * (1 - lr * self.o["weight_decay"]), g, lr, t)


@pytest.mark.parametrize("runtime", [False, True], ids=["numpy", "onnxruntime"])
@pytest.mark.parametrize("case", CASES)
def test_steps_are_those_of_the_definition(case: str, runtime: bool) -> None:
    states, _ = trained(case, runtime)
    references = {name: Reference(*CASES[case]) for name in WEIGHTS}
    expected = {name: states[0][name].astype(np.float64) for name in WEIGHTS}
    for number, batch in enumerate(batches()):
        gradients = gradients_of(expected, batch)
        for name, reference in references.items():
            expected[name] = reference(expected[name], gradients[name], rate_of(number), number + 1)
        found = states[number + 1]
        for name, reference in references.items():
            np.testing.assert_allclose(found[name], expected[name], rtol=2e-5, atol=2e-6, err_msg=f"{name} {number}")
            for kind, array in reference.s.items():
                if (held := f"optimizer/{name}/{kind}") in found:
                    np.testing.assert_allclose(found[held], array, rtol=1e-4, atol=1e-6, err_msg=held)
        assert found["optimizer/step"] == number + 1
    held = {n for n in states[0] if n.startswith("optimizer/") and n != "optimizer/step"}
    used = {"sum"} if CASES[case][0] == "adagrad" else set(reference.s) - {"sum"}
    assert held == {f"optimizer/{name}/{kind}" for name in WEIGHTS for kind in used}


TORCH = {
    "sgd": "SGD",
    "adagrad": "Adagrad",
    "adadelta": "Adadelta",
    "rmsprop": "RMSprop",
    "adam": "Adam",
    "adamw": "AdamW",
}
#: PyTorch's names of the state where they are not ours.
TORCH_STATE = {"momentum": "momentum_buffer"}


@pytest.mark.torch
@pytest.mark.parametrize("case", CASES)
def test_state_and_result_are_pytorchs(case: str) -> None:
    torch = pytest.importorskip("torch")
    states, losses = trained(case, runtime=True)
    name, given = CASES[case]
    w = {n: torch.nn.Parameter(torch.from_numpy(states[0][n].copy())) for n in WEIGHTS}
    optimizer = getattr(torch.optim, TORCH[name])(list(w.values()), lr=1.0, **given)
    for number, (batch, loss) in enumerate(zip(batches(), losses, strict=True)):
        x, t = (torch.from_numpy(batch[n]) for n in "xt")
        y = torch.tanh(x @ w["a.weight"].T + w["a.bias"]) @ w["b.weight"].T + w["b.bias"]
        expected = torch.nn.functional.mse_loss(y, t)
        assert abs(expected.item() - loss) < 1e-5
        optimizer.param_groups[0]["lr"] = rate_of(number)
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
        for n, parameter in w.items():
            np.testing.assert_allclose(states[number + 1][n], parameter.detach().numpy(), rtol=2e-5, atol=2e-6)
    for n, parameter in w.items():
        kept = optimizer.state[parameter]
        prefix = f"optimizer/{n}/"
        for held in [h for h in states[-1] if h.startswith(prefix)]:
            kind = held.removeprefix(prefix)
            theirs = kept[TORCH_STATE.get(kind, kind) if name == "sgd" else kind]
            np.testing.assert_allclose(states[-1][held], theirs.numpy(), rtol=1e-4, atol=1e-6, err_msg=held)


LATE = {"a.weight": 1, "a.bias": 1}


def unfrozen(case: str) -> tuple[list[Arrays], list[StepGraph]]:
    """The state before the first and after each step, where the first layer is frozen in the first three steps."""
    name, given = CASES[case]
    spec = OptimizerSpec.of(name, given)
    options = {"optimizer": spec.name, "arguments": spec.arguments}
    head = step_of(PROGRAM, **options, trainable=frozenset(WEIGHTS) - LATE.keys())
    whole = step_of(PROGRAM, **options, late=LATE)
    runner = Runner()
    runner.prepare(whole)
    states = [dict(runner.state)]
    for number, batch in enumerate(batches()):
        runner.run(head if number < UNFREEZE else whole, batch, rate=rate_of(number))
        states.append(dict(runner.state))
    return states, [head, whole]


@pytest.mark.parametrize("case", ["momentum", "adam", "adamw all", "adagrad all"])
def test_what_is_unfrozen_late_counts_its_own_steps(case: str) -> None:
    states, _ = unfrozen(case)
    references = {name: Reference(*CASES[case]) for name in WEIGHTS}
    expected = {name: states[0][name].astype(np.float64) for name in WEIGHTS}
    for number, batch in enumerate(batches()):
        gradients = gradients_of(expected, batch)
        for name, reference in references.items():
            t = number + 1 - (UNFREEZE if name in LATE else 0)
            if t > 0:
                expected[name] = reference(expected[name], gradients[name], rate_of(number), t)
        for name in WEIGHTS:
            np.testing.assert_allclose(states[number + 1][name], expected[name], rtol=2e-5, atol=2e-6, err_msg=name)
    assert states[-1]["optimizer/step"] == STEPS
    assert states[-1]["optimizer/step_since_epoch_1"] == STEPS - UNFREEZE


def test_weights_that_begin_together_share_their_count() -> None:
    _, (head, whole) = unfrozen("adam")
    counts = [{s.name for s in step.state if s.type.rank == 0} for step in (head, whole)]
    assert counts == [{"optimizer/step"}, {"optimizer/step", "optimizer/step_since_epoch_1"}]


@pytest.mark.torch
@pytest.mark.parametrize(
    "case", ["momentum", "nesterov", "adam all", "adamw", "adagrad all", "adadelta", "rmsprop all"]
)
def test_late_unfreezing_is_pytorchs(case: str) -> None:
    torch = pytest.importorskip("torch")
    states, _ = unfrozen(case)
    name, given = CASES[case]
    w = {n: torch.nn.Parameter(torch.from_numpy(states[0][n].copy())) for n in WEIGHTS}
    optimizer = getattr(torch.optim, TORCH[name])(list(w.values()), lr=1.0, **given)
    for number, batch in enumerate(batches()):
        for n in LATE:
            w[n].requires_grad_(number >= UNFREEZE)
        x, t = (torch.from_numpy(batch[n]) for n in "xt")
        y = torch.tanh(x @ w["a.weight"].T + w["a.bias"]) @ w["b.weight"].T + w["b.bias"]
        optimizer.param_groups[0]["lr"] = rate_of(number)
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(y, t).backward()
        optimizer.step()
        for n, parameter in w.items():
            np.testing.assert_allclose(states[number + 1][n], parameter.detach().numpy(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("case", [c for c in CASES if CASES[c][0] != "adamw"])
def test_a_direction_times_the_rate_is_the_update(case: str) -> None:
    name, given = CASES[case]
    spec = OptimizerSpec.of(name, given)
    graph, rng = recipe(PROGRAM).graph, np.random.default_rng(0)
    options = StepOptions(spec.name, spec.arguments, frozenset(WEIGHTS), clip_norm=0.5)
    update, directions = (make(graph, options, WEIGHTS) for make in (build_update, build_directions))
    assert [s.name for s in update.state] == [s.name for s in directions.state]
    arrays: Arrays = {s.name: np.abs(initial(s)) + np.float32(0.5) for s in update.state}
    arrays |= {f"{GRADIENT}{n}": rng.normal(size=arrays[n].shape).astype("f") for n in WEIGHTS}
    arrays["learning_rate"] = np.asarray(0.25, "f")
    moved, found = (
        interpret(s.graph, {v.name: arrays[v.name] for v in s.graph.inputs}, WeightStore(()))
        for s in (update, directions)
    )
    for n in WEIGHTS:
        expected = arrays[n] - np.float32(0.25) * found[DIRECTION + n]
        np.testing.assert_allclose(expected, moved[NEXT + n], rtol=1e-5, atol=1e-6)
    held = [n for n in moved if n.startswith(f"{NEXT}optimizer/")]
    assert held
    for n in held:
        np.testing.assert_array_equal(found[n], moved[n])
