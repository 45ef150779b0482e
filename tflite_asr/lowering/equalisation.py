"""The channels of a residual stream brought to one spread, so that one int8 scale serves them all.

In a trained Conformer the widest channel of a stream reaches 2 to 4 times as far as the middle one, and a quantum that
holds it is that much too coarse for the others: sums and norms of streams made two thirds of the noise of a whole int8
Conformer. A centred stream (centring.py) is written by products and read by norms alone, so each channel may be divided
by a number of its own: x = s y, with W / s in what writes and

    norm(x) = y / sqrt(mean(s^2 y^2) + epsilon) * (s gamma) + beta

in what reads (Nagel et al. 2019 equalise two layers with a ReLU between so; Xiao et al. 2023, SmoothQuant, a norm and
what reads it). The weighted mean is a product with a constant, of the same cost as the plain one.

The shipped Conformer, fake-quantised tensor by tensor on eight dev utterances: 25.7 to 27.7 dB; of sums alone 30.8 to
34.1, of norms at a block's end alone 33.9 to 39.3. Sums of one stream reach differently, a Transformer's last ones ten
times as far as its first: scales of the geometric mean over them serve all, and those of the furthest only the last
(`speech-transformer`, 80 dev utterances, KL of the decoder's distributions with all in int8: 8.3 millinats without
scales, 7.1 by the furthest, 5.3 by the mean).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tflite_asr.lowering.centring import (
    Centre,
    CentredLayerNormalization,
    CentredPositions,
    is_relu,
    is_sum,
    keeps_centred,
    source_of,
    takes_as_stream,
    terms_of,
    writes,
    written_by,
)
from tflite_asr.lowering.replacement import Replacement, consumers

# Scales are powers of this: what a sum's last bit decides does not move them.
GRAIN = 2.0**0.125
LEAST_REACH = 1e-3  # of the widest channel's: one that stays at zero in a place does not decide its scale
Feed = Sequence[np.ndarray]  # one array an input of the model, batch axis included


@dataclass(frozen=True)
class Stream:
    """One residual stream of a flat model: sums, and what writes and reads them.

    members: the operations whose results lie on it: sums, products, `Centre`. norms: the norms that read it.
    """

    members: tuple[keras.Operation, ...]
    norms: tuple[keras.Operation, ...]

    def reach(self, observed: dict[str, np.ndarray]) -> np.ndarray:
        """How far each channel reaches, float64 [channels]: the geometric mean over the places where norms and sums see
        it, so that no place counts more because all of it reaches further. All zero where nothing does."""
        places = [np.asarray(observed[one.name], np.float64) for one in self.observed()]
        far = [place for place in places if place.any()]
        if not far:
            return np.zeros_like(places[0])
        logs = [np.log(np.maximum(place, LEAST_REACH * place.max())) for place in far]
        reach: np.ndarray = np.exp(np.mean(logs, axis=0))
        return reach

    def observed(self) -> list[keras.Operation]:
        """The members whose results are looked at: sums and what norms read."""
        read = {id(source_of(norm)) for norm in self.norms}
        return [one for one in self.members if is_sum(one) or id(one) in read]


def streams(model: keras.Model) -> list[Stream]:
    """The centred streams of a flat model that `ResidualCentring` has been through, in the order of its layers.

    None of which a part goes where another scale of its channels would be seen: into a sum that is not centred.
    """
    found: dict[int, Stream] = {}
    for norm in model.operations:
        if type(norm) is not CentredLayerNormalization:
            continue
        source = source_of(norm)
        assert source is not None  # what is centred was written by an operation
        members = _written_with(source)
        joined = [one for one in found.values() if {id(m) for m in one.members} & set(members)]
        for one in joined:
            members.update({id(member): member for member in one.members})
        norms = [norm, *(reader for one in joined for reader in one.norms)]
        found = {key: one for key, one in found.items() if one not in joined}
        found[min(members)] = Stream(tuple(members.values()), tuple(norms))
    place = {id(one): number for number, one in enumerate(model.operations)}
    order = sorted(found.values(), key=lambda one: min(place[id(member)] for member in one.members))
    return [one for one in order if all(_is_member(member) for member in one.members) and _stays_inside(one)]


def _stays_inside(stream: Stream) -> bool:
    inside = {id(one) for one in (*stream.members, *stream.norms)}
    return all(id(reader) in inside for member in stream.members for reader in _readers(member))


def _readers(operation: keras.Operation) -> Iterator[keras.Operation]:
    """Who reads what `operation` gives, through what keeps it centred."""
    for reader in consumers(operation):
        if keeps_centred(reader) and takes_as_stream(reader, operation):
            yield from _readers(reader)
        else:
            yield reader


def _written_with(operation: keras.Operation) -> dict[int, keras.Operation]:
    """`operation` and, where it is a sum, all that is summed into it."""
    members: dict[int, keras.Operation] = {}
    waiting = [operation]
    while waiting:
        one = waiting.pop()
        if id(one) not in members:
            members[id(one)] = one
            waiting += [term for term in (terms_of(one) if is_sum(one) else []) if term is not None]
    return members


def _is_member(operation: keras.Operation) -> bool:
    return is_sum(operation) or writes(operation) or type(operation) is Centre


def channel_scales(model: keras.Model, feeds: Iterable[Feed]) -> list[tuple[Stream, np.ndarray]]:
    """Each stream of a centred flat model with the scale of each of its channels, float32 [channels].

    feeds: inputs to look at; how far a channel reaches in a place is how far it does on any of them.
    """
    found = streams(model)
    watched = {one.name: one.output for stream in found for one in stream.observed()}
    if not watched:
        return []
    look = keras.Model(model.inputs, watched)
    reach: dict[str, Any] = dict.fromkeys(watched, 0.0)
    for feed in feeds:
        for name, values in look(list(feed), training=False).items():
            values = np.abs(np.asarray(values))
            reach[name] = np.maximum(reach[name], values.max(axis=tuple(range(values.ndim - 1))))
    reaches = [(stream, stream.reach(reach)) for stream in found]
    return [(stream, _rounded(far)) for stream, far in reaches if far.any()]


def _rounded(reach: np.ndarray) -> np.ndarray:
    return (GRAIN ** np.rint(np.log(reach) / np.log(GRAIN))).astype(np.float32)


class Equalisation:
    """The rule for all that writes into the streams and for the norms that read them."""

    def __init__(self, scales: Sequence[tuple[Stream, np.ndarray]]) -> None:
        self._written = {id(member): scale for stream, scale in scales for member in stream.members}
        self._read = {id(norm): scale for stream, scale in scales for norm in stream.norms}

    def rule(self, operation: keras.Operation) -> Replacement | None:
        """A product, a table, a Centre or a norm of a stream."""
        written, read = self._written.get(id(operation)), self._read.get(id(operation))
        if type(operation) is Centre and written is not None:
            centre, scale = Centre.from_config(operation.get_config()), written
            return Replacement((centre,), lambda: _scale_centre(centre, scale))
        if isinstance(operation, CentredPositions) and written is not None:
            positions, over = CentredPositions.from_config(operation.get_config()), written
            return Replacement((positions,), lambda: positions.scale.assign(over))
        after = _centre_behind(operation)
        if after is not None:
            written = self._written.get(id(after))
        if isinstance(operation, keras.layers.LayerNormalization) and (
            read is not None or written is not None
        ):
            norm = type(operation).from_config({**operation.get_config(), "scale": True})
            return Replacement((norm,), lambda: _scale_norm(operation, norm, read, written))
        if written is None or not writes(operation):
            return None
        product = type(operation).from_config(operation.get_config())
        return Replacement((product,), lambda: _scale_product(operation, product, written))


def _centre_behind(operation: keras.Operation) -> keras.Operation | None:
    """The `Centre` that a norm's or a product's result goes through, behind a ReLU or at once, if that is where it
    goes."""
    readers = [node.operation for node in operation._outbound_nodes]
    if len(readers) != 1:
        return None
    if is_relu(readers[0]):
        return _centre_behind(readers[0])
    return readers[0] if type(readers[0]) is Centre else None


def _scale_product(old: keras.layers.Layer, new: keras.layers.Layer, scale: np.ndarray) -> None:
    new.set_weights(old.get_weights())
    for weight in written_by(new):
        weight.assign(np.asarray(weight, np.float64) / scale)


def _scale_centre(centre: Centre, scale: np.ndarray) -> None:
    centre.collect.assign(scale[:, None] / len(scale))
    centre.spread.assign(1.0 / scale[None, :])


def _scale_norm(
    old: keras.layers.LayerNormalization,
    new: keras.layers.LayerNormalization,
    read: np.ndarray | None,
    written: np.ndarray | None,
) -> None:
    """Read a stream of the scale `read` and write one of the scale `written`, where there is one."""
    gain = np.asarray(old.gamma, np.float64) if old.scale else 1.0
    into = 1.0 if written is None else written
    channels = new.gamma.shape[0]
    new.gamma.assign(np.broadcast_to(gain * (1.0 if read is None else read) / into, (channels,)))
    if old.center:
        new.beta.assign(np.asarray(old.beta, np.float64) / into)
    if read is not None:
        new.power.assign(np.square(read.astype(np.float64))[:, None] / channels)
