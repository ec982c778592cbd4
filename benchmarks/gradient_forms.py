"""The ONNX forms of convolutions and their gradients: how fast each is, and which one the cost model picks.

    python benchmarks/gradient_forms.py [--threads 1] [--only NAME] [--shapes TEXT] [--repeat 20] [--cold]
        [--device cpu|cuda] [--standard] [--verbose]

`--shapes` takes those whose names have TEXT in them, such as `@4 k1`. `--cold`: operands come from memory, as they do
within a step. `--standard`: standard operators only. Prints a row per quantity and shape: PyTorch's time where it is
installed, each form's time (as a multiple of PyTorch's, or in ms), the form that is picked, and how far it is from the
best. Times are the least of several runs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from netdsl.ir.build import NameSpace
from netdsl.ir.graph import Value
from netdsl.ir.opdef import Target
from netdsl.ir.types import DType, TensorType
from netdsl.onnx.emit import NodeEmitter
from netdsl.onnx.lower import IR_VERSIONS, value_info
from netdsl.ops.convolution import Conv
from netdsl.ops.convolution_blocked import DOMAIN
from netdsl.ops.convolution_cost import Form, Geometry, choose, geometry, seconds
from netdsl.ops.convolution_forms import FORWARD, INPUT
from netdsl.ops.convolution_weight_forms import WEIGHT
from netdsl.runtime.blocked_layout import channel_block

try:
    import torch
except ImportError:
    torch = None

import onnx
import onnxruntime


@dataclass(frozen=True)
class Shape:
    """A convolution: images, channels, outputs, size, kernel, stride, groups."""

    n: int
    c: int
    o: int
    size: int
    kernel: int
    stride: int = 1
    groups: int = 1

    def geometry(self, target: Target) -> Geometry:
        k, pad = self.kernel, self.kernel // 2
        x = TensorType(DType.float32, (self.n, self.c, self.size, self.size))
        w = TensorType(DType.float32, (self.o, self.c // self.groups, k, k))
        op = Conv((self.stride,) * 2, ((pad, pad),) * 2, (1, 1), self.groups)
        return geometry(x, w, op.infer(x, w), op.stride, op.padding, op.dilation, self.groups, target)

    def __str__(self) -> str:
        kind = "dw" if self.groups == self.c else f"g{self.groups}" if self.groups > 1 else ""
        return f"{self.n}x{self.c}>{self.o}@{self.size} k{self.kernel}s{self.stride}{kind}"


DEPTHWISE = [(32, 16, 1), (96, 16, 2), (144, 8, 1), (144, 8, 2), (192, 4, 1), (384, 4, 1), (576, 4, 2), (960, 2, 1)]
DENSE = [
    (1, 6, 28, 5, 1), (6, 16, 14, 5, 1), (3, 16, 32, 3, 1), (3, 32, 32, 3, 1), (16, 16, 32, 3, 1), (16, 32, 32, 3, 2),
    (32, 32, 16, 3, 1), (32, 64, 16, 3, 2), (64, 64, 8, 3, 1), (16, 32, 32, 1, 2), (128, 128, 4, 3, 1),
    (32, 96, 16, 1, 1), (192, 32, 8, 1, 1), (32, 192, 8, 1, 1), (64, 384, 4, 1, 1), (576, 96, 4, 1, 1),
    (960, 160, 2, 1, 1), (160, 960, 2, 1, 1), (320, 1280, 2, 1, 1),
]  # fmt: skip
SHAPES = [Shape(32, c, c, h, 3, s, c) for c, h, s in DEPTHWISE]
SHAPES += [Shape(32, c, o, h, k, s) for c, o, h, k, s in DENSE]
POINTWISE = [
    (144, 24, 32),
    (96, 24, 32),
    (24, 144, 32),
    (192, 32, 16),
    (160, 960, 4),
    (960, 160, 4),
    (960, 320, 4),
    (320, 1280, 4),
    (64, 384, 8),
    (384, 64, 8),
    (576, 96, 8),
]
SHAPES += [Shape(32, c, o, h, 1) for c, o, h in POINTWISE]
SMALL = [(1024, 512, 8), (512, 1024, 4), (1024, 1024, 4)]
SHAPES += [Shape(4, c, o, h, 3) for c, o, h in SMALL]
SHAPES += [
    Shape(4, 96, 96, 32, 3, 1, 96),
    Shape(4, 64, 64, 64, 3),
    Shape(4, 128, 128, 32, 3),
    Shape(4, 256, 256, 16, 3),
    Shape(4, 512, 256, 16, 3),
    Shape(4, 256, 512, 8, 3),
    Shape(4, 512, 512, 8, 3),
    Shape(8, 128, 128, 14, 3, 1, 32),
]
KINDS = {"forward": FORWARD, "input": INPUT, "weight": WEIGHT}


def best(run: Callable[[], object], repeat: int, other: np.ndarray) -> float:
    """The least time of a call, in seconds. Before each one all of `other` is written."""
    run()
    found = float("inf")
    for _ in range(repeat):
        other += 1
        start = time.perf_counter()
        run()
        found = min(found, time.perf_counter() - start)
    return found


def operands(kind: str, g: Geometry) -> list[tuple[str, TensorType]]:
    weight = g.input.with_shape((g.outputs, g.inputs_per_group, *g.kernel))
    x, dy, w = ("x", g.input), ("dy", g.output), ("w", weight)
    return {"forward": [x, w], "input": [dy, w], "weight": [x, dy]}[kind]


def model(form: Form, g: Geometry, inputs: Sequence[tuple[str, TensorType]], target: Target) -> onnx.ModelProto:
    names = NameSpace()
    values = {Value(n, t): names.take(n) for n, t in inputs}
    emitter = NodeEmitter(21, names, values, target)
    result = form.emit(emitter, g, *(n for n, _ in inputs))
    emitter.identity(result, "result")
    initializers = [onnx.numpy_helper.from_array(t.array({}), t.name) for t in emitter.pool.used]
    output = onnx.ValueInfoProto(name="result")
    output.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    infos = [value_info(n, t) for n, t in inputs]
    graph = onnx.helper.make_graph(emitter.nodes, form.name, infos, [output], initializers)
    opsets = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid(DOMAIN, 1)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSIONS[21])


def runner(proto: onnx.ModelProto, arrays: dict[str, np.ndarray], target: Target) -> Callable[[], Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = target.threads
    provider = "CUDAExecutionProvider" if target.device == "cuda" else "CPUExecutionProvider"
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=[provider])
    binding = session.io_binding()
    for name, array in arrays.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array, target.device, 0))
    binding.bind_output("result", target.device)

    def run() -> Any:
        session.run_with_iobinding(binding)
        return binding

    return run


def reference(kind: str, shape: Shape, arrays: dict[str, np.ndarray]) -> Callable[[], object] | None:
    if torch is None:
        return None
    t = {n: torch.from_numpy(a) for n, a in arrays.items()}
    s, p = [shape.stride] * 2, [shape.kernel // 2] * 2
    if kind == "forward":
        return lambda: torch.conv2d(t["x"], t["w"], None, s, p, 1, shape.groups)
    g = shape.geometry(Target())
    x = t.get("x", torch.zeros(g.images, g.channels, *g.sizes(g.size)))
    w = t.get("w", torch.zeros(g.outputs, g.inputs_per_group, *g.kernel))
    mask = [kind == "input", kind == "weight", False]
    back = torch.ops.aten.convolution_backward
    return lambda: back(t["dy"], x, w, None, s, p, [1, 1], False, [0, 0], shape.groups, mask)


def measure(kind: str, shape: Shape, target: Target, repeat: int, cold: bool, verbose: bool) -> None:
    g = shape.geometry(target)
    rng = np.random.default_rng(0)
    inputs = operands(kind, g)
    arrays = {n: rng.standard_normal(t.shape).astype(np.float32) for n, t in inputs}  # type: ignore[arg-type]  # static
    other = reference(kind, shape, arrays) if target.device == "cpu" else None
    memory = np.zeros(1 << 26 if cold else 0, np.float32)
    unit = best(other, repeat, memory) if other else 1e-3
    times: dict[str, float] = {}
    results = []
    for form in KINDS[kind]:
        if form.applies(g):
            run = runner(model(form, g, inputs, target), arrays, target)
            times[form.name] = best(run, repeat, memory)
            results.append(run().copy_outputs_to_cpu()[0])
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], rtol=1e-2, atol=1e-2)
    others = {k: choose(KINDS[k], g, target) for k in KINDS if k != kind}
    picked, fastest = choose(KINDS[kind], g, target, others).name, min(times, key=lambda n: times[n])
    text = "  ".join(f"{n} {t / unit:.2f}" + ("*" if n == picked else "") for n, t in times.items())
    guess = " ".join(f"{f.name} {seconds(f.work(g), target) * 1e3:.3f}" for f in KINDS[kind] if f.applies(g))
    real = " ".join(f"{n} {t * 1e3:.3f}" for n, t in times.items())
    print(f"{kind:8} {shape!s:28} torch {unit * 1e3:7.3f}  {text}  [{times[picked] / times[fastest]:.2f}]", flush=True)
    if verbose:
        print(f"         measured {real}\n         model    {guess}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--only", choices=list(KINDS))
    parser.add_argument("--shapes", default="", metavar="TEXT")
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--standard", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    if torch is not None:
        torch.set_num_threads(arguments.threads)
    block = channel_block() if arguments.device == "cpu" and not arguments.standard else 0
    target = Target(arguments.device, arguments.threads, block=block)
    for kind in [arguments.only] if arguments.only else KINDS:
        for shape in SHAPES:
            if arguments.shapes in str(shape):
                measure(kind, shape, target, arguments.repeat, arguments.cold, arguments.verbose)


if __name__ == "__main__":
    main()
