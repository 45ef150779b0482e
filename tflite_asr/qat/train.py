"""Low-bit training: weights learn on the integer file's own grids; ranges follow what they see, then stand still."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from tflite_asr.errors import TfliteAsrError
from tflite_asr.qat.batches import Examples, in_batches
from tflite_asr.qat.graph import Graph, read_graph
from tflite_asr.qat.network import QuantisedNetwork
from tflite_asr.qat.settings import Settings
from tflite_asr.qat.twin import Twin, integer_twin, ranges_of
from tflite_asr.quantize.calibrate import time_axes
from tflite_asr.quantize.kept_whole import kept_whole
from tflite_asr.quantize.ranges import Ranges
from tflite_asr.quantize.schemes import Scheme
from tflite_asr.quantize.trained import Trained, digest
from tflite_asr.training.ctc import ctc_loss, divergence
from tflite_asr.training.state import load_state, progress_of, save_state
from tflite_asr.training.steps import adamw, run_steps

Tell = Callable[[int, float], None]


Objective = Callable[[Any, Any, Any], Any]


def toward_teacher(graph: Graph) -> Objective:
    """Nats a real frame, or a token: the divergence from what the float model said. y: its outputs and as many masks.

    What is no logits (an encoder's memory, a decoder's caches) counts by its squared distance, in shares of its own
    square, averaged over all such outputs.
    """
    names = list(graph.outputs)

    def nats(x: Any, y: Any, outputs: Any) -> Any:
        said, masks = y[: len(names)], y[len(names) :]
        given = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        loss, others = 0.0, []
        for name, wanted, output, mask in zip(names, said, given, masks, strict=True):
            if name == graph.logits:
                loss = ops.sum(divergence(wanted, output) * mask) / ops.sum(mask)
                continue
            apart = ops.sum(ops.sum(ops.square(output - wanted), axis=-1) * mask)
            others.append(apart / (ops.sum(ops.sum(ops.square(wanted), axis=-1) * mask) + 1e-9))
        return loss + sum(others) / len(others) if others else loss

    return nats


def toward_text(blank_id: int) -> Callable[[Graph], Objective]:
    """CTC's nats a character; the mask is the last input. Raises TfliteAsrError for a graph of several outputs."""

    def nats(x: Any, y: Any, output: Any) -> Any:
        labels, lengths = y
        frames = ops.cast(ops.sum(x[-1], axis=-1), "int32")
        return ops.sum(ctc_loss(labels, output, lengths, frames, blank_id)) / ops.cast(
            ops.sum(lengths), "float32"
        )

    def of(graph: Graph) -> Objective:
        if len(graph.outputs) > 1:
            raise TfliteAsrError(
                f"{graph.signature}: gives {', '.join(graph.outputs)}; training by text takes one output"
            )
        return nats

    return of


class _Trainer(keras.Model):
    """A network and an objective."""

    def __init__(self, network: QuantisedNetwork, objective: Objective) -> None:
        super().__init__(name="trainer")
        self.network, self.objective = network, objective
        self.built = (
            True  # nothing is left to be made, and Keras would trace the network once more to find that out
        )

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.network(list(inputs), training=training)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        return self.objective(x, y, y_pred)


