"""Data sets: columns of equal length, by the names of a recipe's inputs and targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from netdsl.ir.types import NDArrayAny
from netdsl.training.data.columns import Column, Indices
from netdsl.training.data.faults import fault


class Dataset:
    """Items with an array for each name. `where` is what errors name; `class_names` are those of a folder of pictures,
    in the order of their ids; `vocabulary` is that of a text."""

    def __init__(
        self,
        columns: Mapping[str, Column],
        where: str,
        *,
        class_names: Sequence[str] = (),
        vocabulary: Sequence[str] = (),
    ) -> None:
        self.columns = MappingProxyType(dict(columns))
        self.where = where
        self.class_names, self.vocabulary = tuple(class_names), tuple(vocabulary)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def read(self, indices: Indices) -> dict[str, NDArrayAny]:
        """Those items, in that order: every array has `len(indices)` along axis 0."""
        return {name: column.read(indices) for name, column in self.columns.items()}


class Subset(Dataset):
    """Some of a data set's items."""

    def __init__(self, whole: Dataset, indices: Indices) -> None:
        super().__init__(whole.columns, whole.where, class_names=whole.class_names, vocabulary=whole.vocabulary)
        self._indices = indices

    def __len__(self) -> int:
        return len(self._indices)

    def read(self, indices: Indices) -> dict[str, NDArrayAny]:
        return super().read(self._indices[indices])


def shuffled(count: int, seed: int, stream: int) -> Indices:
    """0 to count - 1 in an order that seed and stream alone decide, in every version of NumPy."""
    keys = np.random.Philox(key=np.asarray([seed % 2**64, stream], np.uint64)).random_raw(count)
    return np.argsort(keys, kind="stable").astype(np.int64)


_SPLIT = 2**63  # a stream that no epoch has


def split(dataset: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    """The items to train on and a held-out `share` of them, drawn by seed. Raises DiagnosticError where one of the two
    would be empty."""
    held = round(len(dataset) * share)
    if not 0 < held < len(dataset):
        raise fault("empty-data", f"a share of {share:g} of {len(dataset)} items leaves one part empty", dataset.where)
    order = shuffled(len(dataset), seed, _SPLIT)
    return Subset(dataset, np.sort(order[held:])), Subset(dataset, np.sort(order[:held]))
