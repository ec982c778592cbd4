"""Networks of the parity tests, and batches for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from netdsl.ir.types import NDArrayAny
from netdsl.source import SourceFile
from netdsl.training.engines.onnxruntime_training.engine import OrtTrainingEngine
from netdsl.training.engines.standard import StandardEngine
from netdsl.training.initial import initial_weights
from netdsl.training.job import Job, make_job

SMALL = """
network Small {{
    input image: float32[N, 3, 8, 8]
    x = image -> conv(8, 3, padding=1, bias=false) as first -> batch_norm as bn -> {activation}
    x = x -> max_pool(2) -> conv(8, 3, padding="same") as second -> relu -> dropout({dropout})
    output logits = x -> global_avg_pool -> flatten -> dense(4) as head
}}
train Small {{
    target label: int64[N]
    loss = cross_entropy(logits, label)
    metric accuracy = accuracy(logits, label)
    optimizer = {optimizer}
    epochs = 2
    batch = 8
    {more}
}}
"""


def small(
    *, activation: str = "relu", dropout: float = 0.2, optimizer: str = "sgd(0.05, momentum=0.9)", more: str = ""
) -> Job:
    """A network with the layers that the engine treats specially."""
    text = SMALL.format(activation=activation, dropout=dropout, optimizer=optimizer, more=more)
    return job_of(text)


def job_of(text: str, **settings: Any) -> Job:
    return make_job(SourceFile("small.net", text), settings=settings)


def batch_of(job: Job, items: int = 8, seed: int = 0, classes: int = 4) -> dict[str, NDArrayAny]:
    rng = np.random.default_rng(seed)
    batch: dict[str, NDArrayAny] = {}
    for value in job.graph.inputs:
        shape = [d if isinstance(d, int) else items for d in value.shape]
        whole = rng.integers(0, classes, shape).astype(value.dtype.numpy) if not value.dtype.is_float else None
        batch[value.name] = rng.normal(size=shape).astype(np.float32) if whole is None else whole
    return batch


def engines(job: Job, weights: Mapping[str, NDArrayAny] | None = None) -> tuple[StandardEngine, OrtTrainingEngine]:
    """Both, from the same weights, on one thread."""
    if weights is None:
        weights = initial_weights(job.recipe, job.graph, Path())
    made = [
        kind(job.recipe, job.graph, weights, device="cpu", threads=1) for kind in (StandardEngine, OrtTrainingEngine)
    ]
    assert isinstance(made[1], OrtTrainingEngine)
    return made[0], made[1]


def with_rate(job: Job, rate: float) -> Job:
    arguments = {**job.recipe.optimizer.arguments, "lr": rate}
    return replace(job, recipe=replace(job.recipe, optimizer=replace(job.recipe.optimizer, arguments=arguments)))
