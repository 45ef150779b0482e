"""The chain: a checkpoint slimmed, given synthetic inputs, converted, quantised, proven and put into a bundle.

The only place that strings the rooms together. Whatever touches TensorFlow runs in a child process.
"""

from tflite_asr.pipeline.bundling import bundle_up, convert
from tflite_asr.pipeline.chain import export, slim_checkpoint
from tflite_asr.pipeline.low_bit import train_low_bit
from tflite_asr.pipeline.model_files import demo_clips, demo_manifest, facts_of, model_path, shipped_models
from tflite_asr.pipeline.preparation import (
    Prepared,
    Progress,
    calibration_inputs,
    prepare,
    prepared,
    span,
)
from tflite_asr.pipeline.synthesis import synthesize_inputs

__all__ = [
    "Prepared",
    "Progress",
    "bundle_up",
    "calibration_inputs",
    "convert",
    "demo_clips",
    "demo_manifest",
    "export",
    "facts_of",
    "model_path",
    "prepare",
    "prepared",
    "shipped_models",
    "slim_checkpoint",
    "span",
    "synthesize_inputs",
    "train_low_bit",
]
