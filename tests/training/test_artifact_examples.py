"""The C++ program that `compile --training` writes: its types by a compiler, and a run where ONNX Runtime's C++ header
is installed (`ONNXRUNTIME_INCLUDE` names another place for it)."""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from netdsl.ir.types import DType, TensorType
from netdsl.source import SourceFile
from netdsl.training.artifact_examples import ExampleBatch, cpp_example
from netdsl.training.job import export_job, make_job

HEADER = "onnxruntime_cxx_api.h"
STUB = Path(__file__).parent / "stub"
PLACES = (os.environ.get("ONNXRUNTIME_INCLUDE", ""), *(f"/usr{local}/include/onnxruntime" for local in ("", "/local")))
COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")

PROGRAM = """
network Small {
    input x: float32[N, 6]
    output y = x -> dense(8) as first -> batch_norm -> relu -> dropout(0.1) -> dense(3) as last
}
train Small {
    target t: int64[N]
    loss = cross_entropy(y, t)
    metric accuracy = accuracy(y, t)
    optimizer = adam(lr=0.01)
}
"""


def compiled(*arguments: object) -> None:
    command = [str(COMPILER), "-std=c++17", "-Wall", "-Wextra", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr


@needs_compiler
def test_it_compiles_for_every_type_of_input(tmp_path: Path) -> None:
    types = {f"of_{dtype}": TensorType(dtype, (2, 3)) for dtype in DType}
    program = tmp_path / "train.cpp"
    program.write_text(cpp_example(ExampleBatch(types, {"of_int64": 7}, 1e-05)))
    compiled("-fsyntax-only", "-I", STUB, program)


def library() -> Path | None:
    """The shared library of the installed package."""
    spec = find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        return None
    return next((Path(spec.origin).parent / "capi").glob("libonnxruntime.so.*"), None)


@needs_compiler
def test_it_runs(tmp_path: Path) -> None:
    include = next((p for p in PLACES if p and (Path(p) / HEADER).exists()), None)
    shared = library()
    if include is None or shared is None:
        pytest.skip("ONNX Runtime's C++ header is not installed")
    export_job(make_job(SourceFile("small.net", PROGRAM)), tmp_path)
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (tmp_path / name).symlink_to(shared)
    program = tmp_path / "train"
    compiled("-I", include, tmp_path / "train.cpp", f"-L{tmp_path}", "-lonnxruntime", "-o", program)
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run([program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    losses = [float(line.split()[-1]) for line in done.stdout.splitlines()]
    assert len(losses) == 10 and losses[-1] < losses[0]
