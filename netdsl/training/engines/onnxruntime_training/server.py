"""What the engine's process does: gradients by onnxruntime-training, sessions on state that stays here, artefacts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np
import onnxruntime

from netdsl.diagnostics import DiagnosticError
from netdsl.ir.types import NDArrayAny
from netdsl.runtime.session import EnvironmentLack
from netdsl.runtime.stepper import DeviceState, Stepper
from netdsl.training.engines.onnxruntime_training.wire import Closed, Message, blob, receive, send


class Server:
    """Each public method is a request: it takes the message and gives the answer."""

    def __init__(self) -> None:
        self._state = DeviceState({}, device="cpu")
        self._steppers: dict[str, Stepper] = {}
        self._results: Mapping[str, NDArrayAny] = {}  # of the last run, if it went well

    def hello(self, message: Message) -> Message:
        """What runs here: versions, and which devices it has."""
        training = hasattr(onnxruntime.capi._pybind_state, "GradientGraphBuilder")
        return Message(
            {
                "training": training,
                "onnxruntime": onnxruntime.__version__,
                "python": sys.version.split()[0],
                "numpy": np.__version__,
                "providers": onnxruntime.get_available_providers(),
            }
        )

    def gradients(self, message: Message) -> Message:
        """The model with the gradients of its output `loss`: `NAME_grad` for each name of `trained`."""
        from onnxruntime.capi._pybind_state import GradientGraphBuilder, get_optimized_model

        trained, options = set(message.about["trained"]), onnxruntime.SessionOptions()
        options.log_severity_level = 3
        optimised = get_optimized_model(message.blob("model"), trained, options)
        builder = GradientGraphBuilder(optimised, {"loss"}, trained, "loss", options)
        builder.build()
        return Message({}, {"model": blob(builder.get_model())})

    def begin(self, message: Message) -> Message:
        """Empty state on a device."""
        self._steppers.clear()
        self._state = _empty(message.about["device"])
        return Message({"device": self._state.device})

    def add(self, message: Message) -> Message:
        """New tensors of the state, and second buffers for those that models change."""
        self._state.add(message.arrays, message.about["changed"])
        return Message({})

    def remove(self, message: Message) -> Message:
        """Forgets tensors, and with them the models."""
        for key in message.about["models"]:
            self._steppers.pop(key, None)
        self._state.remove(message.about["names"])
        return Message({})

    def set(self, message: Message) -> Message:
        """Overwrites tensors."""
        self._state.set(message.arrays)
        return Message({})

    def get(self, message: Message) -> Message:
        """Current tensors; of the names in `before`, those of before the last change."""
        if "before" not in message.about:
            return Message({}, self._state.arrays())
        before = set(message.about["before"])
        values = {
            n: self._state.following(n) if n in before else self._state.current(n) for n in message.about["names"]
        }
        return Message({}, {name: np.array(value.numpy()) for name, value in values.items()})

    def load(self, message: Message) -> Message:
        """A model by a key of the caller's."""
        about = message.about
        stepper = Stepper(
            message.blob("model"), self._state, about["results"], about["threads"], spinning=about["spinning"]
        )
        self._steppers[about["key"]] = stepper
        return Message({"changed": list(stepper.changed), "given": list(stepper.given)})

    def run(self, message: Message) -> Message:
        """One run of a model; `after` names a result of the run before: where that failed, or the result is not finite,
        nothing runs. So what was asked for in advance does not move the state past the step that went wrong."""
        before, self._results = self._results, {}
        after = message.about.get("after")
        if after is not None and not np.isfinite(before.get(after, np.nan)).all():
            return Message({"failed": "the run before this one did not go well"})
        self._results = self._steppers[message.about["key"]].run(message.arrays)
        return Message({}, self._results)

    def artefacts(self, message: Message) -> Message:
        """The engine's own files, written into a folder."""
        from netdsl.training.engines.onnxruntime_training import generate

        generate.write(message.blob("model"), message.about)
        return Message({})


def _empty(device: str) -> DeviceState:
    """State on a device; for "auto" on the CPU, where the package has CUDA and the machine has not."""
    try:
        state = DeviceState({"probe": np.zeros(1, np.float32)}, device=device)
        state.remove(["probe"])
        return state
    except Exception:
        if device != "auto":
            raise
        return DeviceState({}, device="cpu")


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answers requests until they end. A request that fails is answered with what failed."""
    server = Server()
    while True:
        try:
            message = receive(requests)
            send(answers, _answer(getattr(server, message.about["call"]), message))
        except Closed:
            return


def _answer(call: Callable[[Message], Message], message: Message) -> Message:
    try:
        return call(message)
    except Exception as failure:
        return Message({"failed": _said(failure), "kind": type(failure).__name__})


def _said(failure: Any) -> str:
    if isinstance(failure, DiagnosticError):
        return str(failure.diagnostics[0].message)
    if isinstance(failure, EnvironmentLack):
        return str(failure)
    return " ".join(str(failure).split())[-500:]
