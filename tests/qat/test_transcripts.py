"""The shipped Conformer on real speech: what the network under training says is what the integer file says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tflite_asr.quantize.schemes import scheme
from tflite_asr.quantize.serialize import read_model

UTTERANCES, SIGNATURE, SUBSAMPLING = 100, "ctc_400", 4


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


def _collapsed(logits: np.ndarray) -> list[int]:
    best = logits.argmax(-1).tolist()
    return [one for one, before in zip(best, [-1, *best[:-1]], strict=True) if one != before]
