"""std:resnet: its units and stages count as the published networks that are made of them."""

from __future__ import annotations

import pytest

from tests.elaborate.helpers import errors, graph_of, shapes
from tests.std.helpers import HEAD, built, gmacs, parameters, program

FILE = "std:resnet"

#: torchvision's parameters and GMACs; timm's (PyTorch Image Models) for what torchvision lacks, without GMACs
NETWORKS: dict[str, tuple[str, int, float | None]] = {
    "resnet34": ("ResNet(BasicUnit, [3, 4, 6, 3])", 21_797_672, 3.664),
    "resnet101": ("ResNet(Bottleneck, [3, 4, 23, 3])", 44_549_160, 7.801),
    "wide_resnet50_2": ("ResNet(Bottleneck(_, group_width=128), [3, 4, 6, 3])", 68_883_240, 11.398),
    "resnext101_32x8d": ("ResNet(Bottleneck(_, groups=32, group_width=8), [3, 4, 23, 3])", 88_791_336, 16.414),
    "seresnet50": ("ResNet(SEBottleneck, [3, 4, 6, 3])", 28_088_024, None),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_counts_as_published(name: str) -> None:
    call, count, macs = NETWORKS[name]
    graph = built(FILE, f"output y = image -> {call}[-1] {HEAD}")
    assert parameters(graph) == count
    assert macs is None or gmacs(graph) == macs


def test_pre_activation_counts_as_published() -> None:
    """timm's resnetv2_50, whose stem is a convolution without norm: 25,549,352."""
    stem = "conv(64, 7, stride=2, padding=3, bias=false) -> max_pool(3, stride=2, padding=1)"
    body = f"x = image -> {stem} -> ResNet(PreActivationBottleneck, [3, 4, 6, 3], stem=identity)[-1]"
    assert parameters(built(FILE, f"{body}\noutput y = x -> batch_norm -> relu {HEAD}")) == 25_549_352


def test_pre_activation_keeps_the_way_of_sums_clear() -> None:
    """Between two units of one shape there is only a sum: its operands are the sum before and a convolution."""
    graph = built(FILE, "output y = image -> Stage(PreActivationUnit, 8, 3)")
    sums = [n for n in graph.nodes if n.op.name == "add"]
    assert len(sums) == 3
    assert [n.inputs[1] for n in sums[1:]] == [n.outputs[0] for n in sums[:-1]]


def test_feature_maps_of_every_stage() -> None:
    body = "c2, c3, c4, c5 = image -> ResNet(BasicUnit, [2, 2, 2, 2])\noutput c2, c3, c4, c5"
    assert shapes(built(FILE, body, "float32[N, 3, 32*h, 32*w]")) == {
        "c2": "float32[N, 64, 8*h, 8*w]",
        "c3": "float32[N, 128, 4*h, 4*w]",
        "c4": "float32[N, 256, 2*h, 2*w]",
        "c5": "float32[N, 512, h, w]",
    }


@pytest.mark.parametrize(
    ("output_stride", "scales", "dilations"),
    [(32, [4, 8, 16, 32], [1, 1, 1]), (16, [4, 8, 16, 16], [1, 1, 2]), (8, [4, 8, 8, 8], [1, 2, 4])],
)
def test_output_stride_trades_strides_for_dilation(output_stride: int, scales: list[int], dilations: list[int]) -> None:
    """As torchvision's `replace_stride_with_dilation`: a stage's first unit has the dilation of the stage before."""
    call = f"ResNet(BasicUnit, [2, 2, 2, 2], output_stride={output_stride})"
    graph = built(FILE, f"a, b, c, d = image -> {call}\noutput a, b, c, d", "float32[1, 3, 64, 64]")
    assert [int(o.value.type.shape[2]) for o in graph.outputs] == [64 // s for s in scales]
    found = {n.path: n.op.dilation for n in graph.nodes if n.op.name == "conv"}
    before = 1
    for stage, dilation in enumerate(dilations, start=2):
        prefix = f"ResNet.stage_{stage}.BasicUnit"
        assert found[f"{prefix}.ConvBN.conv"] == found[f"{prefix}.ConvBN_2.conv"] == (before, before)
        assert found[f"{prefix}_2.ConvBN.conv"] == (dilation, dilation)
        before = dilation


def test_a_unit_that_is_none() -> None:
    problem, *_ = errors(program(FILE, "x = image -> ResNet(3, [2, 2])\noutput y = x[0]"))
    assert problem.message == "'unit' is 3, which cannot be called"
    assert [note.message for note in problem.notes] == []


def test_a_unit_of_ones_own() -> None:
    own = (
        "block Mine(x, channels, stride=1, dilation=1) { return x -> ConvBN(channels, 3, stride, dilation=dilation) }\n"
    )
    source = own + program(FILE, "x = image -> ResNet(Mine, [1, 1])\noutput y = x[1]")
    assert shapes(graph_of(source)) == {"y": "float32[1, 128, 28, 28]"}
