"""State and models that live in the engine's process, with the interfaces of `DeviceState` and `Stepper`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal
from weakref import WeakValueDictionary

import numpy as np

from netdsl.diagnostics import DiagnosticError, error
from netdsl.ir.types import NDArrayAny
from netdsl.runtime.session import EnvironmentLack
from netdsl.training.engines.onnxruntime_training.process import EngineFailure, EngineProcess
from netdsl.training.engines.onnxruntime_training.wire import Message, blob


@dataclass(frozen=True)
class _Remote:
    """One tensor of the state."""

    state: RemoteState
    name: str
    before: bool

    def numpy(self) -> NDArrayAny:
        names = [self.name]
        answer = self.state.ask("get", names=names, before=names if self.before else [])
        return answer.arrays[self.name]


class RemoteState:
    """Named tensors in the engine's process."""

    def __init__(self, process: EngineProcess, arrays: Mapping[str, NDArrayAny], device: str) -> None:
        self.process = process
        self._names: dict[str, None] = {}
        self.models: WeakValueDictionary[str, RemoteStepper] = WeakValueDictionary()
        self._loaded: set[str] = set()
        self.keys = count()
        try:
            where = process.ask("begin", device=device).about["device"]
        except EngineFailure as reason:
            raise EnvironmentLack(f"the engine onnxruntime-training cannot run on {device}: {reason}") from None
        self.device: Literal["cuda", "cpu"] = "cuda" if where == "cuda" else "cpu"
        self.add(arrays)

    def ask(self, call: str, arrays: Mapping[str, NDArrayAny] | None = None, **about: Any) -> Message:
        """A request. Raises DiagnosticError where it fails."""
        with _failing_in_words():
            return self.process.ask(call, arrays, **about)

    def add(self, arrays: Mapping[str, NDArrayAny], changed: Iterable[str] = ()) -> None:
        self.ask("add", arrays, changed=list(changed))
        self._names.update(dict.fromkeys(arrays))

    def remove(self, names: Iterable[str]) -> None:
        gone = self._loaded - set(self.models)
        self._loaded -= gone
        names = list(names)
        self.ask("remove", names=names, models=sorted(gone))
        for name in names:
            del self._names[name]

    def load(self, stepper: RemoteStepper, key: str) -> None:
        """Remembers a model, which is forgotten there when it is here."""
        self.models[key] = stepper
        self._loaded.add(key)

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def current(self, name: str) -> _Remote:
        return _Remote(self, name, before=False)

    def following(self, name: str) -> _Remote:
        return _Remote(self, name, before=True)

    def arrays(self) -> dict[str, NDArrayAny]:
        return dict(self.ask("get").arrays)

    def set(self, arrays: Mapping[str, NDArrayAny]) -> None:
        self.ask("set", arrays)


class RemoteStepper:
    """A model in the engine's process. Raises DiagnosticError where it cannot be loaded, or run."""

    def __init__(
        self, model: bytes, state: RemoteState, results: Sequence[str], threads: int | None, *, spinning: bool
    ) -> None:
        self._state, self._key = state, f"model{next(state.keys)}"
        about = {"key": self._key, "results": list(results), "threads": threads, "spinning": spinning}
        answer = state.ask("load", {"model": blob(model)}, **about).about
        self.changed: tuple[str, ...] = tuple(answer["changed"])
        self._given = frozenset(answer["given"])
        state.load(self, self._key)

    def run(self, inputs: Mapping[str, NDArrayAny]) -> dict[str, NDArrayAny]:
        return dict(self._state.ask("run", self._of(inputs), key=self._key).arrays)

    def submit(self, inputs: Mapping[str, NDArrayAny], **about: str) -> None:
        """Asks for a run, whose results `collect` gives; `about`: see `Server.run`."""
        self._state.process.submit("run", self._of(inputs), key=self._key, **about)

    def collect(self) -> dict[str, NDArrayAny]:
        """The results of the oldest run that was submitted."""
        with _failing_in_words():
            return dict(self._state.process.collect().arrays)

    def _of(self, inputs: Mapping[str, NDArrayAny]) -> dict[str, NDArrayAny]:
        """What of the inputs the model has."""
        return {name: np.asarray(array) for name, array in inputs.items() if name in self._given}


@contextmanager
def _failing_in_words() -> Iterator[None]:
    """A request that fails does so for want of something, as a sentence: DiagnosticError."""
    try:
        yield
    except EngineFailure as reason:
        message = f"the engine onnxruntime-training: {reason}"
        raise DiagnosticError([error("engine-failure", message, path="")]) from None
