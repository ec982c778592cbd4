"""Non-maximum suppression: of boxes that overlap, the one with the highest score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from netdsl.ir.arguments import BOOL, TENSOR, Float, Int, Param
from netdsl.ir.dims import Dim, Expr, decide
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Cost, Emitter, LayerContext, Primitive, ShapeError, require_float, same_dtype
from netdsl.ir.reach import WHOLE, Reach
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops.indexing import Slice
from netdsl.ops.precision import runs_in_float32, wide
from netdsl.ops.shape import Reshape, Unsqueeze


@dataclass(frozen=True)
class NonMaxSuppression(Primitive):
    """Keeps, in each picture and class, the boxes that overlap no better one: highest score first, every box whose
    intersection over union with one kept before is above `iou_threshold` is dropped. Of equal scores the first counts.

    For boxes `[N, K, 4]` and scores `[N, C, K]` the result is int64 `[selected?, 3]`: picture, class and box of each
    one kept, by picture, by class, and from the highest score down. For boxes `[K, 4]` and scores `[K]` it is the
    positions of boxes alone, `[selected?]`. How many there are depends on the data: `selected?` is a count, 0 or more.

    A box is two opposite corners, in any order, or with `center_point_box` its centre, width and height. Boxes whose
    score is not above `score_threshold` are not looked at. It has no gradient: gather boxes and scores by its result to
    train on those kept. Its work depends on the data and is not counted.
    """

    max_output_boxes_per_class: int | None
    iou_threshold: float
    score_threshold: float | None
    center_point_box: bool
    rows: Dim

    name: ClassVar[str] = "non_max_suppression"
    family: ClassVar[str] = "detection"
    reference: ClassVar[str] = "ONNX NonMaxSuppression"
    foldable: ClassVar[bool] = False
    differentiable: ClassVar[bool] = False
    signature: ClassVar[tuple[Param, ...]] = (
        Param("boxes", TENSOR),
        Param("scores", TENSOR),
        Param(
            "max_output_boxes_per_class",
            Int("integer of 0 or more, or none", low=0, optional=True),
            None,
            doc="none keeps any number",
        ),
        Param("iou_threshold", Float("number from 0 to 1", low=0, high=1), 0.5),
        Param("score_threshold", Float("number or none", optional=True), None),
        Param("center_point_box", BOOL, False),
    )

    @property
    def counts(self) -> tuple[str, ...]:
        return tuple(self.rows.symbols) if isinstance(self.rows, Expr) else ()

    @classmethod
    def call(cls, cx: LayerContext, boxes: Value, scores: Value, **options: Any) -> Value:
        op = cls(**options, rows=cx.count("selected"))
        if boxes.rank != 2 or scores.rank != 1:
            return cx.emit(op, boxes, scores)
        chosen = cx.emit(op, cx.emit(Unsqueeze((0,)), boxes), cx.emit(Unsqueeze((0, 1)), scores))
        return cx.emit(Reshape((op.rows,)), cx.emit(Slice((2,), (3,), (1,), (1,)), chosen))

    def infer(self, boxes: TensorType, scores: TensorType) -> TensorType:
        require_float(self.name, boxes)
        same_dtype(self.name, boxes, scores)
        fits = boxes.rank == scores.rank == 3 and boxes.shape[2] == 4
        pairs = ((boxes.shape[0], scores.shape[0]), (boxes.shape[1], scores.shape[2])) if fits else ()
        if not fits or not all(decide("==", a, b) for a, b in pairs):
            raise ShapeError(
                f"{self.name} needs boxes [N, K, 4] with scores [N, C, K], or boxes [K, 4] with scores [K]; "
                f"found boxes {boxes} and scores {scores}",
                argument="scores" if fits or boxes.rank == 3 else "boxes",
                help="classes come before boxes in the scores: transpose(scores, [0, 2, 1]) turns [N, K, C] round",
            )
        return TensorType(DType.int64, (self.rows, 3))

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        """Depends on the data: not counted."""
        return Cost()

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return WHOLE

    def evaluate(self, boxes: NDArrayAny, scores: NDArrayAny) -> NDArrayAny:
        corners, marks = self._corners(wide(boxes)), wide(scores)
        kept = [
            (picture, label, box)
            for picture in range(marks.shape[0])
            for label in range(marks.shape[1])
            for box in self._kept(corners[picture], marks[picture, label])
        ]
        return np.asarray(kept, np.int64).reshape(-1, 3)

    def _corners(self, boxes: Any) -> Any:
        """`[N, K, 4]`: the smaller coordinates, then the larger."""
        if self.center_point_box:
            half = boxes[..., 2:] / 2
            return np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], axis=-1)
        first, second = boxes[..., :2], boxes[..., 2:]
        return np.concatenate([np.minimum(first, second), np.maximum(first, second)], axis=-1)

    def _kept(self, corners: Any, marks: Any) -> list[int]:
        """The boxes of one picture and class that stay, the best first."""
        order = np.argsort(-marks, kind="stable")
        if self.score_threshold is not None:
            order = order[marks[order] > self.score_threshold]
        limit = len(order) if self.max_output_boxes_per_class is None else self.max_output_boxes_per_class
        kept: list[int] = []
        while len(order) and len(kept) < limit:
            best, order = order[0], order[1:]
            kept.append(int(best))
            order = order[_overlap(corners[best], corners[order]) <= self.iou_threshold]
        return kept

    @runs_in_float32(DType.float16, DType.bfloat16, DType.float64)
    def lower(self, cx: Emitter, node: Node, boxes: str, scores: str) -> str:
        limit = self.max_output_boxes_per_class
        inputs = [
            cx.shape([node.inputs[0].shape[1] if limit is None else limit]),  # ONNX has no value for any number
            cx.array(np.asarray([self.iou_threshold], np.float32)),
        ]
        if self.score_threshold is not None:
            inputs.append(cx.array(np.asarray([self.score_threshold], np.float32)))
        return cx.emit("NonMaxSuppression", boxes, scores, *inputs, center_point_box=int(self.center_point_box))


def _overlap(box: Any, others: Any) -> Any:
    """Intersection over union with each of the others; 0 where one of the two has no area."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.maximum(sides, 0).prod(axis=1)
    area, areas = (box[2:] - box[:2]).prod(), (others[:, 2:] - others[:, :2]).prod(axis=1)
    proper = (shared > 0) & (area > 0) & (areas > 0)
    union = np.where(proper, area + areas - shared, 1)
    return np.where(proper, shared / union, 0)
