"""The other families of the standard library, held to figures that the examples do not show."""

from __future__ import annotations

from itertools import pairwise

import pytest

from netdsl.elaborate.library import library_file, library_index
from tests.elaborate.helpers import shapes
from tests.std.helpers import HEAD, built, gmacs, parameters

DENSENET = """
x = image -> ConvBN(64, 7, stride=2, activation=relu) -> max_pool(3, stride=2, padding=1)
for i, depth in enumerate({}) {{ x = (if i == 0 then x else x -> Transition) -> DenseBlock(depth, {}) }}
output y = x -> batch_norm -> relu
"""
MOBILE_V3_LARGE = """
x = image -> ConvBN(16, 3, stride=2, activation=hard_swish)
for hidden, channels, kernel, stride, squeezed, activation in [
    (16, 16, 3, 1, false, relu), (64, 24, 3, 2, false, relu), (72, 24, 3, 1, false, relu),
    (72, 40, 5, 2, true, relu), (120, 40, 5, 1, true, relu), (120, 40, 5, 1, true, relu),
    (240, 80, 3, 2, false, hard_swish), (200, 80, 3, 1, false, hard_swish), (184, 80, 3, 1, false, hard_swish),
    (184, 80, 3, 1, false, hard_swish), (480, 112, 3, 1, true, hard_swish), (672, 112, 3, 1, true, hard_swish),
    (672, 160, 5, 2, true, hard_swish), (960, 160, 5, 1, true, hard_swish), (960, 160, 5, 1, true, hard_swish),
] { x = x -> MobileV3Unit(hidden, channels, kernel, stride, squeezed, activation) }
output y = x -> ConvBN(960, 1, activation=hard_swish)
    -> global_avg_pool -> flatten -> dense(1280) -> hard_swish -> dense(1000)
"""
EFFICIENTNET_B0 = """
x = image -> ConvBN(32, 3, stride=2, activation=silu)
for expansion, kernel, stride, channels, depth in [
    (1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3), (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
] { for i in range(depth) { x = x -> MBConv(channels, expansion, kernel, if i == 0 then stride else 1) } }
output y = x -> ConvBN(1280, 1, activation=silu)"""
SHUFFLENET = """
x = image -> ConvBN(24, 3, stride=2, activation=relu) -> max_pool(3, stride=2, padding=1)
for channels, depth in [(116, 4), (232, 8), (464, 4)] {
    for i in range(depth) { x = x -> ShuffleUnit(channels, if i == 0 then 2 else 1) }
}
output y = x -> ConvBN(1024, 1, activation=relu)"""
CONVNEXT = """
x = image -> conv(96, 4, stride=4) -> ChannelNorm
for i, depth in enumerate([3, 3, 9, 3]) {
    x = if i == 0 then x else x -> Downsample(96 * 2 ** i)
    repeat depth { x = x -> ConvNeXtBlock }
}
output y = x -> global_avg_pool -> ChannelNorm -> flatten -> dense(1000)"""
VGG16_STAGES = "[[64] * 2, [128] * 2, [256] * 3, [512] * 3, [512] * 3]"

#: torchvision's parameters and GMACs
NETWORKS: dict[str, tuple[str, str, int, float]] = {
    "densenet121": ("std:densenet", DENSENET.format([6, 12, 24, 16], 32).rstrip() + HEAD, 7_978_856, 2.834),
    "mobilenet_v3_large": ("std:mobile", MOBILE_V3_LARGE, 5_483_032, 0.217),
    "efficientnet_b0": ("std:mobile", EFFICIENTNET_B0 + HEAD, 5_288_548, 0.386),
    "shufflenet_v2_x1_0": ("std:mobile", SHUFFLENET + HEAD, 2_278_604, 0.145),
    "convnext_tiny": ("std:convnext", CONVNEXT, 28_589_128, 4.456),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_counts_as_published(name: str) -> None:
    library, body, count, macs = NETWORKS[name]
    graph = built(library, body)
    assert (parameters(graph), gmacs(graph)) == (count, macs)


def test_densenet_keeps_every_map() -> None:
    assert shapes(built("std:densenet", "output y = image -> DenseBlock(4, 12)", "float32[N, 24, H, W]")) == {
        "y": "float32[N, 72, H, W]"
    }


@pytest.mark.parametrize(("channels", "wanted"), [(1, 8), (12, 16), (19, 24), (21, 24), (24, 24), (35.2, 32), (91, 88)])
def test_widths_are_rounded_as_mobilenets_round_them(channels: float, wanted: int) -> None:
    body = f"output y = image -> conv(Divisible({channels}), 1)"
    assert shapes(built("std:mobile", body)) == {"y": f"float32[1, {wanted}, 224, 224]"}


def test_the_papers_large_kernel_of_googlenet() -> None:
    """Inception 3a of the paper, without the norms: 5x5 kernels, 163,328 weights (table 1 prints 159K)."""
    graph = built("std:inception", "output y = image -> Inception(64, 96, 128, 16, 32, 32)", "float32[N, 192, 28, 28]")
    weights = [p for p in graph.parameters if p.name.endswith("conv.weight")]
    assert sum(int(p.value.type.size) for p in weights) == 163_328
    assert shapes(graph) == {"y": "float32[N, 256, 28, 28]"}


def test_segnet_unpools_the_last_pooling_first() -> None:
    body = f"""x, places = image -> SegNetEncoder({VGG16_STAGES})
        output y = x -> SegNetDecoder(places, [[512], [256], [128], [64], [64]])"""
    assert shapes(built("std:segmentation", body, "float32[N, 3, 32*h, 32*w]")) == {"y": "float32[N, 64, 32*h, 32*w]"}


def test_unet_with_a_norm_has_no_biases_before_it() -> None:
    body = "x, skips = image -> UNetEncoder([8, 16], batch_norm)\noutput y = x -> UNetDecoder(skips, batch_norm)"
    graph = built("std:segmentation", body, "float32[N, 3, 4*h, 4*w]")
    assert not [p.name for p in graph.parameters if p.name.endswith("conv.bias")]
    assert shapes(graph) == {"y": "float32[N, 8, 4*h, 4*w]"}


def test_aspp_joins_maps_of_one_size() -> None:
    """Five branches; the mean of the whole map is made as large as the map."""
    graph = built("std:segmentation", "output y = image -> ASPP(8)", "float32[N, 3, H, W]")
    assert shapes(graph) == {"y": "float32[N, 8, H, W]"}
    (joined,) = (n.output.type for n in graph.nodes if n.op.name == "concat")
    assert str(joined) == "float32[N, 40, H, W]"


def test_every_block_of_the_library_is_documented() -> None:
    """A comment stands right before each definition."""
    for name in library_index():
        path = library_file(name)
        assert path
        lines = path.read_text(encoding="utf-8").splitlines()
        assert lines[0].startswith(f"# {name}:")
        for before, line in pairwise(lines):
            assert not line.startswith("block ") or before.startswith("# "), f"{name}: {line}"
