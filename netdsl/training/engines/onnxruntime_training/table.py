"""The table of the documentation: which engine trains through which operator."""

from __future__ import annotations

from netdsl.ops import PRIMITIVES
from netdsl.training.engines.onnxruntime_training.convert import ALL_FORMS
from netdsl.training.engines.onnxruntime_training.forms import pointwise, reduction
from netdsl.training.engines.onnxruntime_training.support import NATIVE

#: operators that have another form in training, of operators that have gradients
_IN_TRAINING = frozenset({"dropout", "drop_path"})


def support_table() -> str:
    """A row for every operator of the language, as Markdown."""
    rows = ["| operator | standard | onnxruntime-training |", "| --- | --- | --- |"]
    for name, op in sorted(PRIMITIVES.items()):
        if op.family != "internal":
            rows.append(f"| `{name}` | {'yes' if op.differentiable else 'no gradient exists'} | {_support(name)} |")
    return "\n".join(rows) + "\n"


def _support(name: str) -> str:
    if not PRIMITIVES[name].differentiable:
        return "no gradient exists"
    if name == "conv" or name in NATIVE:
        return "yes"
    if name in _IN_TRAINING:
        return "by decomposition"
    form = ALL_FORMS.get(name)
    if form is None:
        return "no"
    return "by netdsl's derivative" if form in (pointwise, reduction) else "by decomposition"
