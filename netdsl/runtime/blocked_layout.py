"""Which blocks ONNX Runtime computes convolutions in, on this machine: found by a model of two nodes."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from netdsl.ir.types import NDArrayAny
from netdsl.ops.convolution_blocked import DOMAIN, UNIT
from netdsl.runtime.session import runtime_module


@cache
def channel_block() -> int:
    """How many channels a block has: 16 with AVX-512, 8 on older processors; 0 where this ONNX Runtime has no such
    layout, or one that is not as `ops.convolution_blocked` describes it. Raises EnvironmentLack without ONNX
    Runtime."""
    runtime = runtime_module()
    rng = np.random.default_rng(0)
    picture = rng.random((1, UNIT, 3, 3), np.float32)
    try:
        blocked = _run(runtime, ["ReorderInput"], {"x": picture})
        block = blocked.shape[1]
        weight = rng.random((block, block, 3, 3), np.float32)
        kernel = weight.reshape(block, block, 9).transpose(2, 1, 0).reshape(weight.shape)
        y = _run(runtime, ["Conv", "ReorderOutput"], {"x": blocked, "w": kernel}, channels=block)
    except Exception:  # whatever it is, standard operators do
        return 0
    expected = np.einsum("nchw,ochw->no", picture, weight[:, :UNIT])
    return block if block > 1 and y.shape[2:] == (1, 1) and np.allclose(y[:, :, 0, 0], expected, rtol=1e-4) else 0


def _run(runtime: Any, nodes: list[str], arrays: dict[str, NDArrayAny], **last: Any) -> NDArrayAny:
    """The result of operators of the layout one after the other; `arrays` go to the first, `last` are attributes."""
    protos, names = [], list(arrays)
    for name in nodes:
        attributes = last if name == nodes[-1] else {}
        protos.append(helper.make_node(name, names, [name], domain=DOMAIN, **attributes))
        names = [name]
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in arrays.items()]
    output = helper.make_tensor_value_info(nodes[-1], TensorProto.FLOAT, [None] * 4)
    graph = helper.make_graph(protos, "blocks", infos, [output])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    result: NDArrayAny = session.run(None, arrays)[0]
    return result
