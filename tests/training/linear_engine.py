"""An engine small enough to be checked by eye: linear regression with momentum, in NumPy.

Run as a program it trains in the folder that it is given, for the tests that kill it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from math import isfinite
from pathlib import Path

import numpy as np

from netdsl.ir.dims import symbol
from netdsl.ir.recipe import METRICS, MetricSpec, OptimizerSpec, Recipe, ScheduleSpec
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.training.data import Dataset, Wanted, open_data, split
from netdsl.training.engines.base import Phase, Step, StepResult
from netdsl.training.loop import Trainer
from netdsl.training.run_folder import RunFolder

FEATURES = 5
N = symbol("N")
TYPES = {"x": TensorType(DType.float32, (N, FEATURES)), "y": TensorType(DType.float32, (N,))}
MSE = MetricSpec.of("error", "mse")


class LinearEngine:
    """y = x w + b. `noise` is added to x by the step's seed, as dropout would; `calls` counts the training steps, of
    which `ahead` are made before the first one's result is given."""

    name = "linear"

    def __init__(self, *, noise: float = 0.0, momentum: float = 0.9, ahead: int = 0) -> None:
        self.weights = {
            "layer.weight": TensorType(DType.float32, (FEATURES,)),
            "layer.bias": TensorType(DType.float32, ()),
        }
        self.trainable = tuple(self.weights)
        self.noise, self.momentum, self.ahead = noise, momentum, ahead
        self.held: dict[str, NDArrayAny] = {n: np.zeros(t.shape, np.float32) for n, t in self.weights.items()}
        self.calls: list[tuple[float, int, Phase, float]] = []
        self.rebuild(dict.fromkeys(self.trainable, 0))

    def steps(self, steps: Iterable[Step]) -> Iterator[StepResult]:
        waiting: deque[StepResult] = deque()
        for step in steps:
            waiting.append(self.step(step.batch, rate=step.rate, seed=step.seed, phase=step.phase, share=step.share))
            if not isfinite(waiting[-1].loss):
                break
            if len(waiting) > self.ahead:
                yield waiting.popleft()
        yield from waiting

    def step(
        self, batch: Mapping[str, NDArrayAny], *, rate: float, seed: int, phase: Phase = "only", share: float = 1.0
    ) -> StepResult:
        self.calls.append((rate, seed, phase, share))
        x = batch["x"] + np.random.default_rng(seed).normal(0, self.noise, batch["x"].shape).astype(np.float32)
        error, result = self._forward(x, batch["y"])
        gradients = {
            "layer.weight": (2 * error @ x / len(error)).astype(np.float32),
            "layer.bias": np.float32(2 * error.mean()),
        }
        for name in self.trained:
            total = self.held.pop(f"accumulated/{name}", np.zeros((), np.float32)) + gradients[name] * np.float32(share)
            if phase in ("first", "middle"):
                self.held[f"accumulated/{name}"] = np.asarray(total, np.float32)
            else:
                buffer = self.held[f"optimizer/{name}/momentum"] * np.float32(self.momentum) + total
                self.held[f"optimizer/{name}/momentum"] = np.asarray(buffer, np.float32)
                self.held[name] = np.asarray(self.held[name] - np.float32(rate) * buffer, np.float32)
        return result

    def evaluate(self, batch: Mapping[str, NDArrayAny]) -> StepResult:
        return self._forward(batch["x"], batch["y"])[1]

    def _forward(self, x: NDArrayAny, y: NDArrayAny) -> tuple[NDArrayAny, StepResult]:
        error = x @ self.held["layer.weight"] + self.held["layer.bias"] - y
        squares = np.asarray((error.astype(np.float64) ** 2).sum())
        count = np.asarray(error.size, np.float32)
        return error, StepResult(float(squares) / error.size, {"error/sum": squares, "error/count": count})

    def state(self) -> Mapping[str, NDArrayAny]:
        return dict(self.held)

    def load(self, state: Mapping[str, NDArrayAny]) -> None:
        for name in [n for n in self.held if n.startswith("accumulated/")]:
            del self.held[name]
        for name, array in state.items():
            if name in self.held or name.startswith("accumulated/"):
                self.held[name] = array

    def rebuild(self, trained: Mapping[str, int]) -> None:
        self.trained = [name for name in self.trainable if name in trained]
        states = {f"optimizer/{name}/momentum": name for name in self.trained}
        self.held = {n: a for n, a in self.held.items() if n in self.weights or n in states}
        for state, name in states.items():
            self.held.setdefault(state, np.zeros(self.weights[name].shape, np.float32))

    def explain_overflow(self, batch: Mapping[str, NDArrayAny]) -> str:
        return "layer: its output is not finite"

    def close(self) -> None: ...


def recipe(**changes: object) -> Recipe:
    values: dict[str, object] = {
        "network": "Linear",
        "targets": {"y": TYPES["y"]},
        "optimizer": OptimizerSpec.of("sgd", {"lr": 0.02, "momentum": 0.9}),
        "metrics": (MSE,),
        "epochs": 4,
        "batch": 8,
        "seed": 3,
    }
    return Recipe(**(values | changes))  # type: ignore[arg-type]


def write_data(folder: Path, items: int = 61) -> Path:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(items, FEATURES)).astype(np.float32)
    y = x @ np.arange(1, FEATURES + 1) + 0.5 + rng.normal(0, 0.1, items)
    path = folder / "data.npz"
    np.savez(path, x=x, y=y.astype(np.float32))
    return path


def data(path: Path) -> tuple[Dataset, Dataset]:
    return split(open_data(path, Wanted(TYPES, frozenset({"y"}))), 0.2, 3)


KILLABLE = recipe(
    schedule=ScheduleSpec.of("one_cycle", {"warmup": 0.1}),
    accumulate=2,
    metrics=(MSE, MetricSpec("last", "scalar", ("error/sum",))),
)
assert METRICS["mse"].statistics == ("sum", "count")


class _Killed(LinearEngine):
    """Ends the process, as a power cut would, at one of its steps."""

    def __init__(self, at: int) -> None:
        super().__init__(noise=0.1)
        self.at = at

    def step(
        self, batch: Mapping[str, NDArrayAny], *, rate: float, seed: int, phase: Phase = "only", share: float = 1.0
    ) -> StepResult:
        if len(self.calls) == self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(batch, rate=rate, seed=seed, phase=phase, share=share)


def main(folder: Path, kill_at: int, resume: bool) -> None:
    train, validation = data(folder / "data.npz")
    checkpoint = folder / "model.safetensors"
    run = RunFolder.beside(checkpoint)
    trainer = Trainer(KILLABLE, _Killed(kill_at), train, validation, checkpoint=checkpoint, folder=run, save_every=0.0)
    if resume:
        trainer.resume()
    run.begin("", {}, epochs_done=trainer.progress.epoch)
    trainer.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "resume")
