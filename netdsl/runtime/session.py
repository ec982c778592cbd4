"""ONNX Runtime: sessions on a device, with inputs and outputs bound there."""

from __future__ import annotations

from collections.abc import Mapping
from ctypes import string_at
from pathlib import Path
from typing import Any, Literal

import numpy as np

from netdsl.diagnostics import DiagnosticError, error
from netdsl.ir.dims import Dim, DimError, parse_dim, symbol
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.runtime.bind import bind

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
BFLOAT16 = 16  # ONNX's code of the element type

DTYPES = {
    "tensor(float)": DType.float32,
    "tensor(float16)": DType.float16,
    "tensor(bfloat16)": DType.bfloat16,
    "tensor(double)": DType.float64,
    "tensor(int8)": DType.int8,
    "tensor(uint8)": DType.uint8,
    "tensor(int32)": DType.int32,
    "tensor(int64)": DType.int64,
    "tensor(bool)": DType.bool,
}


class EnvironmentLack(Exception):
    """The machine lacks something; the message is one sentence with what to install."""


class Session:
    """A model ready to run.

    `model` is an ONNX file or its bytes; `device` "cpu", "cuda" or "auto" (CUDA where there is one); `threads` those
    of one operator (default: ONNX Runtime's choice); `optimise` false runs the nodes exactly as they are written.
    `bind` keeps inputs and outputs in the device's memory during a run (the default on CUDA).

    Raises EnvironmentLack without ONNX Runtime or without the device, OSError for a file that cannot be opened,
    DiagnosticError for one that is no model that ONNX Runtime can load.
    """

    def __init__(
        self,
        model: bytes | Path,
        device: str = "auto",
        threads: int | None = None,
        optimise: bool = True,
        bind: bool | None = None,
    ) -> None:
        runtime = runtime_module()
        providers = providers_for(runtime, device)
        options = runtime.SessionOptions()
        options.log_severity_level = 4 if CUDA in providers else 3  # a device that fails is our sentence to say
        if threads is not None:
            options.intra_op_num_threads = threads
        if not optimise:
            options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = load_session(runtime, model, options, providers)
        #: "cuda" or "cpu": where the model runs
        self.device: Literal["cuda", "cpu"] = "cuda" if CUDA in self._session.get_providers() else "cpu"
        if device == "cuda" and self.device == "cpu":
            raise EnvironmentLack(
                "ONNX Runtime cannot use a CUDA device here: install NVIDIA's driver and pip install 'netdsl[gpu]'"
            )
        self._bind = self.device == "cuda" if bind is None else bind
        #: element type and shape of each input and output, by name
        self.inputs: dict[str, TensorType] = {i.name: _type(i) for i in self._session.get_inputs()}
        self.outputs: dict[str, TensorType] = {o.name: _type(o) for o in self._session.get_outputs()}

    def run(self, inputs: Mapping[str, NDArrayAny]) -> dict[str, NDArrayAny]:
        """The outputs by name. Raises ValueError for arrays that do not fit `inputs`, DiagnosticError where the runtime
        fails."""
        bind(self.inputs, inputs)
        arrays = {name: np.ascontiguousarray(inputs[name]).reshape(inputs[name].shape) for name in self.inputs}
        try:
            results = self._run_bound(arrays) if self._bind else self._run(arrays)
        except Exception as failure:
            raise runtime_failure(failure) from None
        return dict(zip(self.outputs, results, strict=True))

    def _run(self, arrays: Mapping[str, NDArrayAny]) -> list[NDArrayAny]:
        if all(t.dtype is not DType.bfloat16 for t in (*self.inputs.values(), *self.outputs.values())):
            results: list[NDArrayAny] = self._session.run(list(self.outputs), dict(arrays))
            return results
        return self._run_bound(arrays)

    def _run_bound(self, arrays: Mapping[str, NDArrayAny]) -> list[NDArrayAny]:
        """Inputs are copied to the device, outputs made there and copied back once."""
        runtime = runtime_module()
        binding = self._session.io_binding()
        for name, array in arrays.items():
            binding.bind_ortvalue_input(name, self._on_device(runtime, array))
        for name, type in self.outputs.items():
            binding.bind_output(name, "cpu" if type.dtype is DType.bfloat16 else self.device)
        self._session.run_with_iobinding(binding)
        return [self._from_device(v, t) for v, t in zip(binding.get_outputs(), self.outputs.values(), strict=True)]

    def _on_device(self, runtime: Any, array: NDArrayAny) -> Any:
        if array.dtype == DType.bfloat16.numpy:  # which the runtime's NumPy bridge does not know
            return runtime.OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(np.uint16), BFLOAT16)
        return runtime.OrtValue.ortvalue_from_numpy(array, self.device, 0)

    @staticmethod
    def _from_device(value: Any, type: TensorType) -> NDArrayAny:
        if type.dtype is DType.bfloat16:
            data = string_at(value.data_ptr(), value.tensor_size_in_bytes())
            return np.frombuffer(data, type.dtype.numpy).reshape(value.shape())
        array: NDArrayAny = value.numpy()
        return array


