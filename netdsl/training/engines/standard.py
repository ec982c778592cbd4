"""The standard engine: the training step as one model of standard operators, run by any ONNX Runtime.

The weights and the optimizer's state stay on the device. A model is built when the first batch needs it: one for each
phase of a group of accumulated batches and each set of trained parameters, and one for evaluation.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from math import isfinite
from typing import Any, Literal, Protocol

import numpy as np

from netdsl.autodiff.step import step_counter
from netdsl.ir.graph import Graph
from netdsl.ir.opdef import Target
from netdsl.ir.recipe import Recipe
from netdsl.ir.types import NDArrayAny, TensorType
from netdsl.runtime.blocked_layout import channel_block
from netdsl.runtime.stepper import NEXT, DeviceState, Stepper
from netdsl.training.checkpoint import OPTIMIZER
from netdsl.training.engines.base import Phase, Step, StepResult
from netdsl.training.engines.overflow import OverflowSearch
from netdsl.training.freezing import trained_since
from netdsl.training.models import LOSS, RecipeModels, StepModel, initial_value, trainable_names
from netdsl.weights.sizes import static_shape


class HeldState(Protocol):
    """What the engine asks of a `DeviceState`, which may live in another process."""

    @property
    def device(self) -> Literal["cuda", "cpu"]: ...

    def __contains__(self, name: str) -> bool: ...

    def __iter__(self) -> Iterator[str]: ...

    def add(self, arrays: Mapping[str, NDArrayAny], changed: Iterable[str] = ()) -> None: ...

    def remove(self, names: Iterable[str]) -> None: ...

    def set(self, arrays: Mapping[str, NDArrayAny]) -> None: ...

    def arrays(self) -> dict[str, NDArrayAny]: ...

    def current(self, name: str) -> Any: ...

    def following(self, name: str) -> Any: ...


class Runner(Protocol):
    """What the engine asks of a `Stepper`."""

    @property
    def changed(self) -> tuple[str, ...]: ...

    def run(self, inputs: Mapping[str, NDArrayAny]) -> dict[str, NDArrayAny]: ...


class StandardEngine:
    """`graph` is the recipe's, `weights` holds an array for each of its parameters and buffers; `device` is "cpu",
    "cuda" or "auto", `threads` the number for one operator (default: ONNX Runtime's choice).

    Raises EnvironmentLack without ONNX Runtime or the device.
    """

    name = "standard"

    def __init__(
        self,
        recipe: Recipe,
        graph: Graph,
        weights: Mapping[str, NDArrayAny],
        *,
        device: str = "auto",
        threads: int | None = None,
    ) -> None:
        self.weights: dict[str, TensorType] = {p.name: p.value.type for p in graph.parameters}
        self.trainable = trainable_names(graph)
        self._state = self._open({name: weights[name] for name in self.weights}, device)
        self._models = self._models_for(recipe, graph, _target(self._state.device, threads))
        self._threads = threads
        self._trained: Mapping[str, int] = dict.fromkeys(self.trainable, 0)
        self._steppers: dict[str, Runner] = {}
        self._last: Runner | None = None
        #: state that was loaded and that no model has asked for yet
        self._waiting: dict[str, NDArrayAny] = {}
        self._prepared: dict[Phase, tuple[Mapping[str, int], StepModel]] = {}

    def prepare(self) -> None:
        """Builds the step that ends a group in the first epoch, before anything of a run is written. Raises
        DiagnosticError where an operator has no gradient."""
        recipe = self._models.recipe
        trained = trained_since(recipe, self.trainable, 0)
        phase: Phase = "only" if recipe.accumulate == 1 else "last"
        self._prepared[phase] = trained, self._models.step(trained, phase)

    def _open(self, arrays: Mapping[str, NDArrayAny], device: str) -> HeldState:
        return DeviceState(arrays, device=device)

    def _models_for(self, recipe: Recipe, graph: Graph, target: Target) -> RecipeModels:
        block = channel_block() if target.device == "cpu" else 0  # of this process's ONNX Runtime, which runs them
        return RecipeModels(recipe, graph, replace(target, block=block))

    @property
    def device(self) -> str:
        """Where the models run: "cpu" or "cuda"."""
        return self._state.device

    def steps(self, steps: Iterable[Step]) -> Iterator[StepResult]:
        for step in steps:
            self._last = self._steppers.get(step.phase) or self._built(step.phase)
            result = step_result(self._last.run(step_inputs(step)))
            yield result
            if not isfinite(result.loss):
                return

    def step(
        self, batch: Mapping[str, NDArrayAny], *, rate: float, seed: int, phase: Phase = "only", share: float = 1.0
    ) -> StepResult:
        """One step alone."""
        return next(iter(self.steps([Step(batch, rate, seed, phase, share)])))

    def evaluate(self, batch: Mapping[str, NDArrayAny]) -> StepResult:
        stepper = self._steppers.get("evaluation")
        if stepper is None:
            stepper = self._steppers["evaluation"] = self._stepper(self._models.evaluation(), alone=False)
        return step_result(stepper.run(batch))

    def _built(self, phase: Phase) -> Runner:
        """The stepper of a phase; the state that it needs and that is not there yet begins here."""
        trained, prepared = self._prepared.pop(phase, ({}, None))
        model = prepared if prepared and trained == self._trained else self._models.step(self._trained, phase)
        new = {s.name: s for s in model.step.state if s.name not in self._state}
        arrays = {name: self._waiting.pop(name, None) for name in new}
        begun = {name: initial_value(new[name]) if array is None else array for name, array in arrays.items()}
        outputs = (o.name for o in model.graph.outputs)
        changed = [name.removeprefix(NEXT) for name in outputs if name.startswith(NEXT)]
        begun |= {n: self._unread(n, model) for n in changed if n not in begun and n not in self._state}
        self._state.add(begun, [name for name in changed if name not in model.in_place])
        stepper = self._steppers[phase] = self._stepper(model, alone=phase == "only")
        return stepper

    def _unread(self, name: str, model: StepModel) -> NDArrayAny:
        """State that a model only writes: the first part of a group begins the accumulated gradients."""
        value = next(o.value for o in model.graph.outputs if o.name == NEXT + name)
        waiting = self._waiting.pop(name, None)
        return np.zeros(static_shape(value.type), value.dtype.numpy) if waiting is None else waiting

    def _stepper(self, model: StepModel, *, alone: bool) -> Runner:
        assert isinstance(self._state, DeviceState)
        results = [o.name for o in model.graph.outputs if not o.name.startswith(NEXT)]
        return Stepper(model.proto.SerializeToString(), self._state, results, self._threads, spinning=alone)

    def state(self) -> Mapping[str, NDArrayAny]:
        held = self._state.arrays() | self._waiting
        others = sorted(held.keys() - self.weights.keys())  # not in the order in which models were built
        return {name: held[name] for name in (*self.weights, *others)}

    def load(self, state: Mapping[str, NDArrayAny]) -> None:
        self._forget_all(self._others())
        self._state.set({name: state[name] for name in self.weights})
        fitting = {name: a for name, a in state.items() if self._belongs(name)}
        self._waiting = {name: np.array(a) for name, a in fitting.items() if self._counted(name, state)}

    def rebuild(self, trained: Mapping[str, int]) -> None:
        self._trained = {name: epoch for name, epoch in trained.items() if self._trained.get(name) == epoch}
        self._forget_all([name for name in self._others() if not self._belongs(name)])
        self._waiting = {name: array for name, array in self._waiting.items() if self._belongs(name)}
        self._trained = dict(trained)

    def _others(self) -> list[str]:
        """The state that is no weight."""
        return [name for name in self._state if name not in self.weights]

    def _belongs(self, name: str) -> bool:
        """Whether a tensor is no weight, and of use for what is trained now."""
        owner = _owner(name)
        if owner:
            return owner in self._trained
        if name.startswith(OPTIMIZER):
            return name in map(step_counter, self._trained.values())
        return name not in self.weights

    def _counted(self, name: str, state: Mapping[str, NDArrayAny]) -> bool:
        """Whether a state has the count that belongs to a weight's moments. Those of a run that unfroze the weight in
        another epoch begin anew, with their count."""
        owner = _owner(name) if name.startswith(OPTIMIZER) else ""
        return not owner or step_counter(self._trained[owner]) in state

    def _forget_all(self, names: Iterable[str]) -> None:
        """Drops state, and with it the steps, which hold its buffers."""
        evaluation = self._steppers.get("evaluation")
        self._steppers = {} if evaluation is None else {"evaluation": evaluation}
        self._last = None
        self._state.remove(names)

    def explain_overflow(self, batch: Mapping[str, NDArrayAny]) -> str:
        before = self._last.changed if self._last else ()
        weights = {name: self._weight(name, before=name in before) for name in self.weights}
        models = replace(self._models, target=Target(self._state.device, 1))
        return OverflowSearch(models, frozenset(self._trained), self._state.device).explain(batch, weights)

    def _weight(self, name: str, *, before: bool) -> NDArrayAny:
        """A weight as it is, or as it was before the last step: its other buffer still holds that."""
        value = self._state.following(name) if before else self._state.current(name)
        array: NDArrayAny = value.numpy()
        return array

    def close(self) -> None:
        self._forget_all(list(self._state))
        self._steppers = {}


def _owner(name: str) -> str:
    """The weight that a tensor of the state belongs to, `optimizer/WEIGHT/…` or `accumulated/WEIGHT`; empty for one of
    no one weight."""
    family, _, rest = name.partition("/")
    if family == "accumulated":
        return rest
    return rest.partition("/")[0] if family == "optimizer" and "/" in rest else ""


def step_inputs(step: Step) -> dict[str, NDArrayAny]:
    """What the model of a step is given, besides the state."""
    return {
        **step.batch,
        "learning_rate": np.asarray(step.rate, np.float32),
        "seed": np.asarray(step.seed, np.int64),
        "gradient_share": np.asarray(step.share, np.float32),
    }


def step_result(values: dict[str, NDArrayAny]) -> StepResult:
    """The results of a model of the recipe."""
    return StepResult(float(values.pop(LOSS)), values)


def _target(device: Literal["cpu", "cuda"], threads: int | None) -> Target:
    """What the engine's sessions run on; it starts their threads itself where their number is given."""
    return Target(device, threads or os.cpu_count() or 1, certain=threads is not None)
