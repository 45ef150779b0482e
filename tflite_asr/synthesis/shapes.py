"""What a model wants to be fed: which input is features, which a mask, and how long they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts


@dataclass(frozen=True)
class ModelInputs:
    """The inputs of a model, in its own order.

    Attributes:
        roles: "features" or "mask", one an input; exactly one is "features".
        tail: shape of one frame of features: (mels,), or more for somebody's own model.
        fixed_frames: length of the time axis where the model fixes it, else None.
        subsampling: feature frames a mask value stands for.
    """

    roles: tuple[str, ...]
    tail: tuple[int, ...]
    fixed_frames: int | None
    subsampling: int

    def batch(self, clips: list[np.ndarray], frames: int | None = None) -> list[np.ndarray]:
        """Arrays for the model, one an input: clips cut or padded with zeros to `frames` (default: the longest).

        Features float32 [clips, frames, ...]; mask float32 [clips, frames / subsampling], 1 where a clip still is.
        """
        frames = frames or self.whole(max(len(clip) for clip in clips))
        features = np.zeros((len(clips), frames, *self.tail), np.float32)
        mask = np.zeros((len(clips), -(-frames // self.subsampling)), np.float32)
        for row, clip in enumerate(clips):
            used = min(len(clip), frames)
            features[row, :used] = clip[:used]
            mask[row, : -(-used // self.subsampling)] = 1.0
        return [features if role == "features" else mask for role in self.roles]

    def whole(self, frames: int) -> int:
        """The next multiple of the subsampling, or the fixed length."""
        return self.fixed_frames or -(-frames // self.subsampling) * self.subsampling


def model_inputs(model: Any, facts: ModelFacts | None = None) -> ModelInputs:
    """Read them off a Functional or Sequential model.

    The features are the input named so, else the first of floating type; an input of shape [batch, frames] besides is
    a mask.

    Raises:
        TfliteAsrError: no features input, another input that is no mask, or an axis other than time left open.
    """
    tensors = list(model.inputs)
    names = [str(tensor.name) for tensor in tensors]
    floating = [i for i, t in enumerate(tensors) if "float" in str(t.dtype) and len(t.shape) > 1]
    if not floating:
        raise TfliteAsrError(f"{model.name}: has no floating-point input; synthetic inputs are features")
    chosen = (
        names.index("features") if "features" in names else max(floating, key=lambda i: len(tensors[i].shape))
    )
    for index, tensor in enumerate(tensors):
        if index != chosen and len(tensor.shape) != 2:
            raise TfliteAsrError(
                f"{model.name}: input {names[index]} {tuple(tensor.shape)} is neither features nor a mask; "
                "write your own representative data"
            )
    features = tensors[chosen]
    frames, *tail = features.shape[1:] if len(features.shape) > 2 else (features.shape[1],)
    if None in tail:
        raise TfliteAsrError(
            f"{model.name}: input {names[chosen]} {tuple(features.shape)} leaves more than the time axis open; fix it"
        )
    if frames is None and len(features.shape) == 2:
        raise TfliteAsrError(
            f"{model.name}: input {names[chosen]} is raw samples of any length; fix the length"
        )
    roles = tuple("features" if index == chosen else "mask" for index in range(len(tensors)))
    if facts is not None:
        subsampling = facts.subsampling
    elif "mask" in roles:
        subsampling = _probe_subsampling(model, roles, frames, tuple(tail))
    else:
        subsampling = 1
    return ModelInputs(roles, tuple(tail), frames, subsampling)


def _probe_subsampling(model: Any, roles: tuple[str, ...], frames: int | None, tail: tuple[int, ...]) -> int:
    """The factor whose mask the model takes: static shapes say, else a run on 64 frames of zeros."""
    mask = model.inputs[roles.index("mask")].shape[1]
    if frames and mask:
        return -(-frames // mask)
    for factor in (1, 2, 4, 8, 16):
        arrays = ModelInputs(roles, tail, frames, factor).batch([np.zeros((frames or 64, *tail), np.float32)])
        try:
            model(arrays if len(arrays) > 1 else arrays[0], training=False)
        except Exception:  # the backend's own shape errors: many kinds, all meaning "not this factor"
            continue
        return factor
    raise TfliteAsrError(f"{model.name}: no mask of frames / 1, 2, 4, 8 or 16 fits; give the model's facts")
