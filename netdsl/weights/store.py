"""Parameters' values: from a checkpoint, or drawn when they are needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from math import prod
from typing import Any

import numpy as np

from netdsl.ir.graph import Parameter
from netdsl.ir.initializer import Initializer
from netdsl.ir.types import NDArrayAny
from netdsl.weights.checkpoint import Checkpoint
from netdsl.weights.initializers import CHUNK, Distribution, distribution, fill, orthogonalise
from netdsl.weights.mapping import check_names, convert
from netdsl.weights.sizes import static_shape

SMALL = 1 << 15  # elements below which handing a draw to a thread costs more than it saves


class Pending:
    """An array that may still be in the making."""

    def __init__(self, parts: Iterable[Future[Any]], finish: Callable[[], NDArrayAny]) -> None:
        self._parts = tuple(parts)
        self._finish = finish

    def result(self) -> NDArrayAny:
        """The array, once it is complete. Raises what its making raised."""
        for part in self._parts:
            part.result()
        return self._finish()


class WeightStore:
    """The values of a network's parameters, one at a time: nothing is kept, so that no more is in memory than is asked
    for.

    With a `checkpoint`, every parameter is read from it under its own name; without one each is drawn from `seed` and
    its name. `threads` draw at the same time (default: one per core); their number changes no value. Raises
    DiagnosticError where the checkpoint lacks a name or holds another shape or element type under it.
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        *,
        seed: int = 0,
        checkpoint: Checkpoint | None = None,
        threads: int | None = None,
    ) -> None:
        self.parameters = tuple(parameters)
        self.seed = seed
        self.checkpoint = checkpoint
        self.threads = threads or min(16, os.cpu_count() or 1)
        #: remarks on what was converted, for the user
        self.notes = check_names(self.parameters, checkpoint) if checkpoint is not None else ()
        self._pool: ThreadPoolExecutor | None = None
        self._initial: Callable[[Initializer], Initializer] = lambda init: init
        self._given: Mapping[str, NDArrayAny] = {}

    def with_values(self, arrays: Mapping[str, NDArrayAny]) -> WeightStore:
        """A store with these arrays as the values of the parameters that they are named after, all others as here."""
        store = WeightStore(self.parameters, seed=self.seed, checkpoint=self.checkpoint, threads=self.threads)
        store._initial, store._given = self._initial, {**self._given, **arrays}
        return store

    def perturbed(self) -> WeightStore:
        """A store in which nothing is trivial: what would start as a constant (biases, running statistics, scales) is
        drawn too. For comparing graphs: with mean 0 and variance 1 a batch norm that is lost would go unseen."""
        store = WeightStore(self.parameters, seed=self.seed, checkpoint=self.checkpoint, threads=self.threads)
        store._initial = _perturbed
        return store

    def array(self, parameter: Parameter) -> NDArrayAny:
        """The parameter's value, of its element type and shape. Do not write to it."""
        return self.start(parameter).result()

    def start(self, parameter: Parameter) -> Pending:
        """Begins to draw or read a parameter on the store's threads."""
        given = self._given.get(parameter.name)
        if given is not None:
            return Pending((), lambda: given)
        if self.checkpoint is not None:
            checkpoint = self.checkpoint
            return self._read(parameter, checkpoint)
        shape = static_shape(parameter.value.type)
        dtype = parameter.value.dtype
        drawn = distribution(self._initial(parameter.initializer) if dtype.is_float else parameter.initializer)
        if drawn.kind == "constant":
            return Pending((), lambda: np.full(shape, drawn.a).astype(dtype.numpy))
        return self._draw(parameter.name, shape, dtype.numpy, drawn)

    def _draw(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], drawn: Distribution) -> Pending:
        """Chunks are drawn in float32 (float64 for float64) and rounded to narrower types."""
        wide = np.dtype(np.float64) if dtype == np.float64 else np.dtype(np.float32)
        out: NDArrayAny = np.empty(prod(shape), dtype)
        whole = drawn.kind == "orthogonal"  # needs all its numbers at once, unrounded
        target = np.empty(prod(shape), wide) if whole else out

        def chunk(number: int) -> None:
            part = target[number * CHUNK : (number + 1) * CHUNK]
            if part.dtype == wide:
                fill(part, drawn, self.seed, name, number)
            else:
                values = np.empty(part.size, wide)
                fill(values, drawn, self.seed, name, number)
                part[...] = values

        def finish() -> NDArrayAny:
            if whole:
                return orthogonalise(target.reshape(shape), drawn.a).astype(dtype, copy=False)
            return out.reshape(shape)

        chunks = range(-(-out.size // CHUNK))
        if out.size < SMALL or self.threads == 1:
            for number in chunks:
                chunk(number)
            return Pending((), finish)
        return Pending([self._executor.submit(chunk, number) for number in chunks], finish)

    def _read(self, parameter: Parameter, checkpoint: Checkpoint) -> Pending:
        read = self._executor.submit(lambda: convert(checkpoint.read(parameter.name), parameter.value.dtype))
        return Pending((), read.result)

    @property
    def _executor(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="netdsl-weights")
        return self._pool


def _perturbed(init: Initializer) -> Initializer:
    """Constants become uniform draws around them, of the same sign."""
    drawn = distribution(init)
    if drawn.kind != "constant":
        return init
    if drawn.a == 0:
        return Initializer("uniform", (-0.5, 0.5))
    low, high = sorted((0.5 * drawn.a, 1.5 * drawn.a))
    return Initializer("uniform", (low, high))
