"""Training steps of small programs, run by the NumPy rules or by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from netdsl.autodiff.step import NEXT, StateTensor, StepGraph, StepOptions, build_evaluation, build_step
from netdsl.elaborate import ElaboratedRecipe, elaborate_recipe
from netdsl.ir.graph import Graph, Parameter, Value
from netdsl.ir.types import NDArrayAny
from netdsl.onnx.export import to_proto
from netdsl.passes.log import RewriteLog
from netdsl.passes.pipelines import TRAINING, run_passes
from netdsl.runtime.interpret import interpret
from netdsl.runtime.session import Session
from netdsl.source import SourceFile
from netdsl.weights import WeightStore

Arrays = dict[str, NDArrayAny]


@cache
def recipe(source: str) -> ElaboratedRecipe:
    return elaborate_recipe(SourceFile("t.net", source))


def trainable(graph: Graph) -> frozenset[str]:
    return frozenset(p.name for p in graph.parameters if p.kind == "parameter" and p.trainable)


def results_of(made: ElaboratedRecipe) -> list[str]:
    return ["loss", *(s for m in made.recipe.metrics for s in m.statistics)]


def step_of(source: str, **options: Any) -> StepGraph:
    """The step of a program's recipe; `options` are those of `StepOptions` that differ."""
    made = recipe(source)
    optimizer = made.recipe.optimizer
    given = {"optimizer": optimizer.name, "arguments": optimizer.arguments, "trainable": trainable(made.graph)}
    return build_step(made.graph, StepOptions(**{**given, **options}), results_of(made))


def evaluation_of(source: str, **options: Any) -> StepGraph:
    made = recipe(source)
    return build_evaluation(made.graph, results_of(made), **options)


def initial(tensor: StateTensor, seed: int = 0) -> NDArrayAny:
    made = Parameter(Value(tensor.name, tensor.type), tensor.initial)
    return np.array(WeightStore([made], seed=seed).array(made))


@dataclass
class Runner:
    """Runs steps on one state. `runtime` true: by ONNX Runtime, after the passes; else by the NumPy rules."""

    runtime: bool = False
    opset: int = 21
    state: Arrays = field(default_factory=dict)
    sessions: dict[int, tuple[StepGraph, Session]] = field(default_factory=dict)

    def prepare(self, step: StepGraph) -> None:
        """Gives what the state lacks its first value."""
        for tensor in step.state:
            if tensor.name not in self.state:
                self.state[tensor.name] = initial(tensor)

    def run(
        self, step: StepGraph, batch: Mapping[str, Any], *, rate: float = 0.1, seed: int = 0, **more: Any
    ) -> Arrays:
        """The results of one step; the state moves on."""
        self.prepare(step)
        scalars = {"learning_rate": np.float32(rate), "seed": np.int64(seed)}
        scalars |= {name: np.float32(value) for name, value in more.items()}
        held = {t.name: self.state[t.name] for t in step.state}
        given = {n: np.asarray(a) for n, a in {**held, **scalars, **batch}.items()}
        names = {v.name for v in step.graph.inputs}
        outputs = self._outputs(step, {n: a for n, a in given.items() if n in names})
        self.state |= {n.removeprefix(NEXT): a for n, a in outputs.items() if n.startswith(NEXT)}
        return {n: a for n, a in outputs.items() if not n.startswith(NEXT)}

    def _outputs(self, step: StepGraph, given: Arrays) -> Arrays:
        if not self.runtime:
            return interpret(step.graph, given, WeightStore(()))
        if id(step) not in self.sessions:
            graph = run_passes(step.graph, TRAINING, RewriteLog(), check=True)
            model = to_proto(graph, WeightStore(()), opset=self.opset)
            self.sessions[id(step)] = step, Session(model.SerializeToString(), "cpu", threads=1)
        return self.sessions[id(step)][1].run(given)
