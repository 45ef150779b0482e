"""The Keras face of the front end: the same log-mels as `log_mel`, as a graph of TFLite builtin ops.

The Fourier transform is split in two constant products (Cooley and Tukey 1965, decimation in time) with a radix-4
butterfly at its end; the mel product is cut into bands. Frames are the innermost axis throughout, [rows, frames]:
constants stand on the left of every product, and what lies between them (shifting, regrouping, cutting) moves whole
rows. With n = p + R t, N = R M and p = Q p' + q:
    Y[p, k2] = sum_t w[n] x[n] W_M^(t k2)              R products of a phase's samples; M real columns each
    Z[q, k] = sum_p' W_N^(p k) Y[p, k mod M]           Q M / 2 products of 2 R / Q values, twiddles in the weights
    X[k + m N / Q] = sum_q W_Q^(q m) Z[q, k]           Q = 4: additions only; the last ones go into the squares
Each mel band multiplies the bins under it alone; means of `fixed` features lie in the weights.

Chunks of 200 frames keep what lies between two ops in the cache.

Against the form before (both stages as grouped convolutions, one mel product of all squares), one thread, LiteRT 2.3.0:
    millions of instructions on an emulated Cortex-A76         16 s: 46.4 to 23.7   4 s: 11.7 to 5.9
    ms on x86 with AVX512, in turn with the int8 model         16 s: 4.1 to 3.2     4 s: .78 to .70
    ms on x86 with tflite-runtime 2.14                                              4 s: 9.9 to 1.5
Tried, of A76 instructions at 4 s: grouped convolutions with banded mels 7.4 (and 20 % fewer ms on x86 than this), with
a radix-2 butterfly 7.3, with a radix-4 one 6.7; the first stage a convolution and the second as here 6.2.

Against NumPy all of 6.2 million values of real speech agree to 1.3e-4 at any level, all but 3e-7 of them to 1e-4. Bands
80 dB below a pure full-scale tone differ by up to 1e-3: large terms cancel there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import keras
import numpy as np
from keras import ops

from tflite_asr.frontend.config import FrontEnd
from tflite_asr.frontend.log_mel import analysis_window, mel_filters

_RADICES = (32, 16, 8, 4, 2)
# Frames that go through the graph at a time.
_CHUNK = 200
# XNNPACK joins no more tensors than this in one op.
_JOIN = 5


@dataclass(frozen=True, eq=False)
class _Transform:
    """Constants of the split transform.

    Attributes:
        radix: R, a divisor of the hop; 1 where it has no even one, and `first` is then the whole transform.
        lanes: Q.
        first: float32 [R, M, taps]: window and short transforms of each phase, in pairs (Y[0], Y[M/2]), both real, then
            (Re Y[k2], Im Y[k2]). For R = 1 [1, 2 (N/2 + 1), taps]: all real parts, then all imaginary ones.
        second: float32 [Q M/2, 2 slots, 2 R/Q]: real and imaginary parts of Z at k = k2 + M slot; None for R = 1. The
            first k2 holds bins of both Y[0] and Y[M/2] and needs one slot more than the others, which leave it empty.
        bins: int [Q, slots M/2]: the bin whose power lies in each row of each lane, -1 where none or a repeated one.
    """

    radix: int
    lanes: int
    first: np.ndarray
    second: np.ndarray | None
    bins: np.ndarray


@lru_cache(maxsize=4)
def _transform(frontend: FrontEnd) -> _Transform:
    size, hop, length = frontend.fft_size, frontend.hop_samples, frontend.window_samples
    radix = next((r for r in _RADICES if hop % r == 0 and size % (2 * r) == 0), 1)
    taps = -(-length // radix)
    window = np.zeros(taps * radix)
    window[:length] = analysis_window(frontend).astype(np.float32)
    phases = window.reshape(taps, radix).T[:, None]  # [p, 1, t]
    if radix == 1:
        bins = np.arange(size // 2 + 1)
        turn = 2 * np.pi * np.outer(bins, np.arange(taps)) / size
        first = phases * np.concatenate([np.cos(turn), -np.sin(turn)])
        return _Transform(1, 1, first.astype(np.float32), None, bins[None])

    short = size // radix
    turn = 2 * np.pi * np.outer(np.arange(short // 2), np.arange(taps)) / short
    columns = np.stack([np.cos(turn), -np.sin(turn)], axis=1)  # [k2, part, t]
    columns[0, 1] = np.cos(np.pi * np.arange(taps))
    first = phases * columns.reshape(short, taps)
    lanes = max(1, radix // 8)
    second, bins = _second(size, radix, lanes)
    return _Transform(radix, lanes, first.astype(np.float32), second.astype(np.float32), bins)


def _second(size: int, radix: int, lanes: int) -> tuple[np.ndarray, np.ndarray]:
    """`second` in float64 and `bins` of `_Transform`."""
    short, inner = size // radix, radix // lanes
    groups, slots, half = short // 2, inner + 1, inner // 2
    # Bins of lane 0. A real Y gives half of its bins twice: slots 0 to half take Y[0], the rest Y[M/2].
    k = np.arange(groups)[:, None] + short * np.arange(slots)
    k[0, half + 1 :] = groups + short * np.arange(half, inner)
    used = np.ones(k.shape, bool)
    used[1:, inner] = False
    phase = lanes * np.arange(inner) + np.arange(lanes)[:, None]  # [q, p']
    turn = 2 * np.pi * k[None, :, :, None] * phase[:, None, None] / size  # [q, k2, slot, p']
    cos, sin = np.cos(turn) * used[..., None], np.sin(turn) * used[..., None]
    second = np.stack([np.stack([cos, sin], axis=3), np.stack([-sin, cos], axis=3)], axis=2)
    # [q, k2, part of Z, slot, part of Y, p']; of two real parts each slot of k2 = 0 takes one, as a real one.
    second[:, 0, 0, half + 1 :, 1], second[:, 0, 0, half + 1 :, 0] = cos[:, 0, half + 1 :], 0
    second[:, 0, 1, half + 1 :, 1], second[:, 0, 1, half + 1 :, 0] = -sin[:, 0, half + 1 :], 0
    second[:, 0, :, : half + 1, 1] = 0

    bins = (k + size // lanes * np.arange(lanes)[:, None, None]) % size
    bins = np.where(used, np.minimum(bins, size - bins), -1).transpose(
        0, 2, 1
    )  # the mirrored bin: the same power
    repeated = np.ones(bins.size, bool)
    repeated[np.unique(bins, return_index=True)[1]] = False
    bins = np.where(repeated, -1, bins.ravel()).reshape(lanes, slots * groups)
    return second.reshape(lanes * groups, 2 * slots, 2 * inner), bins


@dataclass(frozen=True, eq=False)
class _Band:
    """Neighbouring mels.

    Attributes:
        rows: (lane, begin, end) of the powers under them, one range a lane.
        weights: float32 [1, mels of the band, rows in all].
    """

    rows: tuple[tuple[int, int, int], ...]
    weights: np.ndarray


@lru_cache(maxsize=4)
def _bands(frontend: FrontEnd) -> tuple[_Band, ...]:
    """The mel product in bands, cut where it costs least: a product's outputs come in tiles of 6 on ARM."""
    bins = _transform(frontend).bins
    filters = mel_filters(frontend) * np.exp(-_shift(frontend))
    weights = np.where((bins >= 0)[..., None], filters[bins], 0.0)  # [lane, row, mel]
    row = np.arange(bins.shape[1])[:, None]
    begins = np.where(weights > 0, row, bins.shape[1]).min(axis=1)
    ends = np.where(weights > 0, row + 1, 0).max(axis=1)

    def rows(start: int, stop: int) -> list[tuple[int, int, int]]:
        spans = zip(begins[:, start:stop].min(axis=1), ends[:, start:stop].max(axis=1), strict=True)
        return [(lane, int(a), int(b)) for lane, (a, b) in enumerate(spans) if a < b] or [(0, 0, 1)]

    def cost(start: int, stop: int) -> float:
        """A76 instructions a frame, from counts of single ops: tiles, copied and packed rows, dispatch."""
        deep = sum(b - a for _, a, b in rows(start, stop))
        return -(-(stop - start) // 6) * (85 + 15 * deep) / 8 + 2 * deep + 60

    best: list[tuple[float, list[int]]] = [(0.0, [])]
    for stop in range(1, frontend.mels + 1):
        best.append(min((best[s][0] + cost(s, stop), [*best[s][1], s]) for s in range(stop)))
    starts = best[-1][1]
    bands = []
    for start, stop in zip(starts, [*starts[1:], frontend.mels], strict=True):
        taken = rows(start, stop)
        parts = np.concatenate([weights[lane, a:b, start:stop] for lane, a, b in taken])
        bands.append(_Band(tuple(taken), parts.T[None].astype(np.float32)))
    return tuple(bands)


def _shift(frontend: FrontEnd) -> np.ndarray:
    """What the mel weights take off the logarithm: the means of `fixed`, where float32 holds their exponential."""
    return np.clip(frontend.mean, -60, 60) if frontend.normalise == "fixed" else np.zeros(frontend.mels)


@keras.saving.register_keras_serializable("tflite_asr")
class LogMel(keras.layers.Layer):
    """Samples to log-mel features.

    Input: float32 [1, frontend.reach(frames)]; for `normalise = per_feature` also a mask, float32 [1, frames], 1 on
    valid frames.
    Output: float32 [1, frames, mels], normalised as the config says.

    Args:
        frontend: the config, or its dict.
        frames: how many frames come out.
    """

    def __init__(self, frontend: FrontEnd | dict[str, Any], frames: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.frontend = frontend if isinstance(frontend, FrontEnd) else FrontEnd.from_dict(frontend)
        self.frames = frames

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "frontend": self.frontend.to_dict(), "frames": self.frames}

    def call(self, samples: Any, mask: Any = None) -> Any:
        frontend, hop = self.frontend, self.frontend.hop_samples
        if frontend.preemphasis:
            before = ops.pad(samples[:, :-1], ((0, 0), (1, 0)))
            samples = samples - np.float32(frontend.preemphasis) * before
        length, left = frontend.window_samples, frontend.samples_before
        chunks = []
        for begin in range(0, self.frames, _CHUNK):
            frames = min(_CHUNK, self.frames - begin)
            span = (frames - 1 - (-length // hop)) * hop
            chunks.append(self._features(_cut(samples, begin * hop - left, span), frames))
        features = _join(chunks, axis=0)
        if frontend.normalise == "per_feature":
            features = _per_feature(features, mask[0, :, None])
        return ops.expand_dims(features, 0)

    def _features(self, samples: Any, frames: int) -> Any:
        """[1, whole hops] to [frames, mels]."""
        frontend, powers, energies = self.frontend, self._powers(samples, frames), []
        for band in _bands(frontend):
            rows = [ops.slice(powers[lane], (0, a, 0), (1, b - a, frames)) for lane, a, b in band.rows]
            energies.append(ops.matmul(band.weights, _join(rows, axis=1)))
        shift = _shift(frontend)
        guard = (frontend.log_guard * np.exp(-shift)).astype(np.float32)[:, None]
        features = ops.log(ops.reshape(_join(energies, axis=1), (frontend.mels, frames)) + guard)
        if frontend.normalise == "fixed":
            rest, scale = np.array(frontend.mean) - shift, 1 / np.array(frontend.std)
            features = features * scale.astype(np.float32)[:, None]
            if rest.any():
                features = features - (rest * scale).astype(np.float32)[:, None]
        return ops.transpose(features)

    def _powers(self, samples: Any, frames: int) -> list[Any]:
        """[1, whole hops] to the power of every bin: [1, rows, frames] a lane, rows as in `_Transform.bins`."""
        parts, hop = _transform(self.frontend), self.frontend.hop_samples
        radix, taps = parts.radix, parts.first.shape[2]
        step = hop // radix
        x = ops.transpose(ops.reshape(samples, (samples.shape[1] // hop, step, radix)), (2, 1, 0))
        # Row t of a frame's window is row t mod step of the blocks, shifted by t // step.
        shifted = [
            ops.slice(x, (0, 0, t // step), (radix, min(step, taps - t), frames))
            for t in range(0, taps, step)
        ]
        x = ops.matmul(parts.first, _join(shifted, axis=1))
        if parts.second is None:
            bins = parts.bins.shape[1]
            real, imaginary = (ops.slice(x, (0, part * bins, 0), (1, bins, frames)) for part in (0, 1))
            return [ops.square(real) + ops.square(imaginary)]
        lanes, inner = parts.lanes, radix // parts.lanes
        x = ops.transpose(ops.reshape(x, (inner, -1, frames)), (1, 0, 2))  # [(q, k2, part), p', frames]
        x = ops.matmul(parts.second, ops.reshape(x, (-1, 2 * inner, frames)))
        groups, row = x.shape[0] // lanes, x.shape[1] // 2 * frames
        x = ops.reshape(x, (lanes * groups, 2, row))
        z = [
            tuple(ops.slice(x, (q * groups, part, 0), (groups, 1, row)) for part in (0, 1))
            for q in range(lanes)
        ]
        powers = [ops.transpose(ops.reshape(p, (groups, -1, frames)), (1, 0, 2)) for p in _butterfly(z)]
        return [ops.reshape(p, (1, -1, frames)) for p in powers]


def _butterfly(z: list[Any]) -> list[Any]:
    """|sum_q W_Q^(q m) Z[q]|^2 for m = 0 to Q - 1, from pairs (real, imaginary); Q is 1, 2 or 4."""
    import tensorflow as tf

    square, apart = ops.square, tf.math.squared_difference
    if len(z) == 1:
        ((re, im),) = z
        return [square(re) + square(im)]
    if len(z) == 2:
        (re0, im0), (re1, im1) = z
        return [square(re0 + re1) + square(im0 + im1), apart(re0, re1) + apart(im0, im1)]
    (re0, im0), (re1, im1), (re2, im2), (re3, im3) = z
    a_re, a_im, b_re, b_im = re0 + re2, im0 + im2, re0 - re2, im0 - im2
    c_re, c_im, d_re, d_im = re1 + re3, im1 + im3, re1 - re3, im1 - im3
    return [
        square(a_re + c_re) + square(a_im + c_im),
        square(b_re + d_im) + apart(b_im, d_re),
        apart(a_re, c_re) + apart(a_im, c_im),
        apart(b_re, d_im) + square(b_im + d_re),
    ]


def _join(parts: Sequence[Any], axis: int) -> Any:
    """Concatenate, a few at a time."""
    while len(parts) > 1:
        batches = [parts[i : i + _JOIN] for i in range(0, len(parts), _JOIN)]
        parts = [ops.concatenate(batch, axis=axis) if len(batch) > 1 else batch[0] for batch in batches]
    return parts[0]


def _cut(samples: Any, begin: int, count: int) -> Any:
    """`count` samples from `begin`, [1, count], with zeros where there are none."""
    start, stop = max(begin, 0), min(begin + count, samples.shape[1])
    inside = [] if start >= stop else [samples]
    if inside and stop - start < samples.shape[1]:
        inside = [ops.slice(samples, (0, start), (1, stop - start))]
    before = min(max(-begin, 0), count)
    after = count - before - max(stop - start, 0)
    zeros = [np.zeros((1, many), np.float32) for many in (before, after)]
    return _join([part for part in (zeros[0], *inside, zeros[1]) if part.shape[1]], axis=1)


def _per_feature(features: Any, valid: Any) -> Any:
    """NeMo's: mean and unbiased deviation of each mel over valid frames, 1e-5 added outside the root.

    features: [frames, mels]. valid: [frames, 1].
    """
    count = ops.sum(valid)
    centred = features - ops.sum(features * valid, axis=0, keepdims=True) / count
    squares = ops.sum(ops.square(centred) * valid, axis=0, keepdims=True)
    return centred / (ops.sqrt(squares / ops.maximum(count - 1.0, 1.0)) + 1e-5)


def build_frontend(frontend: FrontEnd, frames: int) -> keras.Model:
    """A Functional model of one static length.

    Inputs: `samples` float32 [1, frontend.reach(frames)]; `mask` float32 [1, frames] for `per_feature`.
    Output: `features` float32 [1, frames, mels].
    """
    inputs = {"samples": keras.Input(batch_shape=(1, frontend.reach(frames)), name="samples")}
    if frontend.normalise == "per_feature":
        inputs["mask"] = keras.Input(batch_shape=(1, frames), name="mask")
    features = LogMel(frontend, frames, name="log_mel")(*inputs.values())
    return keras.Model(inputs, features, name=f"frontend_{frames}")


def frontend_flatbuffers(frontend: FrontEnd, windows: Sequence[int]) -> list[bytes]:
    """One float flatbuffer a window, with one signature `frontend_<frames>`: `samples` (and `mask`) to `features`.

    Merged into one `frontend.tflite` they share their constants. Wants TensorFlow, whose converter may abort the
    process: run it in a child.
    """
    import tensorflow as tf

    converted = []
    for frames in windows:
        model = build_frontend(frontend, frames)
        specs = {t.name: tf.TensorSpec(t.shape, tf.float32, name=t.name) for t in model.inputs}

        @tf.function(input_signature=[specs], autograph=False)
        def features(inputs: dict[str, Any], model: keras.Model = model) -> dict[str, Any]:
            return {"features": model(inputs)}

        holder = tf.Module()
        with tempfile.TemporaryDirectory() as folder:
            name = f"frontend_{frames}"
            signatures = {name: tf.function(lambda **inputs: features(inputs)).get_concrete_function(**specs)}
            tf.saved_model.save(holder, folder, signatures=signatures)
            converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[name])
            converted.append(converter.convert())
    return converted
