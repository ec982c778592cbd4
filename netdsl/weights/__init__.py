"""Weights: drawn or read from checkpoints, and the arithmetic on them that is done once, when a model is written."""

from netdsl.weights.checkpoint import Checkpoint, Entry
from netdsl.weights.fold import ConstantEvaluator, widened
from netdsl.weights.load import load_checkpoint
from netdsl.weights.safetensors import SafetensorsCheckpoint, save_safetensors
from netdsl.weights.store import WeightStore

__all__ = [
    "Checkpoint",
    "ConstantEvaluator",
    "Entry",
    "SafetensorsCheckpoint",
    "WeightStore",
    "load_checkpoint",
    "save_safetensors",
    "widened",
]
