"""Calibration and ties of a decoder that runs token by token: what its caches and the encoder's memory hold.

A step is calibrated on what it meets when it is used: the float flatbuffers decode, with their caches carried on from
token to token, the calibration clips by their own best tokens and, as synthetic speech says little, by random ones.
Of each sequence some steps are kept with all their inputs, early and late ones.

A cache that comes out of a step goes into the next as it is, and the encoder's memory into every step: they have one
scale and zero point on both sides, and so has all that is put into a cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.quantize.calibrate import Sequences
from tflite_asr.quantize.entries import DECODE_STEP, ENCODE
from tflite_asr.quantize.naming import op_name
from tflite_asr.quantize.serialize import read_model, schema, text

KEPT_STEPS = 12  # of a sequence, evenly spread
END_ID = 0  # where no facts say


def step_parts(parts: Mapping[str, bytes]) -> dict[str, bytes]:
    """Those signatures that are steps of a decoder."""
    return {name: data for name, data in parts.items() if name.startswith(f"{DECODE_STEP}_")}


def encoder_of_step(signature: str) -> str:
    """The signature whose memory a step reads."""
    return ENCODE + signature.removeprefix(DECODE_STEP)


def step_sequences(
    parts: Mapping[str, bytes],
    laid: Sequences,
    end_id: int = END_ID,
    seed: int = 0,
    kept: int = KEPT_STEPS,
    spelled: Sequence[Sequence[int]] = (),
) -> dict[str, list[list[dict[str, np.ndarray]]]]:
    """Steps of the decoder's signatures, each a sequence of one with all its inputs.

    parts: signature to float flatbuffer. laid: sequences of the encoder's signatures, as `lay_into_windows` gives them.
    end_id: the token that starts and ends a sequence. seed: of the random tokens. kept: steps of each sequence.
    spelled: the tokens of each sequence, where they are known.
    """
    found: dict[str, list[list[dict[str, np.ndarray]]]] = {}
    for number, (signature, data) in enumerate(step_parts(parts).items()):
        encode = encoder_of_step(signature)
        encoder, step = _runner(parts[encode], encode), _runner(data, signature)
        found[signature] = []
        for place, sequence in enumerate(laid[encode]):
            feed = sequence[0]
            memory = encoder(**feed)
            pieces = memory.pop("logits").shape[-1]
            # Padding is hidden, and what the encoder makes of it may be larger than speech.
            hidden = (feed["mask"] > 0)[..., None]
            given = {name: np.where(hidden, values, 0.0) for name, values in memory.items()}
            given["mask"] = feed["mask"]
            rng = np.random.default_rng([seed, number, place])
            tokens: Any = _drawn(rng, pieces, end_id) if place % 2 else None
            length = max(2, round(0.5 * float(feed["mask"].sum())))
            if spelled:
                tokens, length = [*spelled[place], end_id], len(spelled[place]) + 1
            found[signature] += [[one] for one in _decoded(step, given, tokens, end_id, length, kept)]
    return found


def _runner(data: bytes, signature: str) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter: Any = Interpreter(model_content=data, num_threads=1)
    runner = interpreter.get_signature_runner(signature)
    runner.interpreter = interpreter  # or it would be gone
    return runner


def _drawn(rng: np.random.Generator, pieces: int, end_id: int) -> np.ndarray:
    """Random tokens, none of them the end."""
    others = [one for one in range(pieces) if one != end_id]
    return rng.choice(others, 512)


def _decoded(
    step: Any,
    given: Mapping[str, np.ndarray],
    tokens: Sequence[int] | np.ndarray | None,
    end_id: int,
    length: int,
    kept: int,
) -> list[dict[str, np.ndarray]]:
    """The inputs of `kept` steps of one sequence; its own best tokens where none are given (it may end and go on)."""
    details = step.get_input_details()
    state = {
        name: np.zeros(detail["shape"], detail["dtype"])
        for name, detail in details.items()
        if name not in given
    }
    longest = state["history"].shape[1] if "history" in state else length
    length = min(length, longest)
    wanted = set(np.linspace(0, length - 1, min(kept, length)).round().astype(int).tolist())
    steps, token = [], end_id
    for count in range(length):
        if "token" in state:
            state["token"] = np.full_like(state["token"], token)
        if "position" in state:
            state["position"] = np.full_like(state["position"], count)
        if "history" in state:
            state["history"] = state["history"].copy()
            state["history"][:, longest - 1 - count] = 1.0
        feed = {**state, **{name: values for name, values in given.items() if name in details}}
        if count in wanted:
            steps.append(feed)
        outputs = step(**feed)
        logits = outputs.pop("logits")
        token = int(logits.argmax()) if tokens is None else int(tokens[count % len(tokens)])
        state.update(outputs)
    return steps


def step_ties(parts: Mapping[str, bytes]) -> list[set[str]]:
    """Sets of tensor names that get one scale: a cache on both sides and what is put into it, memory on both sides."""
    ties: list[set[str]] = []
    encoders = {name: _ends(parts[encoder_of_step(name)]) for name in step_parts(parts)}
    for signature, data in step_parts(parts).items():
        model = read_model(data)
        graph = model.subgraphs[0]
        names = [text(tensor.name) for tensor in graph.tensors]
        maker = {int(index): operator for operator in graph.operators for index in operator.outputs}
        inputs, outputs = ({text(i.name): int(i.tensorIndex) for i in side} for side in _sides(model))
        for name, index in outputs.items():
            if name in inputs:
                ties.append(
                    {names[inputs[name]], *(names[one] for one in _moved(model, graph, maker, index))}
                )
        ties += [
            {names[index], encoders[signature][name]}
            for name, index in inputs.items()
            if name in encoders[signature]
        ]
    return ties


def _sides(model: Any) -> tuple[Any, Any]:
    definition = model.signatureDefs[0]
    return definition.inputs, definition.outputs


def _ends(data: bytes) -> dict[str, str]:
    """Output to tensor name."""
    model = read_model(data)
    return {text(i.name): text(model.subgraphs[0].tensors[i.tensorIndex].name) for i in _sides(model)[1]}


def _moved(model: Any, graph: Any, maker: Mapping[int, Any], index: int) -> set[int]:
    """A tensor and those that it is cut and joined from."""
    found = {index}
    operator = maker.get(index)
    if operator is None or op_name(model, operator) not in (
        "CONCATENATION",
        "RESHAPE",
        "SLICE",
        "STRIDED_SLICE",
    ):
        return found
    sources = [int(one) for one in operator.inputs]
    floats = [one for one in sources if graph.tensors[one].type == schema.TensorType.FLOAT32]
    for source in floats:
        found |= _moved(model, graph, maker, source)
    return found


def require_ties(data: bytes) -> None:
    """Hold the scales of caches and memory against each other in a finished flatbuffer.

    Raises:
        TfliteAsrError: two that differ, so that integers would not mean the same on both sides.
    """
    model = read_model(data)
    grids: dict[tuple[str, str], Any] = {}
    for definition in model.signatureDefs:
        graph = model.subgraphs[definition.subgraphIndex]
        for side, items in (("in", definition.inputs), ("out", definition.outputs)):
            for item in items:
                signature, name = text(definition.signatureKey), text(item.name)
                grids[f"{signature} {side}", name] = _grid(graph.tensors[item.tensorIndex])
    for (where, name), grid in grids.items():
        if not where.startswith(f"{DECODE_STEP}_") or not where.endswith(" in"):
            continue
        signature = where.removesuffix(" in")
        for other in (f"{signature} out", f"{encoder_of_step(signature)} out"):
            if grids.get((other, name), grid) != grid:
                raise TfliteAsrError(
                    f"{signature}: {name} goes in on the scale {grid} and comes out of {other.removesuffix(' out')} on "
                    f"{grids[other, name]}; calibrate on other inputs"
                )


def _grid(tensor: Any) -> tuple[float, int] | None:
    found = tensor.quantization
    if found is None or found.scale is None or not len(found.scale):
        return None
    return float(found.scale[0]), int(found.zeroPoint[0])
