"""The network that is trained: the ops of a float flatbuffer, each on the grids that its integer twin has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tflite_asr.qat import kernels
from tflite_asr.qat.graph import WEIGHTED, Graph, Op
from tflite_asr.qat.pruning import Pruning
from tflite_asr.qat.quantizers import ActivationQuantizer, WeightQuantizer, channel_scales, rounded_bias
from tflite_asr.qat.settings import Settings
from tflite_asr.qat.twin import Grid, Place, Twin
from tflite_asr.quantize.kept_whole import MASK, Kept
from tflite_asr.quantize.ops import SAME_SCALE
from tflite_asr.quantize.ranges import Range, Ranges
from tflite_asr.quantize.trained import SOURCE

# What these give lies on the grid of what they read, and between its extremes.
_MOVES = frozenset(SAME_SCALE) - {"AVERAGE_POOL_2D", "MAX_POOL_2D", "MINIMUM", "REDUCE_MAX", "REDUCE_MIN"}
_CHOOSES = frozenset(SAME_SCALE) - {"AVERAGE_POOL_2D"}


class QuantisedNetwork(keras.Model):
    """A signature under 8-bit training.

    Called with a list of [examples, ...], one an input of the signature in its order (tokens and positions int32, all
    others float32), it gives its outputs in their order, one by itself. Weights are rounded on the scales of their last
    values, activations on grids that `set_grids` sets. While it trains it follows the extremes of every activation on
    real frames.

    Args:
        graph: what it computes.
        twin: its integer twin.
        ranges: of the activations, what following begins from.
        along_time: name to the axes of a tensor that are longer in a longer window; what is no real frame does not
        count.
        kept: tensors whose ranges hold all that was ever seen, or padding too.
        settings: how ranges follow what is seen.
    """

    def __init__(
        self,
        graph: Graph,
        twin: Twin,
        ranges: Ranges,
        along_time: Mapping[str, tuple[int, ...]],
        kept: Kept,
        settings: Settings | None = None,
    ) -> None:
        super().__init__(name="quantised")
        self.graph = graph
        self._start, self._kept, self._along_time = ranges, kept, dict(along_time)
        settings = settings or Settings()
        self._masks: dict[str, Any] = {}
        self._pruning = Pruning(settings) if settings.sparsity is not None else None
        self._follows = settings.ranges != "calibrated"
        self._quantizer = ActivationQuantizer(settings.decay if settings.ranges == "average" else None)
        self._idle = twin.idle
        self._rows: dict[str | Place, int] = {name: row for row, name in enumerate(graph.floats)}
        self._layouts = {op.inputs[1]: op.kind for op in graph.ops if op.kind in WEIGHTED}
        self._sources = {name: op for op in graph.ops for name in op.outputs}
        self._weights_by_name: dict[str, Any] = {}
        self._rounding: dict[str, WeightQuantizer] = {}
        self._make_constants(twin)
        self._followed = tuple(name for name in graph.floats if not self._is_moved(name))
        size, followed = (len(self._rows), 2), len(self._followed)
        self.grids = self.add_weight(name="grids", shape=size, initializer="zeros", trainable=False)
        self.lows = self.add_weight(name="lows", shape=(followed,), initializer="zeros", trainable=False)
        self.highs = self.add_weight(name="highs", shape=(followed,), initializer="zeros", trainable=False)
        self.lows.assign([min(0.0, ranges[name].minimum) for name in self._followed])
        self.highs.assign([max(0.0, ranges[name].maximum) for name in self._followed])
        self._ends: list[tuple[Any, Any]] = []
        self.set_grids(twin)
        self.built = True

    def _make_constants(self, twin: Twin) -> None:
        trained = set(self.graph.trained())
        for op in self.graph.ops:
            for position, name in enumerate(op.inputs):
                if name is None or name not in self.graph.constants:
                    self._note_requantised(op, position, twin)
                    continue
                values = self.graph.constants[name]
                if values.dtype != np.float32:
                    continue
                layer = op.kind in WEIGHTED
                if layer and position == 1:
                    values = kernels.last_channels(op.kind, values)
                    self._rounding.setdefault(name, WeightQuantizer(self, name, values, True))
                elif not layer and name in trained and _spans(twin.operands.get((op.name, position)), values):
                    self._rounding.setdefault(name, WeightQuantizer(self, name, values, False))
                elif not layer:
                    self._rows.setdefault((op.name, position), len(self._rows))
                if name in trained:
                    variable = self.add_weight(
                        name=name.replace("/", "."),
                        shape=values.shape,
                        initializer="zeros",
                        trainable=True,
                    )
                    variable.assign(values)
                    self._weights_by_name[name] = variable
                    if self._pruning and layer and position == 1 and op.kind != "DEPTHWISE_CONV_2D":
                        mask = self.add_weight(
                            name=f"{name}.kept".replace("/", "."),
                            shape=values.shape,
                            initializer="ones",
                            trainable=False,
                        )
                        self._masks[name] = mask
                else:
                    self._weights_by_name[name] = np.array(values)

    def _note_requantised(self, op: Op, position: int, twin: Twin) -> None:
        """A computed operand that is brought to another scale before this op gets a row of its own."""
        name, grid = op.inputs[position], twin.operands.get((op.name, position))
        if name in self._rows and grid is not None and grid != twin.activations[name]:
            self._rows.setdefault((op.name, position), len(self._rows))

    def _is_moved(self, name: str) -> bool:
        op = self._sources.get(name)
        return op is not None and op.kind in _MOVES

    def set_grids(self, twin: Twin) -> None:
        """Take the grids of a twin made of these weights or others."""
        values = np.zeros((len(self._rows), 2), np.float32)
        for key, row in self._rows.items():
            grid = twin.activations[key] if isinstance(key, str) else twin.operands.get(key)
            values[row] = (grid.low, grid.high) if grid is not None else (0.0, 0.0)
        self.grids.assign(values)

    def weights_now(self) -> dict[str, np.ndarray]:
        """The trained constants in TFLite's layouts."""
        found = {}
        for name in self.graph.trained():
            values = np.array(ops.convert_to_numpy(self._weights_by_name[name]))
            if name in self._masks:
                values *= ops.convert_to_numpy(self._masks[name])
            found[name] = (
                kernels.file_layout(self._layouts[name], values) if name in self._layouts else values
            )
        return found

    def prune(self, step: int) -> None:
        """Choose anew which weights are zero, of what they would be now."""
        assert self._pruning is not None
        for name, mask in self._masks.items():
            mask.assign(self._pruning.kept(ops.convert_to_numpy(self._weights_by_name[name]), step))

    def sparsity(self) -> float:
        """Share of zeros among the weights that may become zero; 0.0 where none may."""
        kept = [ops.convert_to_numpy(mask) for mask in self._masks.values()]
        return 1.0 - sum(float(one.sum()) for one in kept) / sum(one.size for one in kept) if kept else 0.0

    def ranges_now(self) -> Ranges:
        """What was followed: tensors that are kept whole hold what they held at the start too, what is moved has the
        range of what it is moved from."""
        lows, highs = (ops.convert_to_numpy(one) for one in (self.lows, self.highs))
        found: dict[str, Range] = {}
        for name, low, high in zip(self._followed, lows, highs, strict=True):
            start = self._start[name]
            one = Range(float(low), float(high), SOURCE, start.signature)
            found[name] = one.union(start) if name in self._kept.whole else one
        for name in self.graph.floats:
            if name not in found:
                op = self._sources[name]
                before = next(one for one in op.inputs if one in found)
                found[name] = found[str(before)]
        return Ranges(found)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The signature's outputs. training: whether the extremes of activations are followed."""
        values = self.activations(list(inputs))
        if training and self._follows:
            self._follow(values)
        outputs = [
            ops.reshape(values[name], (-1, *self.graph.shapes[name][1:]))
            for name in self.graph.outputs.values()
        ]
        return outputs if len(outputs) > 1 else outputs[0]

    def activations(self, inputs: list[Any]) -> dict[str, Any]:
        """Every computed tensor by name, [examples, ...], on its grid; what `unrounded:` is put before, as it was
        computed, where that is followed."""
        values: dict[str, Any] = {}
        self._ends = list(zip(*(tf.unstack(self.grids[:, end]) for end in (0, 1)), strict=True))
        for name, x in zip(self.graph.inputs.values(), inputs, strict=True):
            whole = (-1, *self.graph.shapes[name])
            if name not in self._rows:
                values[name] = ops.reshape(ops.cast(x, "int32"), whole)
                continue
            x = ops.reshape(ops.cast(x, "float32"), whole)
            values[f"unrounded:{name}"] = x
            values[name] = self._on_grid(x, name)
        constants = {name: self._constant(name) for name in self._weights_by_name}
        for op in self.graph.ops:
            if op.name in self._idle:
                values[op.name] = values[str(op.inputs[0])]
                continue
            results = kernels.run(op, self._operands(op, values, constants))
            for name, x in zip(op.outputs, results, strict=True):
                values[name] = x
                if name in self._rows and op.kind not in _MOVES:
                    values[f"unrounded:{name}"] = x
                    values[name] = x if op.kind in _CHOOSES else self._on_grid(x, name)
        return values

    def _constant(self, name: str) -> Any:
        values = tf.convert_to_tensor(self._weights_by_name[name])
        if name in self._masks:
            values *= tf.convert_to_tensor(self._masks[name])
        return self._rounding[name](values) if name in self._rounding else values

    def _operands(self, op: Op, values: Mapping[str, Any], constants: Mapping[str, Any]) -> list[Any]:
        operands: list[Any] = []
        for position, name in enumerate(op.inputs):
            if name is None:
                operands.append(None)
            elif name in values:
                x = values[name]
                operands.append(
                    self._on_grid(x, (op.name, position)) if (op.name, position) in self._rows else x
                )
            elif name not in constants:
                operands.append(_unmoved(self.graph.constants[name]))
            elif op.kind in WEIGHTED:
                operands.append(
                    constants[name] if position == 1 else self._bias(op, constants, operands, name)
                )
            else:
                x = constants[name]
                if (op.name, position) in self._rows:
                    x = self._on_grid(x, (op.name, position))
                operands.append(ops.expand_dims(x, 0))
        return operands

    def _bias(self, op: Op, constants: Mapping[str, Any], operands: list[Any], name: str) -> Any:
        """int32, at the scales of what is multiplied."""
        source, weights = str(op.inputs[0]), op.inputs[1]
        if weights not in constants:  # both sides computed
            return constants[name]
        low, high = self._ends[self._rows.get((op.name, 0), self._rows[source])]
        step = (high - low) / 255.0
        return rounded_bias(constants[name], step * channel_scales(operands[1]))

    def _on_grid(self, x: Any, key: str | Place) -> Any:
        return self._quantizer.on_grid(x, *self._ends[self._rows[key]])

    def _follow(self, values: Mapping[str, Any]) -> None:
        mask = values.get(f"unrounded:{self.graph.inputs.get(MASK, '')}")
        share = None if mask is None else tf.reduce_mean(mask, axis=list(range(1, len(mask.shape))))
        lows, highs = [], []
        for name in self._followed:
            x = values.get(f"unrounded:{name}", values[name])
            if share is not None and name not in self._kept.masked:
                x = _real(x, self._along_time.get(name, ()), share)
            lows.append(tf.reduce_min(x))
            highs.append(tf.reduce_max(x))
        extremes = tf.stop_gradient(tf.stack([tf.stack(lows), tf.stack(highs)]))
        self._quantizer.follow(extremes, self.lows.value, self.highs.value)


def _spans(grid: Grid | None, values: np.ndarray) -> bool:
    """Whether a constant's grid is that of its own extremes, and not a coarser one."""
    width = max(0.0, float(values.max())) - min(0.0, float(values.min()))
    return grid is not None and abs(grid.scale * 255 - width) < 1e-3 * width


def _unmoved(values: np.ndarray) -> Any:
    """A constant that is no float: what says how to move values as it is, a bool or a single number as one example."""
    return values[None] if values.dtype == np.bool_ or not values.ndim else values


def _real(x: Any, axes: tuple[int, ...], share: Any) -> Any:
    """x with zeros, which every range holds, where `share` [examples] of the window has ended (as
    `calibrate.real_part`)."""
    for axis in axes:
        size = x.shape[axis + 1]
        ends = tf.maximum(1.0, tf.math.ceil(size * share))
        real = tf.range(size, dtype=tf.float32)[None] < ends[:, None]
        shape = [-1, *[1] * (len(x.shape) - 1)]
        shape[axis + 1] = size
        x = tf.where(tf.reshape(real, shape), x, 0.0)
    return x
