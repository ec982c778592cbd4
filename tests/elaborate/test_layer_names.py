"""Names of layers and parameters."""

from __future__ import annotations

from tests.elaborate.helpers import graph_of, net, parameters, paths

RESNET50 = """
from "std:layers" import ConvBN

block Bottleneck(x, channels, stride=1) {
    y = x -> ConvBN(channels, 1)         -> relu
          -> ConvBN(channels, 3, stride) -> relu
          -> ConvBN(4 * channels, 1)
    shortcut = if x.shape == y.shape then x else x -> ConvBN(4 * channels, 1, stride)
    return relu(y + shortcut)
}

network ResNet50(classes=1000) {
    input image: float32[N, 3, 224, 224]

    x = image -> ConvBN(64, 7, stride=2) as stem -> relu -> max_pool(3, stride=2, padding=1)
    for channels, depth, stride in [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)] as stage {
        x = x -> Bottleneck(channels, stride)
        repeat depth - 1 { x = x -> Bottleneck(channels) }
    }
    output logits = x -> global_avg_pool -> flatten -> dense(classes)
}
"""


def test_resnet50_of_the_language() -> None:
    graph = graph_of(RESNET50)
    names = parameters(graph)
    assert names[0] == "stem.conv.weight"
    assert "stage_2.Bottleneck_3.ConvBN.batch_norm.running_mean" in names
    assert "stage.Bottleneck.ConvBN_4.conv.weight" in names
    assert names[-2:] == ["dense.weight", "dense.bias"]
    counted = [p for p in graph.parameters if p.kind == "parameter"]
    assert sum(int(p.value.type.size) for p in counted) == 25_557_032  # torchvision's
    assert len(set(names)) == len(names)
    assert paths(graph).count("stage_4.Bottleneck_3.add") == 1


def test_every_use_takes_a_segment() -> None:
    graph = net("y = x -> relu -> conv(6, 1) -> relu -> conv(6, 1)\noutput z = (y + y) * 2 + y")
    assert paths(graph)[:5] == ["relu", "conv", "relu_2", "conv_2", "add"]
    assert "mul" in paths(graph) and "add_2" in paths(graph)


def test_segment_is_the_own_name_through_alias_parameter_and_hole() -> None:
    before = "block Unit(x, norm) { return x -> norm }\nMY = relu\n"
    graph = net("f = group_norm(_, groups=2)\noutput y = x -> MY -> Unit(f) -> Unit(batch_norm) -> f", before)
    assert paths(graph) == ["relu", "Unit.group_norm", "Unit_2.batch_norm", "group_norm"]


def test_as_names_the_layer_and_a_taken_name_counts_on() -> None:
    graph = net("y = x -> conv(6, 1) as a -> conv(6, 1) as a -> conv(6, 1)\noutput z = y")
    assert paths(graph) == ["a", "a_2", "conv"]


def test_first_free_number() -> None:
    graph = net("output y = x -> relu as relu_2 -> relu -> relu -> relu")
    assert paths(graph) == ["relu_2", "relu", "relu_3", "relu_4"]


def test_arguments_take_their_segments_first() -> None:
    graph = net("output y = add(x -> conv(6, 1), x -> conv(6, 1)) -> conv(6, 1)")
    assert paths(graph) == ["conv", "conv_2", "add", "conv_3"]


def test_loops_with_and_without_scopes() -> None:
    graph = net(
        """
        for i in range(2) { x = x -> relu }
        repeat 2 as stage { x = x -> relu -> relu }
        for i in [1] as stage { x = x -> relu }
        output y = x
        """
    )
    assert paths(graph) == [
        "relu",
        "relu_2",
        "stage.relu",
        "stage.relu_2",
        "stage_2.relu",
        "stage_2.relu_2",
        "stage_3.relu",
    ]


def test_param_stands_at_its_scope() -> None:
    before = "block Scale(x) {\n param gamma: float32[x.channels, 1, 1] = constant(1e-6)\n return x * gamma }"
    graph = net("param token: float32[1, 6, 1, 1] = normal(0, 0.02)\noutput y = (x + token) -> Scale -> Scale", before)
    assert parameters(graph) == ["token", "Scale.gamma", "Scale_2.gamma"]
    assert [str(p.initializer) for p in graph.parameters] == ["normal(0, 0.02)", "constant(1e-06)", "constant(1e-06)"]


def test_param_without_initializer_is_zeros() -> None:
    assert str(net("param b: float32[6, 1, 1]\noutput y = x + b").parameters[0].initializer) == "zeros"


def test_layers_of_the_library_are_placed_in_the_users_file() -> None:
    graph = graph_of(RESNET50)
    stem = next(node for node in graph.nodes if node.path == "stem.conv")
    assert stem.place is not None
    assert (stem.place.path, stem.place.line) == ("test.net", 15)
    assert all(p.place is not None and p.place.path == "test.net" for p in graph.parameters)