def available() -> bool:
    """Whether ONNX Runtime is installed."""
    try:
        runtime_module()
    except EnvironmentLack:
        return False
    return True


def runtime_module() -> Any:
    """The package onnxruntime. Raises EnvironmentLack without it."""
    try:
        import onnxruntime
    except ImportError as reason:
        install = "pip install 'netdsl[cpu]', or 'netdsl[gpu]'"
        if isinstance(reason, ModuleNotFoundError) and reason.name == "onnxruntime":
            raise EnvironmentLack(f"running a model needs ONNX Runtime: {install}") from None
        raise EnvironmentLack(f"the ONNX Runtime installed here cannot be loaded ({reason}): {install}") from None
    return onnxruntime


def providers_for(runtime: Any, device: str) -> list[str]:
    """The execution providers for "cpu", "cuda" or "auto". Raises EnvironmentLack, ValueError for another device."""
    if device not in ("cpu", "cuda", "auto"):
        raise ValueError(f"device is {device!r}; it may be cpu, cuda or auto")
    has_cuda = CUDA in runtime.get_available_providers()
    if device == "cuda" and not has_cuda:
        raise EnvironmentLack("the ONNX Runtime installed here has no CUDA: pip install 'netdsl[gpu]' in its place")
    if device == "cpu" or not has_cuda:
        return [CPU]
    if hasattr(runtime, "preload_dlls"):
        runtime.preload_dlls()  # the CUDA and cuDNN libraries that came as packages
    return [CUDA, CPU]


def load_session(runtime: Any, model: bytes | Path, options: Any, providers: list[str]) -> Any:
    """ONNX Runtime's session of a file or its bytes. Raises OSError, DiagnosticError for what is no model."""
    if isinstance(model, Path):
        with model.open("rb"):
            pass  # a missing file is an OSError that names it, not the runtime's own kind of failure
    try:
        return runtime.InferenceSession(str(model) if isinstance(model, Path) else model, options, providers=providers)
    except Exception as failure:
        sentence = _sentence(failure)
        if sentence is None:
            raise
        path = str(model) if isinstance(model, Path) else ""
        message = f"ONNX Runtime cannot load the model: {sentence}"
        raise DiagnosticError([error("unloadable-model", message, path=path)]) from None


def runtime_failure(failure: Exception) -> Exception:
    """What to raise for an exception of a run: a DiagnosticError if it is the runtime's, else the exception itself."""
    sentence = _sentence(failure)
    if sentence is None:
        return failure
    return DiagnosticError([error("runtime-failure", f"ONNX Runtime: {sentence}")])


def _sentence(failure: Exception) -> str | None:
    """What ONNX Runtime says went wrong, the last part of `[ONNXRuntimeError] : 1 : FAIL : what happened`, on one line;
    None for an exception that is not its own. (They have no base class.)"""
    if not type(failure).__module__.startswith("onnxruntime") and not isinstance(failure, RuntimeError):
        return None
    return " ".join(str(failure).split()).split(" : ", 3)[-1][:400]


def _type(argument: Any) -> TensorType:
    """The type of a session's input or output; an unnamed size is a symbol of its own."""
    dtype = DTYPES.get(argument.type)
    if dtype is None:
        message = f"{argument.name!r} is a {argument.type}, an element type that netdsl does not have"
        raise DiagnosticError([error("unknown-type", message)])
    dims: list[Dim] = []
    for axis, dim in enumerate(argument.shape or ()):
        if isinstance(dim, int):
            dims.append(dim)
            continue
        try:
            dims.append(parse_dim(dim))
        except (DimError, TypeError):
            dims.append(symbol(dim or f"{argument.name}.{axis}"))
    return TensorType(dtype, tuple(dims))
