"""A smaller model from the same weights: the drop grammar, the carry-over, what it saves, what is missed least."""

from tflite_asr.slim.cost import Cost, cost, count_macs, count_parameters
from tflite_asr.slim.outputs import Reference
from tflite_asr.slim.paths import dropped_paths, module_paths
from tflite_asr.slim.rank import BlockUse, least_useful_block, rank_blocks
from tflite_asr.slim.slim import SlimReport, slim

__all__ = [
    "BlockUse",
    "Cost",
    "Reference",
    "SlimReport",
    "cost",
    "count_macs",
    "count_parameters",
    "dropped_paths",
    "least_useful_block",
    "module_paths",
    "rank_blocks",
    "slim",
]
