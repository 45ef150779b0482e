"""Leave modules out of a model: a smaller config, and the surviving weights carried over by path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import keras
import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.models import build, config_class
from tflite_asr.slim.cost import count_macs, count_parameters
from tflite_asr.slim.paths import dropped_paths


@dataclass(frozen=True)
class SlimReport:
    """What leaving modules out saved.

    Attributes:
        dropped: every path that the model now lacks, earlier ones included.
        parameters_before, parameters_after: stored numbers.
        macs_before, macs_after: multiply-adds for `frames` feature frames.
        frames: the length at which multiply-adds were counted: the model's longest window.
    """

    dropped: tuple[str, ...]
    parameters_before: int
    parameters_after: int
    macs_before: int
    macs_after: int
    frames: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "dropped": list(self.dropped)}


def slim(
    model: keras.Model, facts: ModelFacts | None, drop: str | Sequence[str]
) -> tuple[keras.Model, ModelFacts, SlimReport]:
    """A model without the modules that `drop` names.

    A dropped module leaves the residual stream as it was; a dropped norm or bias is not computed. Nothing is folded
    or retrained: every surviving weight is bit for bit what it was. The model given is not changed.

    Args:
        model: built from `facts.architecture` and `facts.config`.
        facts: the model's facts.
        drop: specifications (`tflite_asr.slim.paths`), in any order; "" or [] drops nothing.

    Raises:
        TfliteAsrError: a path that the model does not have; facts that are missing or are not this model's.
    """
    if facts is None or facts.architecture is None:
        raise TfliteAsrError(
            "drop: the model's architecture is unknown; put architecture and config into its .toml"
        )
    config = model_config(facts)
    specs = [drop] if isinstance(drop, str) else list(drop)
    dropped = (
        dropped_paths(specs, config) if any(spec.strip(" ,") for spec in specs) else tuple(config.dropped)
    )
    smaller_config = replace(config, dropped=dropped)
    smaller = build(facts.architecture, smaller_config)
    carry_weights(model, smaller, set(smaller_config.dropped) - set(config.dropped), (config, smaller_config))
    frames = max(facts.windows)
    report = SlimReport(
        dropped=smaller_config.dropped,
        parameters_before=count_parameters(model),
        parameters_after=count_parameters(smaller),
        macs_before=count_macs(model, frames),
        macs_after=count_macs(smaller, frames),
        frames=frames,
    )
    extra = dict(facts.extra)
    if smaller_config.dropped != config.dropped:
        extra.pop("training", None)  # the full model's figures
    return smaller, replace(facts, config=asdict(smaller_config), extra=extra), report


def model_config(facts: ModelFacts) -> Any:
    """The facts' config as the architecture's dataclass."""
    kind = config_class(facts.architecture or "")
    try:
        return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in facts.config.items()})
    except TypeError as error:
        raise TfliteAsrError(
            f"{facts.name}: config of {facts.architecture}: {error}; mend the .toml"
        ) from error


def carry_weights(
    source: keras.Model, target: keras.Model, dropped: set[str], configs: tuple[Any, Any] | None = None
) -> None:
    """Copy every weight of `target` from the weight of `source` with the same layer and name.

    configs: of both; of a module that lost heads or groups of units, the channels of those that are left are copied.

    Raises:
        TfliteAsrError: a weight of `target` that `source` lacks or has in another shape; a weight of `source` that
            neither `target` nor a dropped path accounts for. Nothing is copied then.
    """
    ours, theirs = _weights(source), _weights(target)
    values: dict[str, np.ndarray] = {}
    for path, weight in theirs.items():
        if path not in ours:
            raise TfliteAsrError(f"{source.name}: has no weight {path}; its facts describe another model")
        value = np.asarray(keras.ops.convert_to_numpy(ours[path]))
        values[path] = _of_kept_parts(path, value, tuple(weight.shape), configs)
        if values[path].shape != tuple(weight.shape):
            raise TfliteAsrError(
                f"{source.name}: weight {path} is {values[path].shape}, "
                f"its config says {tuple(weight.shape)}; its facts describe another model"
            )
    lost = [path for path in ours if path not in theirs and not _explained(path, dropped)]
    if lost:
        raise TfliteAsrError(
            f"{source.name}: weight {lost[0]} is not in its config; its facts describe another model"
        )
    for path, weight in theirs.items():
        weight.assign(values[path])


def _of_kept_parts(
    path: str, value: np.ndarray, shape: tuple[int, ...], configs: tuple[Any, Any] | None
) -> np.ndarray:
    """A weight of a module without the channels of the parts that the second config lacks; any other as it is."""
    if configs is None or not hasattr(configs[0], "kept_channels") or len(shape) != value.ndim:
        return value
    before, after = (config.kept_channels(path.rsplit(".", 2)[0]) for config in configs)
    places = [before.index(channel) for channel in after if channel in before]
    for axis, (had, wanted) in enumerate(zip(value.shape, shape, strict=True)):
        if had != wanted and (had, wanted) == (len(before), len(after)):
            value = np.take(value, places, axis=axis)
    return value


def _weights(model: keras.Model) -> dict[str, Any]:
    """Weights by `layer.weight`, the layer's name being its module path."""
    return {f"{layer.name}.{weight.name}": weight for layer in model.layers for weight in layer.weights}


def _explained(weight_path: str, dropped: set[str]) -> bool:
    """Whether a weight belongs to a dropped path.

    `a.b.bias` takes every bias of layer a.b (attention has four: query_bias, ...), `a.positions` what relative
    positions need.
    """
    layer, weight = weight_path.rsplit(".", 1)
    module = layer.rsplit(".", 1)[0]
    positions = {"position_kernel", "position_bias", "content_bias"}
    return (
        any(weight_path.startswith(f"{path}.") for path in dropped)
        or (weight.endswith("bias") and weight not in positions and f"{layer}.bias" in dropped)
        or (weight in positions and f"{module}.positions" in dropped)
    )
