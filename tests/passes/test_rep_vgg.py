"""RepVGG-A0 (arXiv:2101.03697): published with 9.11 M parameters and 1.52 GMACs as trained, 8.31 M and 1.36 merged.

The 1.52 counts a batch norm's multiplications too; by the convention of our reports it is 1.513.
"""

from pathlib import Path

from netdsl import api
from netdsl.cost import for_one_item, graph_cost
from netdsl.elaborate import elaborate
from netdsl.passes import optimize
from netdsl.syntax.read import read_source
from tests.passes.support import operators

SOURCE = Path(__file__).parent.parent.parent / "examples" / "repvgg_a0.net"


def test_published_figures_as_trained_and_merged() -> None:
    trained = elaborate(read_source(str(SOURCE))).graph
    merged = optimize(trained)
    before, after = (graph_cost(for_one_item(g)) for g in (trained, merged))
    assert round(before.parameters / 1e6, 2) == 9.11
    assert round(before.macs / 1e9, 3) == 1.513
    norms = sum(n.output.type.size for n in for_one_item(trained).nodes if n.op.name == "batch_norm")
    assert round((before.macs + norms) / 1e9, 2) == 1.52
    # Merged, everything that is left is in the file: weights of four bytes.
    assert round(after.weight_bytes / 4e6, 2) == 8.31
    assert round(after.macs / 1e9, 2) == 1.36
    assert operators(merged) == ["conv", "relu"] * 22 + ["global_avg_pool", "flatten", "dense"]


def test_outputs_stay() -> None:
    model = api.compile(SOURCE, set={"classes": 10})
    assert model.verify().ok
