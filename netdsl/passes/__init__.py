"""Rewrites of the graph that keep its outputs and lower its cost."""

from netdsl.passes.log import Refusal, Rewrite, RewriteLog, Savings
from netdsl.passes.pipelines import PASSES, PIPELINES, optimize, run_passes

__all__ = ["PASSES", "PIPELINES", "Refusal", "Rewrite", "RewriteLog", "Savings", "optimize", "run_passes"]
