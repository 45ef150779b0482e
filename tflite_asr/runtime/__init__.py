"""Bundles run: interpreters, their delegates, and the offline transcriber. No Keras, no TensorFlow."""

from tflite_asr.runtime.interpreter import (
    DELEGATES,
    RUNTIMES,
    Interpreter,
    Signature,
    TensorFacts,
    open_interpreter,
)
from tflite_asr.runtime.transcriber import Recognition, StageSeconds, Transcriber

__all__ = [
    "DELEGATES",
    "RUNTIMES",
    "Interpreter",
    "Recognition",
    "Signature",
    "StageSeconds",
    "TensorFacts",
    "Transcriber",
    "open_interpreter",
]
