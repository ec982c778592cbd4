"""The loss and the metrics of a data set, in inference mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from netdsl.ir.recipe import MetricSpec
from netdsl.training.data import Dataset
from netdsl.training.engines.base import Engine
from netdsl.training.loader import Loader
from netdsl.training.metrics import Accumulator, MetricValue, metric_json


@dataclass(frozen=True)
class Evaluation:
    loss: float
    metrics: Mapping[str, MetricValue]

    def scalars(self) -> dict[str, float]:
        """The loss and the metrics that are numbers."""
        numbers = {name: value for name, value in self.metrics.items() if isinstance(value, float)}
        return {"loss": self.loss, **numbers}

    def as_json(self) -> dict[str, Any]:
        """`{"loss": …, "metrics": {"accuracy": …}}`; what is not finite becomes null."""
        metrics = {name: metric_json(value) for name, value in self.metrics.items()}
        return {"loss": metric_json(self.loss), "metrics": metrics}


class Interrupted(Exception):
    """Somebody asked for the end while a data set was evaluated."""


def evaluate(
    engine: Engine,
    dataset: Dataset,
    metrics: Sequence[MetricSpec],
    batch: int,
    *,
    stop: Callable[[], bool] = lambda: False,
    seen: Callable[[int], None] = lambda items: None,
) -> Evaluation:
    """Evaluates every item once, `batch` at a time. `seen` hears of the items done, `stop` is asked before each batch:
    where it says true, Interrupted is raised."""
    accumulator = Accumulator(metrics)
    with Loader(dataset, batch) as loader:
        for part in loader:
            if stop():
                raise Interrupted
            result = engine.evaluate(part.arrays)
            accumulator.add(result.loss, result.statistics, part.items)
            seen(part.items)
    return Evaluation(accumulator.loss, accumulator.results())


def finite(numbers: Mapping[str, float]) -> dict[str, float | None]:
    """Numbers for JSON, which has neither NaN nor infinity."""
    return {name: value if isfinite(value) else None for name, value in numbers.items()}
