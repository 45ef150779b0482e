"""Which architectures there are, and how a checkpoint is opened safely."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import keras

import tflite_asr.models.layers  # noqa: F401  registers the layers that safe mode looks up
from tflite_asr.errors import TfliteAsrError
from tflite_asr.models.conformer import SIZES, ConformerConfig, build_conformer
from tflite_asr.models.quartznet import JASPER_SIZES, QUARTZNET_SIZES, QuartzNetConfig, build_quartznet
from tflite_asr.models.torch_names import allow_dots
from tflite_asr.models.transformer import build_transformer
from tflite_asr.models.transformer_config import SIZES as TRANSFORMER_SIZES
from tflite_asr.models.transformer_config import TransformerConfig

allow_dots()
_PROBE = keras.Input((1,))
FUNCTIONAL: type = type(
    keras.Model(_PROBE, _PROBE)
)  # the class that Keras gives Functional models, and names nowhere
ARCHITECTURES: dict[str, tuple[type, Callable[[Any], keras.Model], dict[str, Any]]] = {
    "conformer": (ConformerConfig, build_conformer, SIZES),
    "quartznet": (QuartzNetConfig, build_quartznet, QUARTZNET_SIZES),
    "jasper": (QuartzNetConfig, build_quartznet, JASPER_SIZES),
    "transformer": (TransformerConfig, build_transformer, TRANSFORMER_SIZES),
}


def config_class(architecture: str) -> type:
    """The config dataclass of an architecture.

    Raises:
        TfliteAsrError: an unknown architecture.
    """
    if architecture not in ARCHITECTURES:
        raise TfliteAsrError(
            f"architecture {architecture!r} is unknown; known are {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[architecture][0]


def build(architecture: str, config: Any) -> keras.Model:
    """A model from a config, or from a dict of its values.

    Raises:
        TfliteAsrError: an unknown architecture or config key.
    """
    kind = config_class(architecture)
    if isinstance(config, dict):
        known = {f.name for f in fields(kind)}
        if unknown := sorted(set(config) - known):
            raise TfliteAsrError(
                f"{architecture}: unknown key {unknown[0]!r}; known are {', '.join(sorted(known))}"
            )
        config = kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in config.items()})
    return ARCHITECTURES[architecture][1](config)


def load_model(path: str | Path) -> keras.Model:
    """Open a `.keras` file with safe mode on: nothing in it is executed.

    The layers of a lowered model are known once `tflite_asr.lowering` is imported, as `export` does.

    Raises:
        TfliteAsrError: a file that is missing, damaged, holds a Lambda or an unknown class, or is no Functional model.
    """
    path = Path(path)
    if not path.is_file():
        raise TfliteAsrError(f"{path}: no such model; give a .keras file or the name of a shipped checkpoint")
    if not zipfile.is_zipfile(path):
        raise TfliteAsrError(f"{path}: is damaged or not a .keras file; save the model again with model.save")
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises nearly every class there is on a damaged archive
        reason = " ".join(str(error).split())
        if "ambda" in reason and "safe" in reason.lower():
            mend = "holds a Lambda, whose code would be executed; replace it by a registered layer"
        elif any(
            f"Could not {what}" in reason for what in ("locate class", "locate function", "deserialize")
        ):
            mend = f"holds a class that is not known here ({reason[:120]}); use stock or registered layers"
        else:
            mend = f"cannot be loaded ({type(error).__name__}: {reason[:160]}); save the model again"
        raise TfliteAsrError(f"{path}: {mend}") from error
    if not isinstance(model, (FUNCTIONAL, keras.Sequential)):
        raise TfliteAsrError(
            f"{path}: is a subclassed model ({type(model).__name__}); rebuild it as a Functional one"
        )
    return model
