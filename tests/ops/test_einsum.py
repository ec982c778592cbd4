"""What einsum counts, infers and how it reads equations."""

from __future__ import annotations

import pytest

from netdsl.cost.node import node_cost
from netdsl.ir.dims import symbol
from netdsl.ir.opdef import OpError
from tests.ops.building import Bench, tensor


def _einsum(equation: str, *shapes: tuple[int | str, ...]) -> Bench:
    bench = Bench(*(tensor("float32", *shape) for shape in shapes))
    bench.call("einsum", equation, operands=list(bench.inputs))
    return bench


#: MACs and other operations, as matrix products would have them
COSTS = {
    "ij,jk->ik": ([(3, 4), (4, 5)], 3 * 4 * 5, 0),
    "bij,bjk->bik": ([(2, 3, 4), (2, 4, 5)], 2 * 3 * 4 * 5, 0),
    "ij->ji": ([(3, 4)], 0, 0),
    "ij->i": ([(3, 4)], 0, 12),
    "ijx,jk->ik": ([(3, 4, 7), (4, 5)], 3 * 4 * 5, 3 * 4 * 7),
    "ab,bc,cd->ad": ([(2, 3), (3, 4), (4, 5)], 2 * 3 * 4 + 2 * 4 * 5, 0),
    "...ij,jk->...ik": ([(6, 3, 4), (4, 5)], 6 * 3 * 4 * 5, 0),
}


@pytest.mark.parametrize("equation", COSTS)
def test_cost(equation: str) -> None:
    shapes, macs, other = COSTS[equation]
    cost = node_cost(_einsum(equation, *shapes).builder.nodes[-1])
    assert (cost.macs, cost.other) == (macs, other)


def test_cost_is_matmuls() -> None:
    matmul = Bench(tensor("float32", "N", "L", 8), tensor("float32", "N", 8, "S"))
    matmul.call("matmul", *matmul.inputs)
    einsum = _einsum("nld,nds->nls", ("N", "L", 8), ("N", 8, "S"))
    assert node_cost(matmul.builder.nodes[-1]) == node_cost(einsum.builder.nodes[-1])


def test_symbols_are_kept() -> None:
    found = _einsum("...ld,...sd->...ls", ("N", 4, "L", 8), ("N", 1, "S", 8)).builder.nodes[-1].output
    assert found.shape == (symbol("N"), 4, symbol("L"), symbol("S"))


@pytest.mark.parametrize(
    "equation, within", [("ij,j%->i", (4, 5)), ("ij,ij->ix", (8, 9)), ("i j , ij -> ii", (13, 14))]
)
def test_the_place_of_a_fault(equation: str, within: tuple[int, int]) -> None:
    with pytest.raises(OpError) as caught:
        _einsum(equation, (3, 4), (3, 4))
    assert caught.value.within == within
