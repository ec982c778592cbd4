"""Reports of graphs: rows, totals, groups, and every format."""

import csv
import io
import json
import re

import pytest

from netdsl.ir.text import parse_graph
from netdsl.ops import PRIMITIVES
from netdsl.report.formats import as_object, to_csv, to_json, to_markdown
from netdsl.report.group import group_rows
from netdsl.report.model import CONVENTIONS, TOTALS, analyse
from netdsl.report.page import to_html
from netdsl.report.table import to_table

CONV = "{stride=(2, 2), padding=((1, 1), (1, 1)), dilation=(1, 1), groups=1}"
TEXT = f"""graph "Net" {{
  input %image: float32[N, 3, SIZE, 32]
  param %stem.conv.weight: float32[8, 3, 3, 3] = he_normal fans(27, 72) loc("net.net":3:14)
  param %stem.conv.bias: float32[8] = zeros loc("net.net":3:14)
  param %f.weight: float32[8, 8, 3, 3] = he_normal fans(72, 72) frozen loc("net.net":5:14)
  %stem.conv: float32[N, 8, HALF, 16] = conv(%image, %stem.conv.weight, %stem.conv.bias) {CONV} @stem.conv LOC
  %stem.relu: float32[N, 8, HALF, 16] = relu(%stem.conv) @stem.relu loc("net.net":4:14)
  %f: float32[N, 8, QUARTER, 8] = conv(%stem.relu, %f.weight) {CONV} @f loc("net.net":5:14)
  %f#2: float32[N, 8, EIGHTH, 4] = conv(%f, %f.weight) {CONV} @f loc("net.net":5:14)
  output y = %f#2
}}
"""


def graph(size="32", half="16", quarter="8", eighth="4"):
    words = {"SIZE": size, "HALF": half, "QUARTER": quarter, "EIGHTH": eighth, "LOC": 'loc("net.net":3:14)'}
    return parse_graph(re.sub("|".join(words), lambda m: words[m[0]], TEXT), PRIMITIVES)


@pytest.fixture(scope="module")
def report():
    return analyse(graph())


def test_rows_are_layers_and_a_shared_layer_counts_its_parameters_once(report):
    rows = [(r.path, r.op, r.parameters, r.macs) for r in report.rows]
    assert rows == [
        ("stem.conv", "conv", 8 * 27 + 8, 8 * 27 * 256),
        ("stem.relu", "relu", 0, 0),
        ("f", "conv", 8 * 72, 8 * 72 * 64),
        ("f", "conv", 0, 8 * 72 * 16),
    ]


def test_a_layer_named_like_another_operator_is_reported_as_what_it_is():
    text = TEXT.replace("@f ", "@squeeze_2 ").replace("%f.weight", "%squeeze_2.weight").replace("@stem.conv", "@expand")
    words = {"SIZE": "32", "HALF": "16", "QUARTER": "8", "EIGHTH": "4", "LOC": 'loc("net.net":3:14)'}
    found = analyse(parse_graph(re.sub("|".join(words), lambda m: words[m[0]], text), PRIMITIVES))
    assert [row.op for row in found.rows] == ["conv", "relu", "conv", "conv"]


def test_totals(report):
    assert report.totals["parameters"] == 8 * 27 + 8 + 8 * 72
    assert report.totals["trainable"] == 8 * 27 + 8
    assert report.totals["macs"] == sum(r.macs for r in report.rows)
    assert report.totals["flops"] == sum(r.flops for r in report.rows)
    assert report.totals["weight_bytes"] == 4 * (8 * 27 + 8 + 8 * 72)
    assert all(isinstance(v, int) for v in report.totals.values())


def test_receptive_fields_grow(report):
    assert [row.field.size for row in report.rows] == [(3, 3), (3, 3), (7, 7), (15, 15)]
    assert report.rows[-1].field.stride == (8, 8)


