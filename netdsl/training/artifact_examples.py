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
from pathlib import Path
import numpy as np
import onnxruntime as ort

tensor = ort.OrtValue.ortvalue_from_numpy


def run(model, values):
    """Reads a model's inputs from `values` and puts its outputs there, next/NAME as NAME."""
    names = [output.name for output in model.get_outputs()]
    results = model.run_with_ort_values(names, {i.name: values[i.name] for i in model.get_inputs()})
    values.update(zip((name.removeprefix("next/") for name in names), results))


init, step, evaluation = (
    ort.InferenceSession(Path(__file__).parent / file, providers=["CPUExecutionProvider"])
    for file in ("init.onnx", "train_step.onnx", "eval.onnx")
)
values, rng = {}, np.random.default_rng(0)  # tensors by name: the state, the batch, the results
run(init, values)
@BATCH@
values["learning_rate"] = tensor(np.array(@RATE@, np.float32))
for number in range(10):
    values["seed"] = tensor(np.array(number, np.int64))
    run(step, values)
    print(f"step {number}: loss {values['loss'].numpy():.6f}")
run(evaluation, values)
print(f"evaluation: loss {values['loss'].numpy():.6f}")
'''

_CPP = """\
// Trains on one random batch with ONNX Runtime alone; see README.md. To compile it:
// c++ -std=c++17 -I$ORT/include train.cpp -L$ORT/lib -lonnxruntime -o train
#include <onnxruntime_cxx_api.h>
#include <iostream>
#include <map>

int main() {
  Ort::Env env;
  Ort::AllocatorWithDefaultOptions cpu;
  Ort::Session init(env, ORT_TSTR("init.onnx"), {}), step(env, ORT_TSTR("train_step.onnx"), {});
  std::map<std::string, Ort::Value> values;  // tensors by name: the state, the batch, the results
  auto put = [&](const char* name, std::vector<int64_t> shape, auto draw) {
    auto value = Ort::Value::CreateTensor<decltype(draw())>(cpu, shape.data(), shape.size());
    for (size_t i = value.GetTensorTypeAndShapeInfo().GetElementCount(); i--;)
      value.template GetTensorMutableData<decltype(draw())>()[i] = draw();
    values.insert_or_assign(name, std::move(value));
  };
  auto run = [&](Ort::Session& model) {  // from `values` to `values`: next/NAME becomes NAME
    Ort::IoBinding io(model);
    for (size_t i = 0; i < model.GetInputCount(); ++i) {
      auto name = model.GetInputNameAllocated(i, cpu);
      io.BindInput(name.get(), values.at(name.get()));
    }
    for (size_t i = 0; i < model.GetOutputCount(); ++i)
      io.BindOutput(model.GetOutputNameAllocated(i, cpu).get(), cpu.GetInfo());
    model.Run(Ort::RunOptions(), io);
    auto names = io.GetOutputNames();
    auto made = io.GetOutputValues();
    for (size_t i = 0; i < names.size(); ++i)
      values.insert_or_assign(names[i].substr(names[i].find("next/") ? 0 : 5), std::move(made[i]));
  };
  run(init);
@BATCH@
  put("learning_rate", {}, [] { return float(@RATE@); });
  for (int64_t number = 0; number < 10; ++number) {
    put("seed", {}, [=] { return number; });
    run(step);
    std::cout << number << ": loss " << *values.at("loss").GetTensorData<float>() << std::endl;
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
    lines = [f'values["{name}"] = tensor({_python_array(name, type, batch)})' for name, type in batch.types.items()]
    return _PYTHON.replace("@BATCH@", "\n".join(lines)).replace("@RATE@", repr(batch.rate))


def _python_array(name: str, type: TensorType, batch: ExampleBatch) -> str:
    shape = static_shape(type)
    if type.dtype.is_float:
        made = f"rng.random({shape}, np.float32)"
        return made if type.dtype is DType.float32 else f'{made}.astype("{type.dtype}")'
    return f'rng.integers(0, {batch.below.get(name, 2)}, {shape}).astype("{type.dtype}")'


def cpp_example(batch: ExampleBatch) -> str:
    lines = [f'  put("{name}", {_cpp_numbers(name, type, batch)});' for name, type in batch.types.items()]
    return _CPP.replace("@BATCH@", "\n".join(lines)).replace("@RATE@", repr(float(batch.rate)))


def _cpp_numbers(name: str, type: TensorType, batch: ExampleBatch) -> str:
    element, shape = _CPP_TYPES[type.dtype], ", ".join(map(str, static_shape(type)))
    value = "std::rand() / float(RAND_MAX)" if type.dtype.is_float else f"std::rand() % {batch.below.get(name, 2)}"
    return f"{{{shape}}}, [] {{ return {value if element == 'float' else f'{element}({value})'}; }}"
