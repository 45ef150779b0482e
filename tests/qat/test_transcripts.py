"""The shipped Conformer on real speech: what the network under training says is what the integer file says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tflite_asr.quantize.schemes import scheme
from tflite_asr.quantize.serialize import read_model

UTTERANCES, SIGNATURE, SUBSAMPLING = 100, "ctc_400", 4
LONGEST = 80  # tokens of a window of 4 s


@pytest.mark.slow
def test_the_network_says_what_the_file_says(speech_data: Path):
    import tflite_asr.lowering  # noqa: F401
    from tflite_asr.audio import read_audio
    from tflite_asr.facts import ModelFacts
    from tflite_asr.frontend import log_mel
    from tflite_asr.manifest import read_manifest
    from tflite_asr.models import load_model
    from tflite_asr.pipeline.model_files import model_path
    from tflite_asr.qat.batches import taught_examples
    from tflite_asr.qat.graph import read_graph
    from tflite_asr.qat.network import QuantisedNetwork
    from tflite_asr.qat.twin import integer_twin
    from tflite_asr.quantize.calibrate import calibrate, lay_into_windows, time_axes
    from tflite_asr.quantize.convert import convert
    from tflite_asr.quantize.finish import finish
    from tflite_asr.quantize.kept_whole import kept_whole
    from tflite_asr.quantize.lowered import lowered
    from tflite_asr.quantize.quantizer import quantize
    from tflite_asr.quantize.running import Observer, outputs_of
    from tflite_asr.synthesis.prior import prior_clips
    from tflite_asr.synthesis.shapes import model_inputs

    path = model_path("conformer-ctc")
    facts, model = ModelFacts.read(path), load_model(path)
    small = lowered(model, SUBSAMPLING, facts)
    parts = {one.signature: one.data for one in (convert(small, n, SUBSAMPLING) for n in (200, 400))}
    clips = [clip for batch in prior_clips(model_inputs(model, facts), facts, 0) for clip in batch]
    ranges = calibrate(parts, lay_into_windows(clips, parts, SUBSAMPLING))
    data, int8 = parts[SIGNATURE], scheme("int8")
    graph = read_graph(data, SIGNATURE)
    twin = integer_twin(data, graph, ranges, int8)
    network = QuantisedNetwork(graph, twin, ranges, time_axes(parts.values()), kept_whole(parts.values()))
    heard = [
        log_mel(read_audio(row.audio_filepath, facts.frontend.sample_rate), facts.frontend)
        for row in read_manifest(speech_data / "an4" / "dev.jsonl")
        if row.duration < 4.0
    ][:UTTERANCES]
    examples = taught_examples(data, graph, heard, SUBSAMPLING)
    mine = np.concatenate(
        [
            np.asarray(network(list(examples.rows(range(i, min(i + 10, len(examples)))).x)))
            for i in range(0, len(examples), 10)
        ]
    )
    file = finish(quantize(data, ranges, (), int8), ranges)
    feeds = [
        dict(zip(graph.inputs, (x[i : i + 1] for x in examples.x), strict=True)) for i in range(len(examples))
    ]
    xnnpack = np.concatenate([one["logits"] for one in outputs_of(file, SIGNATURE, feeds)])
    tensor = read_model(file).subgraphs[0].tensors[read_model(file).subgraphs[0].outputs[0]]
    scale, zero_point = tensor.quantization.scale[0], tensor.quantization.zeroPoint[0]
    observer = Observer(file, SIGNATURE, [])
    builtin = np.concatenate(
        [(observer.run(one)["logits"].astype(np.float32) - zero_point) * scale for one in feeds]
    )
    masks = examples.y[1] > 0

    def apart(one, other):
        return float(np.square(one - other)[masks].mean())

    def equal(one, other):
        same = [
            facts.tokens.decode(_collapsed(a[m])) == facts.tokens.decode(_collapsed(b[m]))
            for a, b, m in zip(one, other, masks, strict=True)
        ]
        return float(np.mean(same))

    both = {"xnnpack": xnnpack, "builtin": builtin}
    kernels = apart(xnnpack, builtin), equal(xnnpack, builtin)
    found = {"kernels": kernels, **{name: (apart(mine, one), equal(mine, one)) for name, one in both.items()}}
    print(f"\n{len(heard)} utterances; mean squared difference, share of equal transcripts: {found}")
    assert min(apart(mine, xnnpack), apart(mine, builtin)) <= kernels[0]
    # A transcript turns over on one argmax: of so few, no finer difference can be told than two standard errors.
    error = np.sqrt(kernels[1] * (1 - kernels[1]) / len(heard))
    assert max(equal(mine, xnnpack), equal(mine, builtin)) >= min(0.99, kernels[1] - 2 * error)


@pytest.mark.slow
def test_the_encoder_decoders_networks_spell_what_the_file_spells(speech_data: Path):
    import tflite_asr.lowering  # noqa: F401
    from tflite_asr.audio import read_audio
    from tflite_asr.facts import ModelFacts
    from tflite_asr.frontend import log_mel
    from tflite_asr.manifest import read_manifest
    from tflite_asr.models import load_model
    from tflite_asr.models.transformer import ctc_part
    from tflite_asr.models.transformer_config import initial_state
    from tflite_asr.pipeline.model_files import model_path
    from tflite_asr.quantize.calibrate import calibrate, lay_into_windows
    from tflite_asr.quantize.entries import entries
    from tflite_asr.quantize.finish import finish
    from tflite_asr.quantize.quantizer import quantize
    from tflite_asr.quantize.signatures import converted, lowered_entries, sequences_of
    from tflite_asr.quantize.steps import step_ties
    from tflite_asr.slim.slim import model_config
    from tflite_asr.synthesis.prior import prior_clips
    from tflite_asr.synthesis.shapes import model_inputs

    path = model_path("speech-transformer")
    facts, model = ModelFacts.read(path), load_model(path)
    floats = converted(lowered_entries(entries(model, facts), SUBSAMPLING, facts), (200, 400), SUBSAMPLING)
    parts = {one.signature: one.data for one in floats}
    ties = tuple(step_ties(parts))
    clips = [clip for some in prior_clips(model_inputs(ctc_part(model), facts), facts, 0) for clip in some]
    ranges = calibrate(parts, sequences_of(parts, clips, SUBSAMPLING, facts.blank_id))
    names = ("encode_400", "decode_step_400")
    int8 = scheme("int8")
    files = {name: finish(quantize(parts[name], ranges, ties, int8), ranges) for name in names}
    heard = [
        log_mel(read_audio(row.audio_filepath, facts.frontend.sample_rate), facts.frontend)
        for row in read_manifest(speech_data / "an4" / "dev.jsonl")
        if row.duration < 4.0
    ][:UTTERANCES]
    laid = [one[0] for one in lay_into_windows(heard, {names[0]: parts[names[0]]}, SUBSAMPLING)[names[0]]]
    given = {name: np.concatenate([one[name] for one in laid]) for name in laid[0]}
    engines = {
        "network": [_network(parts, name, ranges, ties) for name in names],
        "xnnpack": [_kernels(files[name], name, "AUTO") for name in names],
        "builtin": [_kernels(files[name], name, "BUILTIN_WITHOUT_DEFAULT_DELEGATES") for name in names],
    }
    caches = initial_state(model_config(facts), LONGEST)
    said = {name: _spelled(*both, given, caches, facts.blank_id) for name, both in engines.items()}

    def equal(one, other):
        return float(np.mean([a == b for a, b in zip(said[one][0], said[other][0], strict=True)]))

    def apart(one, other):
        return float(np.square(said[one][1] - said[other][1]).mean())

    found = {
        f"{one}, {other}": (apart(one, other), equal(one, other))
        for one, other in (("xnnpack", "builtin"), ("network", "xnnpack"), ("network", "builtin"))
    }
    print(
        f"\n{len(heard)} utterances; mean squared difference at the first token, equal transcripts: {found}"
    )
    kernels = found["xnnpack, builtin"]
    mine = [found["network, xnnpack"], found["network, builtin"]]
    assert min(one[0] for one in mine) <= kernels[0]
    error = np.sqrt(kernels[1] * (1 - kernels[1]) / len(heard))
    assert max(one[1] for one in mine) >= min(0.99, kernels[1] - 2 * error)


def _network(parts, signature, ranges, ties):
    """A signature under training, as a function of batches by name."""
    import tensorflow as tf

    from tflite_asr.qat.graph import read_graph
    from tflite_asr.qat.network import QuantisedNetwork
    from tflite_asr.qat.twin import integer_twin
    from tflite_asr.quantize.calibrate import time_axes
    from tflite_asr.quantize.kept_whole import kept_whole
    from tflite_asr.quantize.signatures import family_of

    family = family_of(parts, signature).values()
    graph = read_graph(parts[signature], signature, family)
    twin = integer_twin(parts[signature], graph, ranges, scheme("int8"), ties)
    network = QuantisedNetwork(graph, twin, ranges, time_axes(family), kept_whole(family))
    traced = tf.function(lambda inputs: network(inputs))

    def run(feed):
        outputs = traced([tf.constant(feed[name]) for name in graph.inputs])
        return {name: one.numpy() for name, one in zip(graph.outputs, outputs, strict=True)}

    return run


def _kernels(file, signature, resolver):
    """An integer file, as a function of batches by name; what it carries is on its grids already."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    from tflite_asr.quantize.running import _real, _stored

    interpreter = Interpreter(
        model_content=file,
        num_threads=1,
        experimental_op_resolver_type=getattr(OpResolverType, resolver),
    )
    runner = interpreter.get_signature_runner(signature)
    details = runner.get_output_details()

    def run(feed):
        assert interpreter is not None
        rows = []
        for row in range(len(next(iter(feed.values())))):
            one = {name: values[row : row + 1] for name, values in feed.items() if name in runner._inputs}
            rows.append(runner(**_stored(one, runner)))
        return {name: np.concatenate([_real(one[name], details[name]) for one in rows]) for name in details}

    return run


