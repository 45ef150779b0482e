"""Calibration inputs without data: priors shaped like speech, pulled gently to what the model remembers."""

from tflite_asr.synthesis.inputs import SyntheticInputs
from tflite_asr.synthesis.plot import plot
from tflite_asr.synthesis.real import real_inputs
from tflite_asr.synthesis.representative import representative_dataset
from tflite_asr.synthesis.synthesize import DEFAULT_BUDGET_MACS, METHODS, synthesize

__all__ = [
    "DEFAULT_BUDGET_MACS",
    "METHODS",
    "SyntheticInputs",
    "plot",
    "real_inputs",
    "representative_dataset",
    "synthesize",
]
