"""Streaming models in NumPy, frame by frame, with ring buffers and key-value caches: the reference for causal configs.

A `Stream` takes one frame at a time (`push`) and gives the frames that became final by it; `finish` gives the rest.
The pieces below are put together by one function an architecture, from nothing but the weights of the Keras model and
its config; `check_streaming` then holds the two against each other. Within the encoder a frame is float64 [channels].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from tflite_asr.models.conformer import ConformerConfig

Frame = np.ndarray


class Stream(Protocol):
    """Frames in, frames out, in order and one for one, some pushes later."""

    def push(self, frame: Frame) -> list[Frame]: ...

    def finish(self) -> list[Frame]: ...


class PerFrame:
    """What needs no other frame."""

    def __init__(self, function: Callable[[Frame], Frame]) -> None:
        self.function = function

    def push(self, frame: Frame) -> list[Frame]:
        return [self.function(frame)]

    def finish(self) -> list[Frame]:
        return []


class Chain:
    """One stream after another."""

    def __init__(self, *streams: Stream) -> None:
        self.streams = streams

    def push(self, frame: Frame) -> list[Frame]:
        return self._through(self.streams, [frame])

    def finish(self) -> list[Frame]:
        final: list[Frame] = []
        for place, stream in enumerate(self.streams):
            final += self._through(self.streams[place + 1 :], stream.finish())
        return final

    @staticmethod
    def _through(streams: Sequence[Stream], frames: list[Frame]) -> list[Frame]:
        for stream in streams:
            frames = [out for frame in frames for out in stream.push(frame)]
        return frames


class Residual:
    """x + inner(x); x waits as long as inner does."""

    def __init__(self, inner: Stream) -> None:
        self.inner, self.waiting = inner, []

    def push(self, frame: Frame) -> list[Frame]:
        self.waiting.append(frame)
        return self._add(self.inner.push(frame))

    def finish(self) -> list[Frame]:
        return self._add(self.inner.finish())

    def _add(self, frames: list[Frame]) -> list[Frame]:
        return [self.waiting.pop(0) + frame for frame in frames]


class DepthwiseConvolution:
    """A ring buffer of `taps - 1` frames, zeros before the first frame and `after` zeros behind the last one.

    kernel: [taps, channels]; bias: [channels].
    """

    def __init__(self, kernel: np.ndarray, bias: np.ndarray | float, after: int) -> None:
        self.kernel, self.bias, self.after = kernel, bias, after
        self.ring = np.zeros((len(kernel), kernel.shape[1]))
        self.wait = after

    def push(self, frame: Frame) -> list[Frame]:
        self.ring = np.concatenate([self.ring[1:], frame[None]])
        if self.wait:
            self.wait -= 1
            return []
        return [(self.ring * self.kernel).sum(axis=0) + self.bias]

    def finish(self) -> list[Frame]:
        return [out for _ in range(self.after) for out in self.push(np.zeros(self.kernel.shape[1]))]


class CachedAttention:
    """Keys and values of at most left_context + 1 + lookahead frames; a frame is answered `lookahead` frames later.

    weights: query, key, value, out (pairs of kernel and bias), and for relative positions position (kernel), u, v.
    score(i, j) = ((q_i + u) k_j + (q_i + v) r_{i-j}) / sqrt(key_dim).
    """

    def __init__(self, weights: dict[str, Any], heads: int, left_context: int | None, lookahead: int) -> None:
        self.weights, self.heads = weights, heads
        self.left_context, self.lookahead = left_context, lookahead
        self.cache: list[tuple[int, np.ndarray, np.ndarray]] = []  # place, key, value
        self.queries: list[tuple[int, np.ndarray]] = []
        self.place = 0
        self.largest_cache = 0

    def push(self, frame: Frame) -> list[Frame]:
        self.queries.append((self.place, self._project("query", frame)))
        self.cache.append((self.place, self._project("key", frame), self._project("value", frame)))
        self.place += 1
        return [self._answer()] if len(self.queries) > self.lookahead else []

    def finish(self) -> list[Frame]:
        return [self._answer() for _ in range(len(self.queries))]

    def _answer(self) -> Frame:
        here, query = self.queries.pop(0)
        if self.left_context is not None:
            self.cache = [entry for entry in self.cache if entry[0] >= here - self.left_context]
        self.largest_cache = max(self.largest_cache, len(self.cache))
        seen = [entry for entry in self.cache if entry[0] <= here + self.lookahead]
        size = len(query) // self.heads
        parts = []
        for head in range(self.heads):
            own = slice(head * size, (head + 1) * size)
            scores = np.array([self._score(query, key, here - there, own) for there, key, _ in seen])
            shares = np.exp(scores - scores.max())
            shares /= shares.sum()
            parts.append(sum(share * value[own] for share, (_, _, value) in zip(shares, seen, strict=True)))
        return self._project("out", np.concatenate(parts))

    def _score(self, query: np.ndarray, key: np.ndarray, distance: int, own: slice) -> float:
        if "position" not in self.weights:
            return query[own] @ key[own] / np.sqrt(own.stop - own.start)
        kernel = self.weights["position"]
        position = sinusoid(distance, len(kernel)) @ kernel
        content = (query + self.weights["u"])[own] @ key[own]
        return (content + (query + self.weights["v"])[own] @ position[own]) / np.sqrt(own.stop - own.start)

    def _project(self, name: str, frame: Frame) -> np.ndarray:
        kernel, bias = self.weights[name]
        return frame @ kernel + bias


class StridedConvolution:
    """A 3x3 convolution of stride 2 over time and mels, with relu: one row of state, an output row every second row.

    Rows are [mels, channels]; one zero row above, one zero column to the left (and to the right where mels are odd).
    kernel: [3, 3, channels, channels out].
    """

    def __init__(self, kernel: np.ndarray, bias: np.ndarray | float) -> None:
        self.kernel, self.bias = kernel, bias
        self.above: np.ndarray | None = None
        self.pending: np.ndarray | None = None

    def push(self, frame: Frame) -> list[Frame]:
        if self.above is None:
            self.above = np.zeros_like(frame)
        if self.pending is None:
            self.pending = frame
            return []
        rows = np.stack([self.above, self.pending, frame])
        self.above, self.pending = frame, None
        rows = np.pad(rows, ((0, 0), (1, frame.shape[0] % 2), (0, 0)))
        out = [
            np.tensordot(rows[:, column : column + 3], self.kernel, axes=3)
            for column in range(0, rows.shape[1] - 2, 2)
        ]
        return [np.maximum(np.stack(out) + self.bias, 0.0)]

    def finish(self) -> list[Frame]:
        return []


def sinusoid(distance: int, dim: int) -> np.ndarray:
    """Vaswani et al. 2017, section 3.5: sine at even, cosine at odd places; [dim]."""
    values = np.zeros(dim)
    for i in range(0, dim, 2):
        angle = distance / 10000 ** (i / dim)
        values[i], values[i + 1] = np.sin(angle), np.cos(angle)
    return values


def layer_norm(gamma: np.ndarray, beta: np.ndarray, epsilon: float = 1e-5) -> Callable[[Frame], Frame]:
    return lambda x: (x - x.mean()) / np.sqrt(x.var() + epsilon) * gamma + beta


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def glu(x: np.ndarray) -> np.ndarray:
    values, gates = np.split(x, 2)
    return values / (1 + np.exp(-gates))


class Weights:
    """A Keras model's weights by layer name, float64; a bias that is not there is 0."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def of(self, layer: str) -> list[np.ndarray]:
        return [np.asarray(w, np.float64) for w in self.model.get_layer(layer).get_weights()]

    def pair(self, layer: str) -> tuple[np.ndarray, Any]:
        kernel, *bias = self.of(layer)
        return kernel, bias[0] if bias else 0.0

    def dense(self, layer: str) -> PerFrame:
        kernel, bias = self.pair(layer)
        return PerFrame(lambda x: x @ kernel + bias)

    def norm(self, layer: str) -> PerFrame:
        return PerFrame(layer_norm(*self.of(layer)))


