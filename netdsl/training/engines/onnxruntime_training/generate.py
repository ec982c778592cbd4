"""Runs in the engine's process: its own generator of artefacts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.training import artifacts, onnxblock


class _Loss(onnxblock.Block):  # type: ignore[misc]  # the package has no types
    """The loss that the model computes itself."""

    def build(self, *outputs: str) -> str:
        return "loss"


def write(model: bytes, about: Mapping[str, Any]) -> None:
    """`about`: the `folder`, the names of parameters `trained` and `frozen`, the `outputs` besides the loss, and the
    `optimizer` with its arguments."""
    folder = Path(about["folder"])
    artifacts.generate_artifacts(
        onnx.load_from_string(model),
        requires_grad=list(about["trained"]),
        frozen_params=list(about["frozen"]),
        loss=_Loss(),
        optimizer=_optimizer(about["optimizer"], about["clip_norm"]),
        artifact_directory=folder,
        additional_output_names=list(about["outputs"]) or None,
    )
    path = folder / "optimizer_model.onnx"
    optimizer = onnx.load(path)
    for node in optimizer.graph.node:
        for attribute in node.attribute:
            if attribute.name == "adam_mode":
                attribute.i = 0  # PyTorch's AdamW; 1 is that of Hugging Face's transformers
    onnx.save(optimizer, path)


def _optimizer(arguments: Mapping[str, Any], clip_norm: float | None) -> Any:
    clip = onnxblock.optim.ClipGradNorm(clip_norm) if clip_norm is not None else None
    if arguments["name"] == "sgd":
        return onnxblock.optim.SGD(clip_grad=clip)
    betas = (arguments["beta1"], arguments["beta2"])
    decay = arguments["weight_decay"]
    return onnxblock.optim.AdamW(betas=betas, eps=arguments["eps"], weight_decay=decay, clip_grad=clip)
