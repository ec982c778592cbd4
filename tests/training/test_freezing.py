"""Which parameters are trained in which epoch, and since when."""

from __future__ import annotations

import pytest

from netdsl.ir.recipe import FreezeRule
from netdsl.training.freezing import trainable_at, trained_since
from tests.training.linear_engine import recipe

NAMES = ("stem.weight", "stem.bias", "head.weight")


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [
        (0, {"head.weight": 0}),
        (1, {"head.weight": 0}),
        (2, {"stem.bias": 2, "head.weight": 0}),
        (4, {"stem.weight": 4, "stem.bias": 2, "head.weight": 0}),
        (6, {"stem.weight": 4, "stem.bias": 2}),
        (7, {"stem.weight": 4, "stem.bias": 2, "head.weight": 7}),
    ],
)
def test_each_is_trained_since_the_epoch_of_its_last_unfreezing(epoch: int, expected: dict[str, int]) -> None:
    made = recipe(
        freeze=(FreezeRule("stem.*", 0), FreezeRule("head.*", 6)),
        unfreeze=(FreezeRule("stem.bias", 2), FreezeRule("stem.*", 4), FreezeRule("head.*", 7)),
    )
    assert trained_since(made, NAMES, epoch) == expected
    assert trainable_at(made, NAMES, epoch) == expected.keys()


def test_without_rules_all_are_trained_from_the_start() -> None:
    assert trained_since(recipe(), NAMES, 5) == dict.fromkeys(NAMES, 0)


def test_unfreeze_comes_after_freeze_in_the_same_epoch() -> None:
    made = recipe(freeze=(FreezeRule("*", 0),), unfreeze=(FreezeRule("head.*", 0),))
    assert trained_since(made, NAMES, 5) == {"head.weight": 0}
