"""The programs that `netdsl compile --training` writes beside its models: a training loop in Python and in C++, each
with ONNX Runtime alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from netdsl.ir.types import DType, TensorType
from netdsl.weights.sizes import static_shape


@dataclass(frozen=True)
class ExampleBatch:
    """What the programs train on: random items. `types`: of the batch's inputs, of integer shapes; `below`: for targets
    of class ids, the number of classes."""

    types: Mapping[str, TensorType]
    below: Mapping[str, int]
    rate: float


_PYTHON = '''\
"""Trains on one random batch with onnxruntime and numpy alone; see README.md."""
import numpy as np
import onnxruntime as ort

init, step, evaluation = (
    ort.InferenceSession(f"{name}.onnx", providers=["CPUExecutionProvider"]) for name in ("init", "train_step", "eval")
)
values = {}  # tensors by name: the state, the batch, the results


def put(name, array):
    values[name] = ort.OrtValue.ortvalue_from_numpy(np.asarray(array))


def run(model):
    """Reads a model's inputs from `values` and puts its outputs there; next/NAME takes the place of NAME."""
    names = [output.name for output in model.get_outputs()]
    results = model.run_with_ort_values(names, {i.name: values[i.name] for i in model.get_inputs()})
    values.update((name.removeprefix("next/"), result) for name, result in zip(names, results))


run(init)
rng = np.random.default_rng(0)
@BATCH@
put("learning_rate", np.float32(@RATE@))
for number in range(10):
    put("seed", np.int64(number))
    run(step)
    print(f"step {number}: loss {values['loss'].numpy():.6f}")
run(evaluation)
print(f"evaluation: loss {values['loss'].numpy():.6f}")
'''

_CPP = """\
// Trains on one random batch with ONNX Runtime alone; see README.md.
// c++ -std=c++17 -I$ORT/include train.cpp -L$ORT/lib -lonnxruntime -o train
#include <onnxruntime_cxx_api.h>
#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <map>

using Values = std::map<std::string, Ort::Value>;  // tensors by name: the state, the batch, the results

// Reads a model's inputs from `values` and puts its outputs there; next/NAME takes the place of NAME.
void run(Ort::Session& model, Values& values) {
  Ort::AllocatorWithDefaultOptions cpu;
  Ort::IoBinding binding(model);
  for (size_t i = 0; i < model.GetInputCount(); ++i) {
    auto name = model.GetInputNameAllocated(i, cpu);
    binding.BindInput(name.get(), values.at(name.get()));
  }
  for (size_t i = 0; i < model.GetOutputCount(); ++i)
    binding.BindOutput(model.GetOutputNameAllocated(i, cpu).get(), cpu.GetInfo());
  model.Run(Ort::RunOptions(), binding);
  auto names = binding.GetOutputNames();
  auto results = binding.GetOutputValues();
  for (size_t i = 0; i < names.size(); ++i)
    values.insert_or_assign(names[i].substr(names[i].rfind("next/", 0) ? 0 : 5), std::move(results[i]));
}

template <typename T, typename Draw>
Ort::Value tensor(std::vector<int64_t> shape, Draw draw) {
  Ort::Value value = Ort::Value::CreateTensor<T>(Ort::AllocatorWithDefaultOptions(), shape.data(), shape.size());
  size_t count = value.GetTensorTypeAndShapeInfo().GetElementCount();
  std::generate_n(value.GetTensorMutableData<T>(), count, [&] { return T(draw()); });
  return value;
}

int main() {
  Ort::Env env;
  Ort::SessionOptions options;
  Ort::Session init(env, ORT_TSTR("init.onnx"), options), step(env, ORT_TSTR("train_step.onnx"), options);
  Values values;
  run(init, values);
@BATCH@
  values.emplace("learning_rate", tensor<float>({}, [] { return @RATE@; }));
  for (int64_t number = 0; number < 10; ++number) {
    values.insert_or_assign("seed", tensor<int64_t>({}, [=] { return number; }));
    run(step, values);
    std::cout << "step " << number << ": loss " << *values.at("loss").GetTensorData<float>() << std::endl;
  }
}
"""

_CPP_TYPES = {
    DType.float32: "float",
    DType.float64: "double",
    DType.int64: "int64_t",
    DType.int32: "int32_t",
    DType.int8: "int8_t",
    DType.uint8: "uint8_t",
    DType.float16: "Ort::Float16_t",
    DType.bfloat16: "Ort::BFloat16_t",
    DType.bool: "bool",
}


def python_example(batch: ExampleBatch) -> str:
    lines = [f'put("{name}", {_python_array(name, type, batch)})' for name, type in batch.types.items()]
    return _PYTHON.replace("@BATCH@", "\n".join(lines)).replace("@RATE@", repr(batch.rate))


def _python_array(name: str, type: TensorType, batch: ExampleBatch) -> str:
    shape = static_shape(type)
    if type.dtype.is_float:
        made = f"rng.random({shape}, np.float32)"
        return made if type.dtype is DType.float32 else f'{made}.astype("{type.dtype}")'
    return f'rng.integers(0, {batch.below.get(name, 2)}, {shape}).astype("{type.dtype}")'


def cpp_example(batch: ExampleBatch) -> str:
    lines = [f'  values.emplace("{name}", {_cpp_tensor(name, type, batch)});' for name, type in batch.types.items()]
    return _CPP.replace("@BATCH@", "\n".join(lines)).replace("@RATE@", repr(float(batch.rate)))


def _cpp_tensor(name: str, type: TensorType, batch: ExampleBatch) -> str:
    element, shape = _CPP_TYPES[type.dtype], ", ".join(map(str, static_shape(type)))
    value = "std::rand() / float(RAND_MAX)" if type.dtype.is_float else f"std::rand() % {batch.below.get(name, 2)}"
    return f"tensor<{element}>({{{shape}}}, [] {{ return {value}; }})"
