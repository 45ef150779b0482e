"""Lets PyTorch hold layers whose names are module paths (`encoder.block0.ff1.dense1`).

On the PyTorch backend Keras 3 keeps the parameters of a layer in a `torch.nn.ParameterDict` under the variable's path,
and torch refuses names with a dot (KeyError: parameter name can't contain "."). Only the attribute that torch sees is
written with another sign: keys, variable paths, layer names and `.keras` files are the same on every backend.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import keras


def allow_dots() -> None:
    """Take names with dots on the PyTorch backend; on every other backend, nothing."""
    if keras.backend.backend() != "torch":
        return
    dictionary: Any = import_module("torch").nn.ParameterDict

    class Parameters(dictionary):
        """A ParameterDict whose attributes are spelled without dots."""

        def _key_to_attr(self, key: str) -> str:
            return super()._key_to_attr(key).replace(".", "|")

    def track_variables(layer: Any) -> None:
        layer._torch_params = Parameters({variable.path: variable.value for variable in layer.variables})

    keras.layers.Layer._track_variables = track_variables
