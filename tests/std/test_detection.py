"""std:detection: pyramids, anchors, decoding, heads and suppression, against the definitions of their papers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from netdsl.ir.types import NDArrayAny
from netdsl.runtime.interpret import interpret
from netdsl.weights import WeightStore
from tests.elaborate.helpers import shapes
from tests.std.helpers import built, parameters

FILE = "std:detection"
RNG = np.random.default_rng(0)


def run(body: str, arrays: dict[str, NDArrayAny], image: str = "float32[1, 3, 8, 8]") -> dict[str, NDArrayAny]:
    graph = built(FILE, body, image)
    given = {"image": np.zeros([d for d in graph.inputs[0].shape if isinstance(d, int)], np.float32), **arrays}
    return interpret(graph, given, WeightStore(graph.parameters))


MAPS = """
    input c3: float32[N, 16, 4*h, 4*w]
    input c4: float32[N, 32, 2*h, 2*w]
    input c5: float32[N, 64, h, w]
"""


def test_pyramid_counts_and_keeps_sizes() -> None:
    graph = built(FILE, f"{MAPS} p3, p4, p5, p6, p7 = FPN([c3, c4, c5], 8) -> ExtraLevels\noutput p3, p4, p5, p6, p7")
    assert shapes(graph) == {
        "p3": "float32[N, 8, 4*h, 4*w]",
        "p4": "float32[N, 8, 2*h, 2*w]",
        "p5": "float32[N, 8, h, w]",
        "p6": "float32[N, 8, (h + 1)//2, (w + 1)//2]",
        "p7": "float32[N, 8, (h + 3)//4, (w + 3)//4]",
    }
    assert parameters(graph) == (16 + 32 + 64) * 8 + 3 * 8 + 5 * (9 * 8 * 8 + 8)


def test_pyramid_takes_odd_sizes() -> None:
    """A map of 7 pixels halves to 4: what comes from above is cut to fit."""
    maps = "input a: float32[1, 4, 7, 5]\ninput b: float32[1, 4, 4, 3]"
    body = f"{maps}\nlarge, small = FPN([a, b], 8)\noutput large, small"
    assert shapes(built(FILE, body)) == {"large": "float32[1, 8, 7, 5]", "small": "float32[1, 8, 4, 3]"}


def test_path_aggregation_goes_down() -> None:
    body = f"{MAPS} n3, n4, n5 = FPN([c3, c4, c5], 8) -> PAN\noutput n3, n4, n5"
    graph = built(FILE, body)
    assert shapes(graph)["n5"] == "float32[N, 8, h, w]"
    assert parameters(graph) == (16 + 32 + 64) * 8 + 3 * 8 + (3 + 4) * (9 * 8 * 8 + 8)


@pytest.mark.parametrize("sizes", [(2, 3), ("h", "w")])
def test_anchors_stand_around_each_position(sizes: tuple[Any, Any]) -> None:
    body = f"input map: float32[1, 1, {sizes[0]}, {sizes[1]}]\noutput a = Anchors(map, 16, [(10, 20), (30, 6)], 8)"
    found = run(body, {"map": np.zeros((1, 1, 2, 3), np.float32)})["a"]
    expected = [
        [16 * x + 8 - w / 2, 16 * y + 8 - h / 2, 16 * x + 8 + w / 2, 16 * y + 8 + h / 2]
        for y in range(2)
        for x in range(3)
        for w, h in [(10, 20), (30, 6)]
    ]
    np.testing.assert_allclose(found, expected)


def test_decoding_undoes_encoding() -> None:
    corners = np.sort(RNG.uniform(0, 100, (2, 9, 2, 2)), axis=2).reshape(2, 9, 4).astype(np.float32)
    anchors, wanted = corners
    centres, sizes = (lambda b: (b[:, :2] + b[:, 2:]) / 2), (lambda b: b[:, 2:] - b[:, :2])
    moves = (centres(wanted) - centres(anchors)) / sizes(anchors) * 10
    growth = np.log(sizes(wanted) / sizes(anchors)) * 5
    body = "input d: float32[N, K, 4]\ninput a: float32[K, 4]\noutput b = DecodeBoxes(d, a, 10, 5)"
    found = run(body, {"d": np.concatenate([moves, growth], 1)[None], "a": anchors})["b"]
    np.testing.assert_allclose(found[0], wanted, rtol=1e-4, atol=1e-3)


def test_no_box_is_infinite() -> None:
    body = "input d: float32[1, 1, 4]\ninput a: float32[1, 4]\noutput b = DecodeBoxes(d, a)"
    arrays = {"d": np.array([[[0, 0, 1e4, 0]]], np.float32), "a": np.array([[0, 0, 16, 16]], np.float32)}
    left, _, right, _ = run(body, arrays)["b"][0, 0]
    assert right - left == pytest.approx(1000, rel=1e-4)


def test_values_of_anchors_stand_as_anchors_do() -> None:
    """Position by position, and at each of them anchor by anchor: the order of `Anchors`."""
    x = np.arange(2 * 6 * 2 * 3, dtype=np.float32).reshape(2, 6, 2, 3)
    found = run("input x: float32[N, 6, H, W]\noutput y = PerAnchor(x, 3)", {"x": x})["y"]
    expected = [x[:, 3 * a : 3 * a + 3, i, j] for i in range(2) for j in range(3) for a in range(2)]
    np.testing.assert_array_equal(found, np.stack(expected, axis=1))


def test_retinanet_head_is_shared_by_the_levels() -> None:
    body = "logits, deltas = RetinaNetHead([{maps}], 5, anchors=2, depth=1)\noutput logits, deltas"
    maps = "input a: float32[N, 8, 4, 4]\ninput b: float32[N, 8, 2, 2]\n"
    both, one = (built(FILE, maps + body.format(maps=m)) for m in ("a, b", "a"))
    assert parameters(both) == parameters(one) == 2 * (9 * 8 * 8 + 8) + 9 * 8 * 2 * 9 + 2 * 9
    assert shapes(both) == {"logits": "float32[N, 40, 5]", "deltas": "float32[N, 40, 4]"}


def test_default_boxes_of_ssd() -> None:
    """Liu et al. 2015, section 2.2: for 2 boxes beside the squares, areas of the size's square."""
    sizes = run("boxes = DefaultSizes(21, 45, [2])\noutput y = tensor(boxes)", {})["y"]
    np.testing.assert_allclose(sizes[:2], [[21, 21], [np.sqrt(21 * 45)] * 2], rtol=1e-6)
    np.testing.assert_allclose(sizes[2:].prod(axis=1), 21**2, rtol=1e-6)
    np.testing.assert_allclose(sizes[2:, 0] / sizes[2:, 1], [2, 0.5], rtol=1e-6)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def test_yolo_decodes_cells() -> None:
    x = RNG.standard_normal((2, 14, 2, 3)).astype(np.float32)  # 2 anchors of 5 + 2 values
    anchors = [(10, 14), (23, 27)]
    body = f"input x: float32[N, 14, H, W]\nboxes, scores = YOLODecode(x, {anchors}, 32)\noutput boxes, scores"
    found = run(body, {"x": x})
    for n, i, j, a in np.ndindex(2, 2, 3, 2):
        tx, ty, tw, th, thing, *classes = x[n, 7 * a : 7 * a + 7, i, j].astype(np.float64)
        row = (i * 3 + j) * 2 + a
        centre = np.array([(sigmoid(tx) + j) * 32, (sigmoid(ty) + i) * 32])
        half = np.array(anchors[a]) * np.exp([tw, th]) / 2
        np.testing.assert_allclose(found["boxes"][n, row], [*(centre - half), *(centre + half)], rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(found["scores"][n, row], sigmoid(thing) * sigmoid(np.array(classes)), rtol=1e-5)


def test_detections_gather_what_was_kept() -> None:
    boxes = np.array([[[0, 0, 9, 9], [0, 0, 9, 8], [20, 20, 29, 29]]] * 2, np.float32)
    scores = np.array([[[0.9, 0.0], [0.8, 0.7], [0.0, 0.6]], [[0.0, 0.0], [0.0, 0.0], [0.5, 0.0]]], np.float32)
    body = (
        "input boxes: float32[N, K, 4]\ninput scores: float32[N, K, C]\n"
        "box, score, label, picture = Detections(boxes, scores)\noutput box, score, label, picture"
    )
    found = run(body, {"boxes": boxes, "scores": scores})
    np.testing.assert_array_equal(found["box"], boxes[[0, 0, 0, 1], [0, 1, 2, 2]])
    np.testing.assert_allclose(found["score"], [0.9, 0.7, 0.6, 0.5])
    np.testing.assert_array_equal(found["label"], [0, 1, 1, 0])
    np.testing.assert_array_equal(found["picture"], [0, 0, 0, 1])
    nothing = run(body, {"boxes": boxes, "scores": 0 * scores})
    assert [a.shape for a in nothing.values()] == [(0, 4), (0,), (0,), (0,)]


def test_regions_take_their_level() -> None:
    """Maps that hold their own level: 2, 3, 4, 5 for sizes below 112, 224, 448 and from there on (equation 1)."""
    names = [f"m{level}" for level in (2, 3, 4, 5)]
    inputs = "\n".join(f"input {name}: float32[1, 1, {2 ** (7 - i)}, {2 ** (7 - i)}]" for i, name in enumerate(names))
    body = (
        f"{inputs}\ninput boxes: float32[K, 4]\ninput pictures: int64[K]\n"
        f"output y = PyramidRoiAlign([{', '.join(names)}], boxes, pictures, 2)"
    )
    sides = [10, 111, 113, 223, 225, 447, 449]
    arrays: dict[str, NDArrayAny] = {
        name: np.full((1, 1, 2 ** (7 - i), 2 ** (7 - i)), i + 2, np.float32) for i, name in enumerate(names)
    }
    arrays["boxes"] = np.array([[0, 0, side, side] for side in sides], np.float32)
    arrays["pictures"] = np.zeros(len(sides), np.int64)
    found = run(body, arrays)["y"]
    np.testing.assert_allclose(found[:, 0, 0, 0], [2, 2, 3, 3, 4, 4, 5], rtol=1e-6)


def test_region_heads_count_as_published() -> None:
    """torchvision's maskrcnn_resnet50_fpn: its box head and predictor, its mask head and predictor, its first stage."""
    body = """
        input regions: float32[K, 256, 7, 7]
        input larger: float32[K, 256, 14, 14]
        input map: float32[N, 256, H, W]
        {}
    """
    heads = {
        "logits, deltas = FastRCNNHead(regions, 91)\noutput logits, deltas": 12_846_080 + 1_049_600 + 93_275 + 373_100,
        "output masks = MaskHead(larger, 91)": 4 * 590_080 + 262_400 + 23_387,
        "logits, deltas = RPNHead([map])\noutput logits, deltas": 593_935,
    }
    for call, count in heads.items():
        assert parameters(built(FILE, body.format(call))) == count
