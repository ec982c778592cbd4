"""Models that change a state: every tensor of it is an input `NAME`, and an output `next/NAME` if the model changes it.

Such a tensor has two buffers, which are swapped after each run, so nothing is copied and the state stays on the device.
(An output bound to its own input's buffer would be unsafe: an operator may read a weight after its update.)

A model always changes the same tensors, so which buffers are current follows from how often, even or odd, each model
ran. That number is the key of a prepared binding; a run looks at no tensor of the state.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from netdsl.ir.types import NDArrayAny
from netdsl.runtime.huge_pages import take_huge_pages
from netdsl.runtime.session import CUDA, DTYPES, load_session, providers_for, runtime_failure, runtime_module

NEXT = "next/"


class DeviceState:
    """Named tensors on a device. Those that models change have two buffers each, unless a model may overwrite them."""

    def __init__(self, arrays: Mapping[str, NDArrayAny], changed: Iterable[str] = (), device: str = "auto") -> None:
        """Raises EnvironmentLack without ONNX Runtime or the device."""
        self._runtime = runtime_module()
        self.providers = providers_for(self._runtime, device)
        self.device: Literal["cuda", "cpu"] = "cuda" if CUDA in self.providers else "cpu"
        self._buffers: dict[str, list[Any]] = {}
        self._writers: dict[str, int] = {}  # a bit for each group of tensors that holds the name
        self._groups = 0
        self._parity = 0  # a bit for each group: whether it moved on an odd number of times
        self.add(arrays, changed)

    def add(self, arrays: Mapping[str, NDArrayAny], changed: Iterable[str] = ()) -> None:
        """New tensors; and a second buffer for those of `changed`, new or not, that have one."""
        for name, array in arrays.items():
            self._buffers[name] = [self._on_device(array)]
            self._writers[name] = 0
        for name in changed:
            if len(self._buffers[name]) == 1:
                self._buffers[name].append(self._on_device(self.current(name).numpy()))

    def remove(self, names: Iterable[str]) -> None:
        """Forgets tensors. No model that reads or changes them may run again."""
        for name in names:
            del self._buffers[name], self._writers[name]

    def _on_device(self, array: NDArrayAny) -> Any:
        """A buffer of its own: on the CPU the runtime would go on using the given array's memory."""
        return self._runtime.OrtValue.ortvalue_from_numpy(np.array(array, order="C"), self.device, 0)

    def __contains__(self, name: str) -> bool:
        return name in self._buffers

    def __iter__(self) -> Iterator[str]:
        return iter(self._buffers)

    def group(self, names: Iterable[str]) -> int:
        """A number for tensors that move on together."""
        self._groups += 1
        for name in names:
            self._writers[name] |= 1 << self._groups
        return self._groups

    @property
    def sides(self) -> int:
        """Which buffers are current: a number that is the same when, and only when, they are."""
        return self._parity

    def _side(self, name: str) -> int:
        return (self._parity & self._writers[name]).bit_count() & 1

    def current(self, name: str) -> Any:
        buffers = self._buffers[name]
        return buffers[self._side(name)] if len(buffers) > 1 else buffers[0]

    def following(self, name: str) -> Any:
        """The buffer that a model that changes the tensor writes to; until then, that of before its last change. A
        tensor with one buffer is overwritten."""
        buffers = self._buffers[name]
        return buffers[1 - self._side(name)] if len(buffers) > 1 else buffers[0]

    def advance(self, group: int) -> None:
        """Makes a group's written buffers the current ones."""
        self._parity ^= 1 << group

    def arrays(self) -> dict[str, NDArrayAny]:
        """A copy of the current values."""
        return {name: np.array(self.current(name).numpy()) for name in self._buffers}

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
    one operator. `spinning`: the session's threads wait busily between runs, which is fast where one model runs again
    and again, and slow where several take turns. Raises DiagnosticError for a model that the runtime cannot load.
    """

    def __init__(
        self,
        model: bytes,
        state: DeviceState,
        results: Sequence[str],
        threads: int | None = None,
        *,
        spinning: bool = True,
    ) -> None:
        runtime = runtime_module()
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        options.enable_mem_pattern = False  # a plan of a whole step takes up to twice the memory, and saves no time
        if threads is not None:
            options.intra_op_num_threads = threads
        if not spinning:
            options.add_session_config_entry("session.force_spinning_stop", "1")
        self._session = load_session(runtime, model, options, state.providers)
        self._state = state
        inputs = [i.name for i in self._session.get_inputs()]
        outputs = {o.name: o for o in self._session.get_outputs()}
        self._held = [name for name in inputs if name in state]
        #: inputs that are not state
        self.given = tuple(name for name in inputs if name not in state)
        self.changed = tuple(name.removeprefix(NEXT) for name in outputs if name.startswith(NEXT))
        self._group = state.group(self.changed) if self.changed else None
        #: results of fixed shape have memory of their own, in which the caller finds them
        self._fixed = {name: made for name in results if (made := _memory(outputs[name])) is not None}
        self._loose = [name for name in results if name not in self._fixed]
        self._bindings: dict[int, Any] = {}
        self._small_pages = state.device == "cpu"

    def _binding(self) -> Any:
        """The binding to the buffers that are current now; there are as many as ways in which the sides come."""
        found = self._bindings.get(self._state.sides)
        if found is None:
            found = self._bindings[self._state.sides] = self._bound()
        return found

    def _bound(self) -> Any:
        binding = self._session.io_binding()
        for name in self._held:
            binding.bind_ortvalue_input(name, self._state.current(name))
        for name in self._loose:
            binding.bind_output(name, "cpu")
        for name in self.changed:
            binding.bind_ortvalue_output(NEXT + name, self._state.following(name))
        for name, array in self._fixed.items():
            binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        return binding

    def run(self, inputs: Mapping[str, NDArrayAny]) -> dict[str, NDArrayAny]:
        """One run: the results by name, which hold until the next; the state moves on where the model changes it.
        Raises DiagnosticError where the runtime fails."""
        binding = self._binding()
        for name in self.given:
            binding.bind_cpu_input(name, np.asarray(inputs[name], order="C"))
        try:
            self._session.run_with_iobinding(binding)
        except Exception as failure:
            raise runtime_failure(failure) from None
        if self._small_pages:  # the first run has taken what memory the others use
            self._small_pages = False
            take_huge_pages()
        results: dict[str, NDArrayAny] = dict(self._fixed)
        if self._loose:
            values = binding.get_outputs()
            results |= {name: value.numpy() for name, value in zip(self._loose, values, strict=False)}
        if self._group is not None:
            self._state.advance(self._group)
        return results


def _memory(output: Any) -> NDArrayAny | None:
    """An array for a result, if its shape is known and NumPy has its element type."""
    if not all(isinstance(dim, int) for dim in output.shape):
        return None
    dtype = DTYPES.get(output.type)
    return None if dtype is None or dtype.numpy.kind == "V" else np.empty(output.shape, dtype.numpy)
