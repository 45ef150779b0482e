"""Logits to text, in NumPy alone."""

from tflite_asr.decoding.attention import Hypothesis, Speller, search
from tflite_asr.decoding.ctc import Transcript, Word, collapse, greedy_ctc

__all__ = ["Hypothesis", "Speller", "Transcript", "Word", "collapse", "greedy_ctc", "search"]