def streaming_conformer(model: Any, config: ConformerConfig) -> Stream:
    """A Conformer-CTC that takes feature frames [mels] and gives logits [pieces]."""
    if config.lookahead is None:
        raise ValueError("a frame that attends to all that follow cannot be streamed; set lookahead")
    weights = Weights(model)
    stem: list[Stream] = [PerFrame(lambda x: x[:, None].astype(np.float64))]
    for stage in range(1, config.stages + 1):
        stem.append(StridedConvolution(*weights.pair(f"encoder.subsampling.conv{stage}")))
    stem += [PerFrame(np.ravel), weights.dense("encoder.subsampling.dense")]
    blocks = [_conformer_block(weights, config, f"encoder.block{index}") for index in range(config.blocks)]
    return Chain(*stem, *blocks, weights.dense("ctc.dense"))


def _conformer_block(weights: Weights, config: ConformerConfig, path: str) -> Stream:
    def feed_forward(name: str) -> Stream:
        inner = f"{path}.{name}"
        return Residual(
            Chain(
                weights.norm(f"{inner}.norm"),
                weights.dense(f"{inner}.dense1"),
                PerFrame(silu),
                weights.dense(f"{inner}.dense2"),
                PerFrame(lambda x: 0.5 * x),
            )
        )

    return Chain(
        feed_forward("ff1"),
        Residual(
            Chain(weights.norm(f"{path}.mhsa.norm"), _attention(weights, config, f"{path}.mhsa.attention"))
        ),
        Residual(_convolution(weights, config, f"{path}.conv")),
        feed_forward("ff2"),
        weights.norm(f"{path}.norm"),
    )


