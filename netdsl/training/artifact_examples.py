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
import json
import numpy as np
import onnxruntime as ort

raw = open("init.safetensors", "rb").read()
start = 8 + int.from_bytes(raw[:8], "little")
types = {"F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "I8": "i1", "U8": "u1", "BOOL": "?"}
state = {}  # two buffers for each tensor, with the same initial value
for name, entry in json.loads(raw[8:start]).items():
    begin, end = entry["data_offsets"]
    array = np.frombuffer(raw[start + begin : start + end], types[entry["dtype"]]).reshape(entry["shape"])
    state[name] = [ort.OrtValue.ortvalue_from_numpy(array.copy()) for _ in range(2)]

step = ort.InferenceSession("train_step.onnx", providers=["CPUExecutionProvider"])
outputs = [o.name for o in step.get_outputs()]
changed = {name.removeprefix("next/") for name in outputs if name.startswith("next/")}
bindings = [step.io_binding(), step.io_binding()]  # the first reads buffer 0 and writes buffer 1, the second vice versa
for side, binding in enumerate(bindings):
    for name in (i.name for i in step.get_inputs() if i.name in state):
        binding.bind_ortvalue_input(name, state[name][side if name in changed else 0])
    binding.bind_output("loss")
    for name in changed:
        binding.bind_ortvalue_output("next/" + name, state[name][1 - side])

rng = np.random.default_rng(0)
batch = {
@BATCH@
}
for number in range(10):
    binding = bindings[number % 2]
    inputs = {**batch, "learning_rate": np.asarray(@RATE@, "f4"), "seed": np.asarray(number)}
    for name, array in inputs.items():
        binding.bind_cpu_input(name, array)
    step.run_with_iobinding(binding)
    print(f"step {number}: loss {binding.get_outputs()[0].numpy():.6f}")

evaluation = ort.InferenceSession("eval.onnx", providers=["CPUExecutionProvider"])
weights = {i.name: state[i.name][0].numpy() for i in evaluation.get_inputs() if i.name in state}
print(f"evaluation: loss {evaluation.run(['loss'], {**batch, **weights})[0]:.6f}")
'''

_CPP = """\
// Trains on one random batch with ONNX Runtime alone; see README.md.
// c++ -std=c++17 -I$ORT/include train.cpp -L$ORT/lib -lonnxruntime -o train
#include <onnxruntime_cxx_api.h>
#include <array>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <regex>
#include <vector>

int main() {
  Ort::Env env;
  Ort::Session step(env, ORT_TSTR("train_step.onnx"), Ort::SessionOptions());
  std::ifstream file("init.safetensors", std::ios::binary);
  std::string raw{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  uint64_t length;
  std::memcpy(&length, raw.data(), 8);
  std::string header = raw.substr(8, length);
  std::map<std::string, std::array<std::string, 2>> state;  // two buffers for each tensor, with the same initial value
  std::regex entry(R"x("([^"]+)":\\{[^}]*"data_offsets":\\[(\\d+),(\\d+)\\])x");
  for (std::sregex_iterator i(header.begin(), header.end(), entry), end; i != end; ++i) {
    size_t first = std::stoull((*i)[2]), last = std::stoull((*i)[3]);
    std::string value = raw.substr(8 + length + first, last - first);
    state[(*i)[1]] = {value, value};
  }

  auto cpu = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  auto tensor = [&](Ort::TypeInfo type, std::string& data) {
    auto info = type.GetTensorTypeAndShapeInfo();
    std::vector<int64_t> shape = info.GetShape();
    return Ort::Value::CreateTensor(cpu, data.data(), data.size(), shape.data(), shape.size(), info.GetElementType());
  };
  Ort::AllocatorWithDefaultOptions names;
  std::map<std::string, size_t> changed;  // the number of the output that holds a tensor's next value
  for (size_t i = 0; i < step.GetOutputCount(); ++i) {
    std::string name = step.GetOutputNameAllocated(i, names).get();
    if (name.rfind("next/", 0) == 0) changed[name.substr(5)] = i;
  }
  Ort::IoBinding bindings[] = {Ort::IoBinding(step), Ort::IoBinding(step)};
  for (size_t side : {0, 1}) {  // the first reads buffer 0 and writes buffer 1, the second vice versa
    bindings[side].BindOutput("loss", cpu);
    for (size_t i = 0; i < step.GetInputCount(); ++i) {
      std::string name = step.GetInputNameAllocated(i, names).get();
      if (!state.count(name)) continue;
      bindings[side].BindInput(name.c_str(), tensor(step.GetInputTypeInfo(i), state[name][changed.count(name) * side]));
    }
    for (auto& [name, i] : changed)
      bindings[side].BindOutput(("next/" + name).c_str(), tensor(step.GetOutputTypeInfo(i), state[name][1 - side]));
  }

  for (int64_t number = 0; number < 10; ++number) {
    auto& binding = bindings[number % 2];
    auto bind = [&](const char* name, auto& values, std::vector<int64_t> shape) {
      binding.BindInput(name, Ort::Value::CreateTensor(cpu, values.data(), values.size(), shape.data(), shape.size()));
    };
@BATCH@
    std::vector<float> rate{@RATE@f};
    std::vector<int64_t> seed{number};
    bind("learning_rate", rate, {});
    bind("seed", seed, {});
    step.Run(Ort::RunOptions(), binding);
    std::cout << "step " << number << ": loss " << *binding.GetOutputValues()[0].GetTensorData<float>() << std::endl;
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
    lines = [f'    "{name}": {_python_array(name, type, batch)},' for name, type in batch.types.items()]
    return _PYTHON.replace("@BATCH@", "\n".join(lines)).replace("@RATE@", repr(batch.rate))


def _python_array(name: str, type: TensorType, batch: ExampleBatch) -> str:
    shape = static_shape(type)
    if type.dtype.is_float:
        made = f"rng.random({shape}, np.float32)"
        return made if type.dtype is DType.float32 else f'{made}.astype("{type.dtype}")'
    return f'rng.integers(0, {batch.below.get(name, 2)}, {shape}).astype("{type.dtype}")'


def cpp_example(batch: ExampleBatch) -> str:
    lines = [line for name, type in batch.types.items() for line in _cpp_array(name, type, batch)]
    body = "\n".join(f"    {line}" for line in lines)
    return _CPP.replace("@BATCH@", body).replace("@RATE@", _cpp_float(batch.rate))


def _cpp_array(name: str, type: TensorType, batch: ExampleBatch) -> list[str]:
    """A static array of the inputs' own name that is filled once and bound in every step."""
    shape = static_shape(type)
    size = 1
    for axis in shape:
        size *= axis
    element = _CPP_TYPES[type.dtype]
    value = "std::rand() / float(RAND_MAX)" if type.dtype.is_float else f"std::rand() % {batch.below.get(name, 2)}"
    held = f"batch_{name}"
    if type.dtype is DType.bool:
        declared = f"static std::array<bool, {size}> {held};"  # a vector of bool has no data()
    else:
        declared = f"static std::vector<{element}> {held}({size});"
    return [
        declared,
        f"if (!number) for (auto& value : {held}) value = {element}({value});",
        f'bind("{name}", {held}, {{{", ".join(map(str, shape))}}});',
    ]


def _cpp_float(value: float) -> str:
    text = repr(float(value))
    return text if "." in text or "e" in text else text + ".0"
