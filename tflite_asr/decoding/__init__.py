"""Logits to text, in NumPy alone."""

from tflite_asr.decoding.ctc import Transcript, Word, collapse, greedy_ctc

__all__ = ["Transcript", "Word", "collapse", "greedy_ctc"]