def _spelled(encode, step, given, caches, end_id):
    """Greedy tokens of every utterance, and the logits of the first token."""
    count = len(given["features"])
    memory = encode(given)
    memory.pop("logits")
    state = {name: np.zeros((count, *shape), np.float32) for name, shape in caches.items()}
    history, token = np.zeros((count, LONGEST), np.float32), np.full((count, 1), end_id, np.int32)
    texts, ended, first = [[] for _ in range(count)], np.zeros(count, bool), None
    for place in range(LONGEST):
        history[:, LONGEST - 1 - place] = 1.0
        outputs = step(
            {
                **state,
                **memory,
                "mask": given["mask"],
                "history": history,
                "token": token,
                "position": np.full((count, 1), place, np.int32),
            }
        )
        logits = outputs.pop("logits")
        first = logits if first is None else first
        state = outputs
        token = logits.argmax(-1).astype(np.int32).reshape(-1, 1)
        ended |= token[:, 0] == end_id
        if ended.all():
            break
        for row in np.flatnonzero(~ended):
            texts[row].append(int(token[row, 0]))
    return texts, first


def _collapsed(logits: np.ndarray) -> list[int]:
    best = logits.argmax(-1).tolist()
    return [one for one, before in zip(best, [-1, *best[:-1]], strict=True) if one != before]
