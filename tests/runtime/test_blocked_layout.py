"""ONNX Runtime's own layout: found, refused where it is another, and used for training on a CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netdsl.ir.types import NDArrayAny
from netdsl.runtime import blocked_layout
from netdsl.runtime.blocked_layout import block_size
from netdsl.training.engines import standard

pytest.importorskip("onnxruntime")


@pytest.fixture
def probed_anew() -> Any:
    block_size.cache_clear()
    yield
    block_size.cache_clear()


def test_the_block_is_a_power_of_two_or_there_is_none() -> None:
    assert block_size() in {0, 4, 8, 16, 32}


@pytest.mark.usefixtures("probed_anew")
@pytest.mark.parametrize("fault", ["no such operator", "wrong numbers"])
def test_a_runtime_without_it_gets_standard_operators(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    real = blocked_layout._run

    def broken(runtime: Any, nodes: list[str], arrays: dict[str, NDArrayAny], **last: Any) -> NDArrayAny:
        if fault == "no such operator":
            raise RuntimeError("com.microsoft.nchwc:ReorderInput(-1) is not a registered function/op")
        return np.add(real(runtime, nodes, arrays, **last), 1)

    monkeypatch.setattr(blocked_layout, "_run", broken)
    assert block_size() == 0
    assert standard._target("cpu", 1).block == 0


def test_training_on_a_cpu_uses_it_and_on_a_gpu_does_not() -> None:
    assert standard._target("cpu", 1).block == block_size()
    assert standard._target("cuda", 1).block == 0
