"""Log-mel features: one frozen config, computed in NumPy here and as a graph of builtin ops in `graph.py`."""

from tflite_asr.frontend.config import FrontEnd
from tflite_asr.frontend.log_mel import hann_window, log_mel, mel_filters

__all__ = ["FrontEnd", "hann_window", "log_mel", "mel_filters"]
