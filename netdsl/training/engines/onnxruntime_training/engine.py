"""The engine onnxruntime-training: the standard engine's state machine around models that another process runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import isfinite

from netdsl.diagnostics import DiagnosticError, error
from netdsl.ir.graph import Graph
from netdsl.ir.opdef import Target
from netdsl.ir.recipe import Recipe
from netdsl.ir.types import DType, NDArrayAny
from netdsl.runtime.session import EnvironmentLack
from netdsl.training.engines.base import Step, StepResult
from netdsl.training.engines.onnxruntime_training.environment import INSTALL, find_python
from netdsl.training.engines.onnxruntime_training.models import EngineModels
from netdsl.training.engines.onnxruntime_training.process import EngineProcess
from netdsl.training.engines.onnxruntime_training.remote import RemoteState, RemoteStepper
from netdsl.training.engines.onnxruntime_training.wire import blob
from netdsl.training.engines.standard import HeldState, Runner, StandardEngine, step_inputs, step_result
from netdsl.training.models import LOSS, RecipeModels, StepModel, trainable_names

NAME = "onnxruntime-training"


class OrtTrainingEngine(StandardEngine):
    """As `StandardEngine`, with the gradients of onnxruntime-training, in a process of its own that ends with this one.

    Raises DiagnosticError, before anything is trained, for what the engine cannot do; EnvironmentLack where it is not
    installed, its environment is broken or it lacks the device.
    """

    name = NAME

    def __init__(
        self,
        recipe: Recipe,
        graph: Graph,
        weights: Mapping[str, NDArrayAny],
        *,
        device: str = "auto",
        threads: int | None = None,
    ) -> None:
        check_recipe(recipe, graph)
        self.process = EngineProcess(find_python(device), f"{INSTALL} makes it anew")
        try:
            super().__init__(recipe, graph, weights, device=device, threads=threads)
        except BaseException:
            self.process.close()
            raise

    def _open(self, arrays: Mapping[str, NDArrayAny], device: str) -> HeldState:
        return RemoteState(self.process, arrays, device)

    def _models_for(self, recipe: Recipe, graph: Graph, target: Target) -> RecipeModels:
        return EngineModels(recipe, graph, target, differentiate=self._differentiate)

    def _differentiate(self, model: bytes, trained: Sequence[str]) -> bytes:
        return self.process.ask("gradients", {"model": blob(model)}, trained=list(trained)).blob("model")

    def _stepper(self, model: StepModel, *, alone: bool) -> Runner:
        assert isinstance(self._state, RemoteState)
        results = list(model.step.results)
        return RemoteStepper(model.proto.SerializeToString(), self._state, results, self._threads, spinning=alone)

    def steps(self, steps: Iterable[Step]) -> Iterator[StepResult]:
        """Each step is sent before the result of the one before is read: the process never waits for this one."""
        self.process.forget()  # what a caller left that did not wait for the end
        last: RemoteStepper | None = None
        for step in steps:
            stepper = self._steppers.get(step.phase) or self._built(step.phase)
            assert isinstance(stepper, RemoteStepper)
            if last is None:
                stepper.submit(step_inputs(step))
            else:
                stepper.submit(step_inputs(step), after=LOSS)
                result = self._collected(last)
                yield result
                if not isfinite(result.loss):
                    return
            last = stepper
        if last is not None:
            yield self._collected(last)

    def _collected(self, stepper: RemoteStepper) -> StepResult:
        self._last = stepper
        return step_result(stepper.collect())

    def explain_overflow(self, batch: Mapping[str, NDArrayAny]) -> str:
        try:
            return super().explain_overflow(batch)
        except EnvironmentLack:  # the search runs here, where there may be no ONNX Runtime
            return ""

    def close(self) -> None:
        self.process.close()
        self._steppers = {}


def check_recipe(recipe: Recipe, graph: Graph) -> None:
    """Raises DiagnosticError for what the engine cannot do, all of it together where it is operators."""
    wrong = _lacking(recipe, graph)
    if wrong:
        place = recipe.place
        message = f"the engine onnxruntime-training does not have {wrong}"
        span, path = (place.span, place.path) if place else (None, "")
        help = "train with --engine standard, which has it, or leave it out"
        raise DiagnosticError([error("engine-lacks-setting", message, span, path=path, help=help)])
    EngineModels(recipe, graph).forward(frozenset(trainable_names(graph)))


def _lacking(recipe: Recipe, graph: Graph) -> str:
    """What of a recipe the engine does not have; empty where it has all."""
    if recipe.precision != "float32":
        return f"precision = {recipe.precision}"
    if recipe.recompute:
        return "recompute"
    floats = (p for p in graph.parameters if p.value.dtype.is_float)
    other = next((p for p in floats if p.value.dtype is not DType.float32), None)
    return f"{other.value.dtype} parameters, as {other.name} is" if other else ""
