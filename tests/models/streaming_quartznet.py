"""QuartzNet and Jasper in NumPy, frame by frame: the reference for their causal configs. See `streaming_reference`."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.models.streaming_reference import Chain, Frame, PerFrame, Stream, Weights, silu
from tflite_asr.models.quartznet import ConvBlock, QuartzNetConfig


class Convolution:
    """A ring buffer as long as the taps reach, zeros before the first frame, `after` zeros behind the last one.

    kernel: [taps, channels in, channels out], or [taps, channels] for a depthwise one.
    """

    def __init__(self, kernel: np.ndarray, stride: int, dilation: int, after: int) -> None:
        self.kernel, self.stride, self.dilation, self.after = kernel, stride, dilation, after
        self.ring = np.zeros(((len(kernel) - 1) * dilation + 1, kernel.shape[1]))
        self.taken = 0

    def push(self, frame: Frame) -> list[Frame]:
        self.ring = np.concatenate([self.ring[1:], frame[None]])
        self.taken += 1
        newest = self.taken - 1 - self.after  # the frame that the newest finished answer is centred on
        if newest < 0 or newest % self.stride:
            return []
        seen = self.ring[:: self.dilation]
        if self.kernel.ndim == 2:
            return [(seen * self.kernel).sum(axis=0)]
        return [np.tensordot(seen, self.kernel, axes=2)]

    def finish(self) -> list[Frame]:
        zeros = np.zeros(self.ring.shape[1])
        return [out for _ in range(self.after) for out in self.push(zeros)]


class Block:
    """A block with its shortcuts: takes lists of frames, of every block whose input is still wanted; gives lists."""

    def __init__(self, main: Stream, shortcuts: list[Stream], activation: Any, dense: bool) -> None:
        self.main, self.shortcuts, self.activation, self.dense = main, shortcuts, activation, dense
        self.waiting: list[list[Frame]] = []

    def push(self, frames: Any) -> Any:
        self.waiting.append(frames)
        return self._add(self.main.push(frames[-1]))

    def finish(self) -> Any:
        return self._add(self.main.finish())

    def _add(self, finished: list[Frame]) -> Any:
        if not self.shortcuts:
            self.waiting = []
            return [[self.activation(frame)] for frame in finished]
        given = []
        for frame in finished:
            panes = self.waiting.pop(0)
            for shortcut, pane in zip(self.shortcuts, panes[-len(self.shortcuts) :], strict=True):
                frame = frame + shortcut.push(pane)[0]
            given.append([*(panes if self.dense else []), self.activation(frame)])
        return given


def streaming_quartznet(model: Any, config: QuartzNetConfig) -> Stream:
    """A QuartzNet or Jasper that takes feature frames [mels] and gives logits [pieces]."""
    weights = Weights(model)
    blocks = [_block(weights, config, index) for index in range(len(config.layers))]
    head = PerFrame(lambda panes: panes[-1])
    return Chain(PerFrame(lambda x: [x.astype(np.float64)]), *blocks, head, weights.dense("ctc.dense"))


def _block(weights: Weights, config: QuartzNetConfig, index: int) -> Block:
    layer, path = config.layers[index], f"encoder.block{index}"
    activation = {"relu": lambda x: np.maximum(x, 0.0), "silu": silu}[config.activation]
    main: list[Stream] = []
    for place in range(layer.repeat):
        inner = f"{path}.main.conv{place}"
        main += [*_convolution(weights, config, layer, inner), _norm(weights, config, inner)]
        main += [PerFrame(activation)] if place < layer.repeat - 1 else []
    # Jasper's dense residuals, in the paper's words: from every block before, as long as those are dense too.
    count = {"none": 0, "add": 1}.get(layer.residual, 0)
    if layer.residual == "dense":
        count = next(n for n in range(1, index + 2) if config.layers[index - n].residual != "dense")
    shortcuts: list[Stream] = [
        Chain(
            weights.dense(f"{path}.shortcut{place}.pointwise"),
            _norm(weights, config, f"{path}.shortcut{place}"),
        )
        for place in range(count)
    ]
    followed = index + 1 < len(config.layers) and config.layers[index + 1].residual == "dense"
    return Block(Chain(*main), shortcuts, activation, layer.residual == "dense" and followed)


def _convolution(weights: Weights, config: QuartzNetConfig, layer: ConvBlock, path: str) -> list[Stream]:
    reach = layer.dilation * (layer.kernel - 1)
    after = layer.stride - 1 if config.padding == "causal" else reach // 2
    if layer.separable:
        (kernel,) = weights.of(f"{path}.depthwise")
        depthwise = Convolution(kernel[:, :, 0], layer.stride, layer.dilation, after)
        return [depthwise, weights.dense(f"{path}.pointwise")]
    (kernel,) = weights.of(f"{path}.conv")
    kernel = kernel if kernel.ndim == 3 else kernel[None]
    return [Convolution(kernel, layer.stride, layer.dilation, after)]


def _norm(weights: Weights, config: QuartzNetConfig, path: str) -> PerFrame:
    gamma, beta, mean, variance = weights.of(f"{path}.batch_norm")
    scale = gamma / np.sqrt(variance + config.batch_norm_epsilon)
    return PerFrame(lambda x: (x - mean) * scale + beta)