def _attention(weights: Weights, config: ConformerConfig, layer: str) -> CachedAttention:
    keras_layer = weights.model.get_layer(layer)
    found: dict[str, Any] = {}
    for name in ("query", "key", "value", "out"):
        kernel, bias = getattr(keras_layer, f"{name}_kernel"), getattr(keras_layer, f"{name}_bias")
        found[name] = (np.asarray(kernel, np.float64), 0.0 if bias is None else np.asarray(bias, np.float64))
    if config.positions == "relative":
        names = {"position": "position_kernel", "u": "content_bias", "v": "position_bias"}
        found |= {short: np.asarray(getattr(keras_layer, long), np.float64) for short, long in names.items()}
    return CachedAttention(found, config.heads, config.left_context, config.lookahead or 0)


def _convolution(weights: Weights, config: ConformerConfig, path: str) -> Stream:
    kernel, bias = weights.pair(f"{path}.depthwise")
    gamma, beta, mean, variance = weights.of(f"{path}.batch_norm")
    after = 0 if config.padding == "causal" else config.kernel // 2
    return Chain(
        weights.norm(f"{path}.norm"),
        weights.dense(f"{path}.pointwise1"),
        PerFrame(glu),
        DepthwiseConvolution(kernel[:, :, 0], bias, after),
        PerFrame(lambda x: (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta),
        PerFrame(silu),
        weights.dense(f"{path}.pointwise2"),
    )


def check_streaming(
    stream: Stream,
    offline: np.ndarray,
    features: np.ndarray,
    subsampling: int,
    delay: int,
    tolerance: float = 1e-4,
) -> None:
    """Feed features [frames, mels] and hold what comes out against the offline logits [frames / subsampling, pieces].

    delay: encoder frames that a logit frame waits for; it may come neither later nor sooner.
    """
    given: list[Frame] = []
    for number, frame in enumerate(features, 1):
        given += stream.push(frame)
        assert len(given) == max(0, number // subsampling - delay), f"after {number} frames"
    given += stream.finish()
    assert len(given) == len(offline)
    np.testing.assert_allclose(np.stack(given), offline, atol=tolerance, rtol=0)
