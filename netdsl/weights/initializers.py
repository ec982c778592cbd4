"""Draws the first values of a parameter.

A draw depends on the seed and the parameter's own name alone. It is cut into chunks of `CHUNK` elements, each from a
random stream of its own whose key is a hash of seed, name and chunk, so that chunks may be drawn in any order, by any
number of threads, with the same result.

| initializer | values |
| --- | --- |
| `zeros`, `ones`, `constant(value)` | that number |
| `uniform(low, high)` | uniform in [low, high) |
| `normal(mean, std)` | normal |
| `truncated_normal(mean, std)` | normal; what lies further than 2 std from the mean is drawn again (Keras): 0.88 std |
| `xavier_*` | std = sqrt(2 / (fan_in + fan_out)) (Glorot & Bengio 2010) |
| `he_*` | std = sqrt(2 / fan_in) (He et al. 2015) |
| `lecun_*` | std = sqrt(1 / fan_in) (LeCun et al. 1998) |
| `orthogonal(gain)` | `[shape[0], rest]`: orthonormal rows, or columns if fewer, times gain (Saxe et al. 2014) |

The `_uniform` forms are uniform in ±sqrt(3) std, the `_normal` forms normal with mean 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from math import sqrt
from typing import Any, Literal

import numpy as np

from netdsl.ir.initializer import Initializer
from netdsl.ir.types import NDArrayAny

CHUNK = 1 << 20
TRUNCATED_AT = 2.0  # standard deviations

Kind = Literal["constant", "uniform", "normal", "truncated", "orthogonal"]


@dataclass(frozen=True, slots=True)
class Distribution:
    """`constant`: a; `uniform`: from a to b; `normal`, `truncated`: mean a, deviation b; `orthogonal`: gain a."""

    kind: Kind
    a: float
    b: float = 0.0


_VARIANCE: dict[str, Callable[[Initializer], float]] = {
    "xavier": lambda init: 2.0 / (init.fan_in + init.fan_out),
    "he": lambda init: 2.0 / init.fan_in,
    "lecun": lambda init: 1.0 / init.fan_in,
}


def distribution(init: Initializer) -> Distribution:
    """What an initializer draws, its defaults and fans put in. Raises KeyError for a name that does not exist."""
    defaults = [default for _, default in Initializer.SIGNATURES[init.name]]
    arguments = [*init.arguments, *defaults[len(init.arguments) :]]
    values = [float(a) for a in arguments if a is not None]
    match init.name:
        case "zeros":
            return Distribution("constant", 0.0)
        case "ones":
            return Distribution("constant", 1.0)
        case "constant" | "orthogonal":
            return Distribution(init.name, values[0])
        case "uniform" | "normal":
            return Distribution(init.name, *values)
        case "truncated_normal":
            return Distribution("truncated", *values)
    scheme, _, shape = init.name.partition("_")
    std = sqrt(_VARIANCE[scheme](init))
    limit = sqrt(3) * std
    return Distribution("normal", 0.0, std) if shape == "normal" else Distribution("uniform", -limit, limit)


def stream(seed: int, name: str, chunk: int) -> np.random.Generator:
    """The random stream of one chunk of one parameter."""
    key = blake2b(f"{seed}/{chunk}/{name}".encode(), digest_size=16, person=b"netdsl weights").digest()
    return np.random.Generator(np.random.SFC64(int.from_bytes(key, "little")))


def fill(out: NDArrayAny, drawn: Distribution, seed: int, name: str, chunk: int) -> None:
    """Fills `out`, the flat float32 or float64 elements of a chunk, with draws of a distribution (`orthogonal`: the
    normal numbers that `orthogonalise` takes)."""
    values: Any = out
    random = stream(seed, name, chunk)
    match drawn.kind:
        case "uniform":
            random.random(out=values, dtype=values.dtype)
            values *= values.dtype.type(drawn.b - drawn.a)
            values += values.dtype.type(drawn.a)
            return
        case "orthogonal":
            random.standard_normal(out=values, dtype=values.dtype)
            return
        case "truncated":
            _standard_truncated(random, values)
        case _:
            random.standard_normal(out=values, dtype=values.dtype)
    values *= values.dtype.type(drawn.b)
    if drawn.a:
        values += values.dtype.type(drawn.a)


def _standard_truncated(random: np.random.Generator, values: Any) -> None:
    random.standard_normal(out=values, dtype=values.dtype)
    outside = np.flatnonzero(np.abs(values) > TRUNCATED_AT)
    while outside.size:
        again = random.standard_normal(outside.size, dtype=values.dtype)
        values[outside] = again
        outside = outside[np.abs(again) > TRUNCATED_AT]


def orthogonalise(normal: NDArrayAny, gain: float) -> NDArrayAny:
    """The orthogonal factor of a normal array seen as a matrix `[shape[0], rest]`, its signs fixed so that the draw is
    uniform over such matrices (Mezzadri 2007)."""
    rows = normal.shape[0] if normal.ndim else 1
    matrix: Any = normal.reshape(rows, -1)
    if matrix.size == 0:
        return normal
    wide = matrix.shape[0] < matrix.shape[1]
    q, r = np.linalg.qr(matrix.T if wide else matrix)
    q *= np.where(np.diagonal(r) < 0, -gain, gain).astype(q.dtype)
    result: NDArrayAny = np.ascontiguousarray(q.T if wide else q).reshape(normal.shape).astype(normal.dtype, copy=False)
    return result
