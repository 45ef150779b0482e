"""The plainest prior: Gaussian fields as smooth as speech over time and mels."""

from __future__ import annotations

import numpy as np

FRAMES_BLUR = (2.0, 8.0)  # deviation of the blur over time, in frames; drawn anew for each clip
MELS_BLUR = (2.0, 6.0)  # and over mels


def smooth_field(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """One clip of zero mean and unit variance (in expectation).

    Args:
        rng: the source of randomness.
        shape: frames, mels, and any further axes, along which nothing is blurred.

    Returns:
        float32 of that shape.
    """
    blurs = [rng.uniform(*FRAMES_BLUR)]
    if len(shape) > 1:
        blurs.append(rng.uniform(*MELS_BLUR))
    kernels = [_unit_kernel(blur) for blur in blurs]
    wide = [size + len(kernel) - 1 for size, kernel in zip(shape, kernels, strict=False)]
    field = rng.standard_normal((*wide, *shape[len(kernels) :]))
    for axis, kernel in enumerate(kernels):
        windows = np.lib.stride_tricks.sliding_window_view(field, len(kernel), axis=axis)
        field = windows @ kernel
    return field.astype(np.float32)


def _unit_kernel(deviation: float) -> np.ndarray:
    """A Gaussian cut at three deviations, its squares summing to 1: white noise keeps its variance."""
    reach = int(np.ceil(3 * deviation))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    return kernel / np.sqrt(np.sum(kernel**2))
