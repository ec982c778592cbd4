from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic, sleep

import numpy as np
import pytest

from netdsl.diagnostics import DiagnosticError
from netdsl.ir.types import NDArrayAny
from netdsl.training.data import Dataset
from netdsl.training.data.columns import ArrayColumn, Column
from netdsl.training.loader import AHEAD, Loader, batch_bounds, check_batches


class Slow(Column):
    """Counts what is read of it, or fails."""

    def __init__(self, items: int, act: Callable[[int], None] = lambda reads: None) -> None:
        self.shape, self.dtype = (items,), np.dtype(np.int64)
        self.reads, self._act = 0, act

    def read(self, indices: NDArrayAny) -> NDArrayAny:
        self.reads += 1
        self._act(self.reads)
        return np.asarray(indices)


def numbers(items: int) -> Dataset:
    return Dataset({"i": ArrayColumn(np.arange(items))}, "memory")


def batches(items: int, batch: int, **options: int) -> list[list[int]]:
    with Loader(numbers(items), batch, **options) as loader:
        return [b.arrays["i"].tolist() for b in loader]


def test_in_order_with_the_last_partial_batch() -> None:
    assert batches(7, 3) == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.parametrize("items, batch, sizes", [(7, 3, [3, 4]), (8, 3, [3, 3, 2]), (6, 3, [3, 3]), (1, 3, [1])])
def test_a_last_batch_of_one_joins_the_one_before(items: int, batch: int, sizes: list[int]) -> None:
    assert [end - begin for begin, end in batch_bounds(items, batch, 2)] == sizes


def test_a_batch_of_one_is_refused() -> None:
    with pytest.raises(DiagnosticError, match="batch = 1 gives batches of 1: a batch norm"):
        check_batches(numbers(9), 1, 2)
    with pytest.raises(DiagnosticError, match="a data set of 1 gives"):
        check_batches(numbers(1), 32, 2)
    check_batches(numbers(9), 1, 1)
    check_batches(numbers(9), 2, 2)


def test_the_order_is_of_seed_and_epoch() -> None:
    first = batches(50, 8, seed=4, epoch=1)
    assert sorted(i for batch in first for i in batch) == list(range(50))
    assert first == batches(50, 8, seed=4, epoch=1)
    assert first != batches(50, 8, seed=4, epoch=2)
    assert first != batches(50, 8, seed=5, epoch=1)
    assert first[3:] == batches(50, 8, seed=4, epoch=1, start=3)
    assert batches(5, 5, seed=-1)[0] != batches(5, 5)[0]


def test_the_order_never_changes() -> None:
    """A resumed run counts on it, whatever the version of NumPy."""
    assert batches(10, 10, seed=0, epoch=0) == [[0, 2, 9, 1, 8, 5, 4, 3, 6, 7]]


def test_no_more_is_read_ahead_than_fits() -> None:
    column = Slow(1000)
    with Loader(Dataset({"i": column}, "slow"), 1) as loader:
        next(iter(loader))
        limit = monotonic() + 5
        while column.reads < AHEAD + 2 and monotonic() < limit:
            sleep(0.01)
        sleep(0.05)
        assert column.reads == AHEAD + 2  # one taken, those that wait, and one in hand
    assert not any(t.name == "netdsl-loader" for t in threading.enumerate())


def test_an_error_of_the_thread_reaches_the_loop() -> None:
    def fail(reads: int) -> None:
        if reads == 3:
            raise OSError("gone")

    seen = []
    with pytest.raises(OSError, match="gone"), Loader(Dataset({"i": Slow(9, fail)}, "bad"), 1) as loader:
        for batch in loader:
            seen.append(batch.number)
    assert seen == [0, 1]
