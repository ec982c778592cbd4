"""Models that change a state: every tensor of it is an input `NAME`, and an output `next/NAME` if the model changes it.

Such a tensor has two buffers, which are swapped after each run, so nothing is copied and the state stays on the device.
(An output bound to its own input's buffer would be unsafe: an operator may read a weight after its update.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from netdsl.ir.types import NDArrayAny
from netdsl.runtime.session import CUDA, load_session, providers_for, runtime_failure, runtime_module

NEXT = "next/"


class DeviceState:
    """Named tensors on a device. Those that models change have two buffers each; `side` says which one is current."""

    def __init__(self, arrays: Mapping[str, NDArrayAny], changed: Iterable[str], device: str = "auto") -> None:
        """Raises EnvironmentLack without ONNX Runtime or the device."""
        self._runtime = runtime_module()
        self.providers = providers_for(self._runtime, device)
        self.device: Literal["cuda", "cpu"] = "cuda" if CUDA in self.providers else "cpu"
        twice = set(changed)
        self._buffers: dict[str, tuple[Any, ...]] = {
            name: tuple(self._on_device(array) for _ in range(2 if name in twice else 1))
            for name, array in arrays.items()
        }
        self._side = dict.fromkeys(arrays, 0)

    def _on_device(self, array: NDArrayAny) -> Any:
        """A buffer of its own: on the CPU the runtime would go on using the given array's memory."""
        return self._runtime.OrtValue.ortvalue_from_numpy(np.array(array, order="C"), self.device, 0)

    def __contains__(self, name: str) -> bool:
        return name in self._side

    def sides(self, names: Iterable[str]) -> tuple[int, ...]:
        return tuple(self._side[name] for name in names)

    def current(self, name: str) -> Any:
        return self._buffers[name][self._side[name]]

    def following(self, name: str) -> Any:
        """The buffer that a model that changes the tensor writes to."""
        return self._buffers[name][1 - self._side[name]]

    def advance(self, names: Iterable[str]) -> None:
        """Makes the written buffers the current ones."""
        for name in names:
            self._side[name] = 1 - self._side[name]

    def arrays(self) -> dict[str, NDArrayAny]:
        """A copy of the current values."""
        return {name: np.array(self.current(name).numpy()) for name in self._side}

    def set(self, arrays: Mapping[str, NDArrayAny]) -> None:
        """Overwrites current values. Raises KeyError for an unknown name, ValueError for another shape."""
        for name, array in arrays.items():
            buffer = self.current(name)
            if tuple(buffer.shape()) != array.shape:
                raise ValueError(f"{name} is {list(buffer.shape())}, not {list(array.shape)}")
            buffer.update_inplace(np.array(array, order="C"))


class Stepper:
    """One model that runs on a `DeviceState`. Several may share a state: a step, an evaluation, the parts of a group.

    `model` is the bytes of an ONNX model, `results` the names of those outputs that are not state, `threads` those of
    one operator. Raises DiagnosticError for a model that the runtime cannot load.
    """

    def __init__(self, model: bytes, state: DeviceState, results: Sequence[str], threads: int | None = None) -> None:
        runtime = runtime_module()
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        self._session = load_session(runtime, model, options, state.providers)
        self._state, self._results = state, tuple(results)
        inputs = [i.name for i in self._session.get_inputs()]
        self._held = [name for name in inputs if name in state]
        self._given = [name for name in inputs if name not in state]
        outputs = (o.name for o in self._session.get_outputs())
        self._changed = [name.removeprefix(NEXT) for name in outputs if name.startswith(NEXT)]
        self._bindings: dict[tuple[int, ...], Any] = {}

    def _binding(self) -> Any:
        """The binding to the buffers that are current now; there are as many as ways in which the sides come."""
        key = self._state.sides([*self._held, *self._changed])
        if key not in self._bindings:
            binding = self._session.io_binding()
            for name in self._held:
                binding.bind_ortvalue_input(name, self._state.current(name))
            for name in self._changed:
                binding.bind_ortvalue_output(NEXT + name, self._state.following(name))
            for name in self._results:
                binding.bind_output(name, "cpu")
            self._bindings[key] = binding
        return self._bindings[key]

    def run(self, inputs: Mapping[str, NDArrayAny]) -> dict[str, NDArrayAny]:
        """One run: the results by name; the state moves on where the model changes it. Raises DiagnosticError where the
        runtime fails."""
        binding = self._binding()
        for name in self._given:
            binding.bind_cpu_input(name, np.ascontiguousarray(inputs[name]).reshape(inputs[name].shape))
        try:
            self._session.run_with_iobinding(binding)
        except Exception as failure:
            raise runtime_failure(failure) from None
        values = binding.get_outputs()[len(self._changed) :]
        results = {name: np.array(value.numpy()) for name, value in zip(self._results, values, strict=True)}
        self._state.advance(self._changed)
        return results