def test_json_has_the_contract_keys(report):
    made = json.loads(to_json(report, report.rows))
    assert {"network", "inputs", "outputs", "totals", "layers", "state"} <= set(made)
    assert made["inputs"] == {"image": ["float32", ["N", 3, 32, 32]]}
    assert made["outputs"] == {"y": ["float32", ["N", 8, 4, 4]]}
    assert list(made["totals"]) == list(TOTALS)
    assert made["layers"][0] == {
        "path": "stem.conv",
        "op": "conv",
        "outputs": [["N", 8, 16, 16]],
        "parameters": 224,
        "macs": 55296,
        "flops": 2 * 55296 + 8 * 256,
        "receptive_field": {"size": [3, 3], "stride": [2, 2], "offset": [-1, -1]},
        "source": "net.net:3:14",
    }
    assert made["state"][0] == {
        "name": "stem.conv.weight",
        "shape": [8, 3, 3, 3],
        "dtype": "float32",
        "kind": "parameter",
        "trainable": True,
        "initializer": "he_normal",
    }
    assert [s["trainable"] for s in made["state"]] == [True, True, False]


def test_figures_that_depend_on_a_symbol_are_formulas():
    made = as_object(analyse(graph("8*h", "4*h", "2*h", "h")))
    assert made["totals"]["macs"] == f"{8 * 27 * 64 + 8 * 72 * 16 + 8 * 72 * 4}*h"
    assert made["totals"]["parameters"] == 800
    assert made["layers"][0]["outputs"] == [["N", 8, "4*h", 16]]


def test_by_block_by_op_and_depth(report):
    blocks = group_rows(report.rows, "block")
    assert [(r.path, r.layers, r.parameters) for r in blocks] == [("stem", 2, 224), ("f", 2, 576)]
    assert blocks[0].field.size == (3, 3)
    ops = group_rows(report.rows, "op")
    assert [(r.op, r.layers) for r in ops] == [("conv", 3), ("relu", 1)]
    assert group_rows(report.rows, "layer") == report.rows
    assert [r.path for r in group_rows(report.rows, "layer", 1)] == ["stem", "f"]
    assert sum(r.macs for r in ops) == sum(r.macs for r in blocks) == report.totals["macs"]


def test_csv_reads_back(report):
    lines = list(csv.DictReader(io.StringIO(to_csv(report, report.rows))))
    assert [line["path"] for line in lines] == ["stem.conv", "stem.relu", "f", "f", "total"]
    assert int(lines[0]["macs"]) == 55296
    assert int(lines[-1]["parameters"]) == 800


@pytest.mark.parametrize("render", [to_table, to_json, to_csv, to_markdown, to_html])
def test_every_format_states_both_conventions(report, render):
    for other in (None, report):
        text = re.sub(r"\s+", " ", render(report, report.rows, other))
        assert all(words in text for words in CONVENTIONS.values())


def test_table_lists_layers_and_totals(report):
    text = to_table(report, report.rows)
    assert re.search(r"stem\.conv +conv +float32\[N, 8, 16, 16\] +224 +55,296", text)
    assert re.search(r"f +conv .* 15×15 / 8", text)
    assert re.search(r"^ parameters +800$", text, re.M)
    assert "\x1b" not in text


def test_table_folds_to_the_terminal(report):
    assert max(map(len, to_table(report, report.rows, width=100).split("\n"))) <= 100


def test_colour_only_on_demand(report):
    assert "\x1b[" in to_table(report, report.rows, color=True)


def test_compare_stands_side_by_side(report):
    other = analyse(graph("64", "32", "16", "8"))
    assert re.search(r"MACs +101,376 +202,752 +2\.000", to_table(report, report.rows, other))
    assert json.loads(to_json(report, report.rows, other))["compare"]["totals"]["macs"] == 202752
    assert "| MACs | 101,376 | 202,752 | 2.000 |" in to_markdown(report, report.rows, other)


def test_html_escapes():
    text = to_html(analyse(parse_graph(TEXT_ODD, PRIMITIVES)), [])
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


TEXT_ODD = """graph "<script>" {
  input %x: float32[N]
  %relu: float32[N] = relu(%x) @relu
  output y = %relu
}
"""
