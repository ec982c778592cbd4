"""What `netdsl compile` says when it is done, and what `--explain` lists."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from netdsl.api import Model
from netdsl.cost import node_cost
from netdsl.ir.dims import Dim, Expr, substitute, to_text
from netdsl.ir.graph import Graph
from netdsl.passes import Rewrite, RewriteLog, Savings

TWO_GB = 2**31 - 1  # protobuf's limit


def summary(model: Model, source: str, path: Path, external: bool, seconds: float) -> str:
    """Lines of figures before and after, one for each pass that did something."""
    before, after = model.source_graph, model.graph
    parameters = sum((p.value.type.size for p in before.parameters if p.kind == "parameter"), 0)
    lines = [
        f"{source}: {model.name} -> {path}",
        f"  parameters  {_figure(parameters)}",
        f"  MACs        {_figure(macs(before))} -> {_figure(macs(after))}",
        f"  nodes       {_figure(nodes(before))} -> {_figure(nodes(after))}",
        *(f"  {line}" for line in pass_lines(model.log, before)),
        f"  {_size(written(path, external))}, opset {model.opset}, {seconds:.2f} s",
    ]
    return "\n".join(lines)


def pass_lines(log: RewriteLog, graph: Graph) -> list[str]:
    """`fold-batch-norm: 53 rewrites, saves 53 nodes, …`, for one item, in the order in which the passes first did
    something."""
    item = item_symbols(graph)
    rewrites: dict[str, list[Rewrite]] = {}
    for rewrite in log.rewrites:
        rewrites.setdefault(rewrite.pass_name, []).append(rewrite)
    refused: dict[str, int] = {}
    for refusal in log.refusals:
        refused[refusal.pass_name] = refused.get(refusal.pass_name, 0) + 1
    lines = []
    for name in dict.fromkeys((*rewrites, *refused)):
        done = rewrites.get(name, [])
        total = sum((r.saved for r in done), Savings())
        saved = str(_for_item(total, item))
        parts = [_count(len(done), "rewrite")] if done else []
        parts += [f"saves {saved}"] if saved else []
        parts += [f"{refused[name]} refused"] if name in refused else []
        lines.append(f"{name}: {', '.join(parts)}")
    return lines


def explanation(log: RewriteLog, graph: Graph) -> str:
    """Every rewrite and refusal, a line each, in the order in which they happened; savings are for one item."""
    item = item_symbols(graph)
    entries = (replace(e, saved=_for_item(e.saved, item)) if isinstance(e, Rewrite) else e for e in log.entries)
    return "\n".join(map(str, entries)) or "no rewrites, no refusals"


def _for_item(saved: Savings, item: dict[str, Dim]) -> Savings:
    return replace(saved, macs=substitute(saved.macs, item), flops=substitute(saved.flops, item))


def macs(graph: Graph) -> Dim:
    """MACs of one item."""
    total = sum((node_cost(n).macs for n in graph.nodes if not _is_constant(graph, n.outputs[0])), 0)
    return substitute(total, item_symbols(graph))


def item_symbols(graph: Graph) -> dict[str, Dim]:
    """1 for each symbol that leads an input's shape, as in `for_one_item`."""
    leading = (v.shape[0] for v in graph.inputs if v.rank)
    return {name: 1 for dim in leading if isinstance(dim, Expr) for name in dim.symbols}


def nodes(graph: Graph) -> int:
    """Nodes that run: weight arithmetic does not."""
    return sum(not _is_constant(graph, n.outputs[0]) for n in graph.nodes)


def _is_constant(graph: Graph, value: object) -> bool:
    return value in graph.constants


def written(path: Path, external: bool) -> int:
    """Bytes of the model and of its external data, which it has on demand and where it exceeds 2 GB."""
    size, data = path.stat().st_size, path.with_name(path.name + ".data")
    beside = data.stat().st_size if data.exists() else 0
    return size + beside if external or size + beside >= TWO_GB else size


def _figure(value: Dim) -> str:
    return f"{value:,}" if isinstance(value, int) else to_text(value)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _size(size: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"