def train_low_bit(
    parts: Mapping[str, bytes],
    signature: str,
    ranges: Ranges,
    examples: Callable[[Graph], Examples],
    objective: Callable[[Graph], Objective],
    scheme: Scheme,
    settings: Settings,
    *,
    ties: Iterable[Collection[str]] = (),
    of: Mapping[str, Any] | None = None,
    state: Path | None = None,
    tell: Tell = lambda step, loss: None,
) -> Trained:
    """Weights and ranges of all windows, trained on one.

    Args:
        parts: signature to lowered float flatbuffer, the windows of one model, or of one entry of it.
        signature: the one that is trained.
        ranges: calibrated.
        examples: of that signature.
        objective: of that signature; called with (x, y, the network's outputs) it gives a scalar.
        scheme: static, 8 bits.
        ties: as `quantize` takes them.
        of: plain values that say what examples and objective are, for a state to be told from another training's.
        state: file from which an interrupted training goes on; removed at the end.
        tell: called with (steps done, mean loss of the last ones).

    Raises:
        TfliteAsrError: an op that is not known, an activation that stays in float, a loss that is no number, a state of
            another training.
    """
    ties = tuple(ties)
    data = parts[signature]
    graph = read_graph(data, signature, parts.values())

    def twin_of(weights: Trained | None, found: Ranges) -> Twin:
        return integer_twin(
            data if weights is None else weights.written_into(data), graph, found, scheme, ties
        )

    began = {name: digest(graph.constants[name]) for name in graph.trained()}
    first = twin_of(None, ranges)
    network = QuantisedNetwork(
        graph, first, ranges, time_axes(parts.values()), kept_whole(parts.values()), settings
    )
    trainer = _Trainer(network, objective(graph))
    optimizer = adamw(settings.learning_rate, 0.0, settings.clip_norm)
    trainer.compile(optimizer=optimizer, jit_compile=False)
    optimizer.build(network.trainable_variables)
    key = hashlib.sha256(
        json.dumps([signature, of or {}, asdict(settings), sorted(began.items()), ranges.sha256]).encode()
    ).hexdigest()
    done: dict[str, Any] = {
        "step": 0,
        "key": key,
        "losses": [],
        "ranges": ranges_of(first, signature).to_json(),
    }
    if state is not None and state.is_file():
        if progress_of(state).get("key") != key:
            raise TfliteAsrError(f"{state}: is of another training; remove it or write to another file")
        done = load_state(state, network, optimizer)
    batches = in_batches(examples(graph), settings.batch, settings.steps, settings.seed)
    looks, prunings = settings.look_steps(), settings.prune_steps()
    if done["step"] == 0 and prunings:
        network.prune(0)
    for start, end in _stretches(done["step"], settings.steps, {*looks, *prunings}):
        losses = run_steps(
            trainer,
            batches[start:end],
            partial(_rate, settings, start),
            partial(_told, tell, start),
            f"qat of {signature}",
        )
        done["losses"] += [round(one, 5) for one in losses]
        done["step"] = end
        if end in prunings:
            network.prune(end)
        if end in looks:  # never where ranges stay as calibrated
            now = Trained(network.weights_now(), began, ranges)
            twin = twin_of(now, network.ranges_now())
            if end == looks[-1]:
                frozen = ranges_of(twin, signature)
                done["ranges"] = frozen.to_json()
                twin = twin_of(now, frozen)
            network.set_grids(twin)
        if state is not None:
            save_state(state, network, optimizer, done)
    frozen = Ranges.from_json(done["ranges"])
    trained = Trained(network.weights_now(), began, frozen)
    how = {
        "signature": signature,
        "settings": asdict(settings),
        "losses": done["losses"],
        "trained_values": int(sum(one.size for one in trained.weights.values())),
        "sparsity": round(network.sparsity(), 4),
        "grids": int(network.grids.shape[0]),
        "grids_moved": _moved(network, twin_of(trained, frozen)),
    }
    return Trained(trained.weights, began, frozen, how)


def _rate(settings: Settings, start: int, step: int) -> float:
    return settings.rate(start + step)


def _told(tell: Tell, start: int, step: int, losses: list[float]) -> None:
    tell(start + step, float(np.mean(losses[-20:])))


def _stretches(done: int, steps: int, looks: Collection[int], longest: int = 100) -> list[tuple[int, int]]:
    """From `done` to `steps`, cut where the grids are looked at and where the state is saved."""
    ends = sorted({*looks, *range(longest, steps, longest), steps})
    ends = [end for end in ends if done < end <= steps]
    return list(zip([done, *ends], ends, strict=False))


def _moved(network: QuantisedNetwork, twin: Twin) -> int:
    """How many grids of the file that is written are not those that the last steps had: none, or what was trained is
    not what runs."""
    before = ops.convert_to_numpy(network.grids).astype(np.float64)
    network.set_grids(twin)
    after = ops.convert_to_numpy(network.grids).astype(np.float64)
    width = np.maximum((before[:, 1] - before[:, 0]) / 255.0, 1e-30)
    return int((np.abs(after - before).max(axis=1) > 0.01 * width).sum())
