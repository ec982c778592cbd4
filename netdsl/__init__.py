"""netdsl: a declarative language for neural networks, compiled to optimised ONNX.

    import netdsl
    model = netdsl.compile("resnet50.net", set={"classes": 10})
    model.save("resnet50.onnx")

Names are imported when first used, so that `import netdsl` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from netdsl.version import __version__

if TYPE_CHECKING:
    from netdsl.api import Model, compile, compile_source  # noqa: A004  # netdsl.compile is the API
    from netdsl.api_training import Trained, evaluate, export_training, train
    from netdsl.diagnostics import DiagnosticError

__all__ = [
    "DiagnosticError",
    "Model",
    "Trained",
    "__version__",
    "compile",
    "compile_source",
    "evaluate",
    "export_training",
    "train",
]

_HOMES = {
    "DiagnosticError": "netdsl.diagnostics",
    "Model": "netdsl.api",
    "Trained": "netdsl.api_training",
    "compile": "netdsl.api",
    "compile_source": "netdsl.api",
    "evaluate": "netdsl.api_training",
    "export_training": "netdsl.api_training",
    "train": "netdsl.api_training",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'netdsl' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
