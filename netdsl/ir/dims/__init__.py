"""Symbolic integers: the sizes of axes, exact on `+ - * // %`, and the formulas of costs.

A dimension (`Dim`) is a Python int, or an `Expr` over symbols, which are positive integers known only at run time, and
over counts, which are not even known from the inputs' shapes.
"""

from netdsl.ir.dims.api import (
    ceil_div,
    dim_max,
    dim_min,
    evaluate,
    exact_div,
    product,
    solve,
    substitute,
    to_text,
)
from netdsl.ir.dims.decide import Op, bounds, decide, is_size, witnesses
from netdsl.ir.dims.expr import Dim, Expr, count, symbol
from netdsl.ir.dims.parse import parse_dim
from netdsl.ir.dims.terms import DimError, ZeroDivisorError

__all__ = [
    "Dim",
    "DimError",
    "Expr",
    "Op",
    "ZeroDivisorError",
    "bounds",
    "ceil_div",
    "count",
    "decide",
    "dim_max",
    "dim_min",
    "evaluate",
    "exact_div",
    "is_size",
    "parse_dim",
    "product",
    "solve",
    "substitute",
    "symbol",
    "to_text",
    "witnesses",
]
