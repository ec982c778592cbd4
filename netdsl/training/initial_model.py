"""`init.onnx`: a model without inputs whose outputs are the state before the first step.

So a program gets its first state from ONNX Runtime, as tensors, and needs no reader of `init.safetensors`: the model
names the place of each array in that file (ONNX's external data).
"""

from __future__ import annotations

from onnx import ModelProto, OperatorSetIdProto, TensorProto

from netdsl.ir.types import TensorType
from netdsl.onnx.emit import ONNX_TYPES
from netdsl.onnx.lower import IR_VERSIONS, value_info
from netdsl.version import __version__
from netdsl.weights import SafetensorsCheckpoint


def initial_model(checkpoint: SafetensorsCheckpoint, opset: int) -> ModelProto:
    """The model of all arrays of a checkpoint that stands beside it. Its outputs are the constants themselves."""
    model = ModelProto(ir_version=IR_VERSIONS[opset], producer_name="netdsl", producer_version=__version__)
    model.opset_import.append(OperatorSetIdProto(domain="", version=opset))
    model.graph.name = "init"
    for name, entry in checkpoint.entries.items():
        assert entry.dtype is not None
        begin, end = checkpoint.place(name)
        tensor = TensorProto(name=name, dims=entry.shape, data_type=ONNX_TYPES[entry.dtype])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", checkpoint.path.name), ("offset", begin), ("length", end - begin)):
            tensor.external_data.add(key=key, value=str(value))
        model.graph.initializer.append(tensor)
        model.graph.output.append(value_info(name, TensorType(entry.dtype, entry.shape)))
    return model
