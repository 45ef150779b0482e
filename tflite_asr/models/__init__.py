"""Architectures: a frozen config each, and a function that builds a Functional Keras 3 model from it."""

from tflite_asr.models.registry import ARCHITECTURES, FUNCTIONAL, build, config_class, load_model

__all__ = ["ARCHITECTURES", "FUNCTIONAL", "build", "config_class", "load_model"]
