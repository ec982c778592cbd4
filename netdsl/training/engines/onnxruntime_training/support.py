"""Which operators onnxruntime-training 1.19.2 differentiates in the form in which netdsl writes them anyway.

The tests ask the engine: every case of every operator is differentiated by it and compared with netdsl's own rule.
"""

from __future__ import annotations

#: gradient as it is
NATIVE = frozenset(
    {
        "abs",
        "add",
        "cast",
        "channel_shuffle",
        "clip",
        "concat",
        "cos",
        "dense",
        "div",
        "embedding",
        "engine_batch_norm",
        "engine_conv",
        "erf",
        "exp",
        "expand",
        "flatten",
        "gather",
        "gelu",
        "global_avg_pool",
        "identity",
        "leaky_relu",
        "log",
        "log_softmax",
        "max_unpool",
        "maximum",
        "mean",
        "minimum",
        "mul",
        "neg",
        "relu6",
        "reshape",
        "rms_norm",
        "rsqrt",
        "sigmoid",
        "silu",
        "sin",
        "softmax",
        "sqrt",
        "squeeze",
        "sub",
        "sum",
        "switchable_norm",
        "take_along",
        "tanh",
        "tile",
        "top_k",
        "transpose",
        "unslice",
        "unsqueeze",
        "variance",
    }
)
