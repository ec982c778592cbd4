// Declares the part of ONNX Runtime's C++ interface that the example `train.cpp` uses, so that a compiler can check its
// types where the real header is not installed. There is nothing behind it: such a program cannot be linked.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#define ORT_TSTR(text) text

struct OrtAllocator;
struct OrtMemoryInfo;

namespace Ort {
struct Float16_t { explicit Float16_t(float); Float16_t(); };
struct BFloat16_t { explicit BFloat16_t(float); BFloat16_t(); };
struct Env {};
struct SessionOptions {};
struct RunOptions {};
struct AllocatorWithDefaultOptions {
  operator OrtAllocator*() const;
  const OrtMemoryInfo* GetInfo() const;
};
struct TensorTypeAndShapeInfo { size_t GetElementCount() const; };
struct Value {
  Value(Value&&);
  Value& operator=(Value&&);
  template <typename T> static Value CreateTensor(OrtAllocator*, const int64_t* shape, size_t rank);
  template <typename T> T* GetTensorMutableData();
  template <typename T> const T* GetTensorData() const;
  TensorTypeAndShapeInfo GetTensorTypeAndShapeInfo() const;
};
struct Session;
struct IoBinding {
  explicit IoBinding(Session&);
  void BindInput(const char* name, const Value&);
  void BindOutput(const char* name, const OrtMemoryInfo*);
  std::vector<std::string> GetOutputNames() const;
  std::vector<Value> GetOutputValues() const;
};
struct Session {
  Session(const Env&, const char* path, const SessionOptions&);
  size_t GetInputCount() const;
  size_t GetOutputCount() const;
  std::unique_ptr<char[]> GetInputNameAllocated(size_t, OrtAllocator*) const;
  std::unique_ptr<char[]> GetOutputNameAllocated(size_t, OrtAllocator*) const;
  void Run(const RunOptions&, const IoBinding&);
};
}  // namespace Ort
