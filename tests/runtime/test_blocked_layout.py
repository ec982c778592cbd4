"""ONNX Runtime's own layout: found, refused where it is another, and used for training on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from netdsl.ir.types import NDArrayAny
from netdsl.ops.convolution_blocked import DOMAIN
from netdsl.runtime import blocked_layout
from netdsl.runtime.blocked_layout import channel_block
from netdsl.syntax.read import read_source
from netdsl.training.engines.standard import StandardEngine
from netdsl.training.initial import initial_weights
from netdsl.training.job import export_job, make_job

pytest.importorskip("onnxruntime")

PROGRAM = read_source(Path(__file__).parents[2] / "examples" / "resnet_digits.net")


@pytest.fixture
def probed_anew() -> Any:
    channel_block.cache_clear()
    yield
    channel_block.cache_clear()


def test_the_block_is_a_power_of_two_or_there_is_none() -> None:
    assert channel_block() in {0, 4, 8, 16, 32}


@pytest.mark.usefixtures("probed_anew")
@pytest.mark.parametrize("fault", ["no such operator", "wrong numbers"])
def test_a_runtime_without_it_gets_standard_operators(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    real = blocked_layout._run

    def broken(runtime: Any, nodes: list[str], arrays: dict[str, NDArrayAny], **last: Any) -> NDArrayAny:
        if fault == "no such operator":
            raise RuntimeError("com.microsoft.nchwc:ReorderInput(-1) is not a registered function/op")
        return np.add(real(runtime, nodes, arrays, **last), 1)

    monkeypatch.setattr(blocked_layout, "_run", broken)
    assert channel_block() == 0
    assert domains(trained_step()) == {""}


def trained_step() -> onnx.ModelProto:
    """What the standard engine runs to train a network with batch norm and convolutions of 16 channels and more."""
    job = make_job(PROGRAM)
    engine = StandardEngine(job.recipe, job.graph, initial_weights(job.recipe, job.graph, Path()), device="cpu")
    try:
        return engine._models.step(dict.fromkeys(engine.trainable, 0), "only").proto
    finally:
        engine.close()


def domains(model: onnx.ModelProto) -> set[str]:
    found = {node.domain for node in model.graph.node}
    assert found == {opset.domain for opset in model.opset_import}
    return found


def test_the_engine_trains_in_it_and_files_hold_standard_operators(tmp_path: Path) -> None:
    assert domains(trained_step()) == ({"", DOMAIN} if channel_block() else {""})
    export_job(make_job(PROGRAM), tmp_path)
    for name in ("train_step.onnx", "eval.onnx"):
        assert domains(onnx.load(tmp_path / name)) == {""}
