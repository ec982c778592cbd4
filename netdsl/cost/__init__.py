"""What graphs cost: the operators' own rules summed up, memory by liveness, receptive fields."""

from netdsl.cost.graph import GraphCost, graph_cost
from netdsl.cost.items import for_one_item, with_symbols
from netdsl.cost.node import node_cost
from netdsl.cost.receptive import ReceptiveField, receptive_fields

__all__ = ["GraphCost", "ReceptiveField", "for_one_item", "graph_cost", "node_cost", "receptive_fields", "with_symbols"]
