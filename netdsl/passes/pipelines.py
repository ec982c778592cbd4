"""Which passes run, in which order, until when.

A level is a tuple of passes. They run in rounds until a round changes nothing, at most `MAX_ROUNDS` times; a pass that
has already seen a graph and left it alone does not look at it again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from netdsl.ir.graph import Graph
from netdsl.ir.verify import verify
from netdsl.ops import PRIMITIVES
from netdsl.passes.base import Pass
from netdsl.passes.common import CommonSubexpressions
from netdsl.passes.compose_activations import ComposeActivations
from netdsl.passes.compose_norms import ComposeGroupNorm, ComposeNorms
from netdsl.passes.dead_code import DeadCode
from netdsl.passes.dropout import RemoveDropout
from netdsl.passes.fold_backward import FoldBackward
from netdsl.passes.fold_constants import FoldConstants
from netdsl.passes.fold_forward import FoldBatchNorm, FoldScale
from netdsl.passes.fold_gradient_scale import FoldGradientScale
from netdsl.passes.fold_norm import FoldNorm
from netdsl.passes.fold_through import FoldThrough
from netdsl.passes.fuse_pointwise import FusePointwise
from netdsl.passes.identities import MergePairs, RemoveIdentities
from netdsl.passes.joins import Joins
from netdsl.passes.log import RewriteLog
from netdsl.passes.matmul_to_dense import MatMulToDense
from netdsl.passes.merge_branches import MergeBranches
from netdsl.passes.merge_padding import MergePadding
from netdsl.passes.merge_parallel import MergeParallel
from netdsl.passes.pool_first import PoolFirst
from netdsl.passes.slices import Slices

MAX_ROUNDS = 8

_CLEAN_UP: tuple[Pass, ...] = (
    DeadCode(),
    FoldConstants(),
    RemoveDropout(),
    RemoveIdentities(),
    MergePairs(),
    Joins(),
    Slices(),
    CommonSubexpressions(),
)
_COMPOSE: tuple[Pass, ...] = (ComposeActivations(), ComposeNorms(), ComposeGroupNorm())
_FOLD: tuple[Pass, ...] = (FoldBatchNorm(), FoldScale(), FoldThrough())
_REST: tuple[Pass, ...] = (
    FoldNorm(),
    MergePadding(),
    MatMulToDense(),
    MergeBranches(),
    FoldBackward(),
    PoolFirst(),
    FusePointwise(),
    MergeParallel(),
)

#: Level 0: no rewrites. 1: clean-ups and batch-norm folding. 2: everything that lowers the cost.
PIPELINES: Mapping[int, tuple[Pass, ...]] = MappingProxyType(
    {0: (), 1: (*_CLEAN_UP, *_FOLD), 2: (*_CLEAN_UP, *_COMPOSE, *_FOLD, *_REST)}
)

#: What runs on a training step, whose weights are inputs.
TRAINING: tuple[Pass, ...] = (
    DeadCode(),
    FoldConstants(),
    RemoveIdentities(),
    MergePairs(),
    Joins(),
    FoldGradientScale(),
    CommonSubexpressions(),
)

#: Every pass by its name, in the order of level 2.
PASSES: Mapping[str, Pass] = MappingProxyType({p.name: p for p in PIPELINES[2]})

Hook = Callable[[str, Graph], None]


class PassOrderError(Exception):
    """A pipeline that breaks the order that its passes declare: a fault of the compiler."""


def check_order(passes: tuple[Pass, ...]) -> None:
    """Raises PassOrderError unless every pass comes after those that it names in `after`."""
    seen: set[str] = set()
    for one in passes:
        if missing := [name for name in one.after if name not in seen]:
            raise PassOrderError(f"{one.name} must run after {', '.join(missing)}")
        seen.add(one.name)


def optimize(
    graph: Graph, level: int = 2, log: RewriteLog | None = None, *, check: bool | None = None, after: Hook | None = None
) -> Graph:
    """The graph that computes the same with less work.

    `check` verifies the graph between passes (the default: where NETDSL_VERIFY=1). `after` is called with the name of
    every pass that changed the graph, and the graph.
    """
    passes = PIPELINES[level]
    check_order(passes)
    return run_passes(graph, passes, log if log is not None else RewriteLog(), check=check, after=after)


def run_passes(
    graph: Graph, passes: tuple[Pass, ...], log: RewriteLog, *, check: bool | None = None, after: Hook | None = None
) -> Graph:
    """Rounds of these passes until nothing changes; `late` ones join in when nothing changes without them."""
    check = os.environ.get("NETDSL_VERIFY") == "1" if check is None else check
    left_alone: dict[str, Graph] = {}

    def round(graph: Graph, chosen: Iterable[Pass]) -> Graph:
        for one in chosen:
            if left_alone.get(one.name) is graph:
                continue
            result = one.run(graph, log)
            if result is not graph:
                if check:
                    verify(result, PRIMITIVES)
                if after is not None:
                    after(one.name, result)
            else:
                left_alone[one.name] = result
            graph = result
        return graph

    early, late = ([p for p in passes if p.late is which] for which in (False, True))
    for _ in range(MAX_ROUNDS):
        before = graph
        graph = round(graph, early)
        if graph is before:
            graph = round(graph, late)
        if graph is before:
            break
    return graph
