"""An encoder-decoder in 8 bits: both of its signatures are trained, each by what the float model says of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.models.random_weights import randomise
from tests.qat.conftest import smooth_clips
from tests.qat.single_op import differences
from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.models.transformer_config import TINY
from tflite_asr.qat.batches import STEPS, Examples, taught_examples, taught_steps
from tflite_asr.qat.graph import Graph, read_graph
from tflite_asr.qat.settings import Settings
from tflite_asr.qat.train import toward_teacher, toward_text, train_low_bit
from tflite_asr.qat.twin import integer_twin
from tflite_asr.quantize.naming import op_name
from tflite_asr.quantize.ranges import Ranges
from tflite_asr.quantize.schemes import scheme
from tflite_asr.quantize.serialize import text
from tflite_asr.quantize.signatures import family_of

CONFIG = replace(TINY, blocks=1, decoder_blocks=1, positions="sinusoidal")
FACTS = ModelFacts("t", "transformer", asdict(CONFIG), subsampling=4, windows_seconds=(1, 2))
ENCODE, STEP = "encode_100", "decode_step_100"
INT8 = scheme("int8")
FEW = Settings(steps=4, batch=2, learning_rate=3e-4, warmup=1)


@dataclass(frozen=True)
class Spelling:
    """parts: signature to lowered float flatbuffer, two windows of two entries. ranges, ties: calibrated on noise."""

    parts: dict[str, bytes]
    ranges: Ranges
    ties: tuple[Any, ...]

    def graph(self, signature: str) -> Graph:
        return read_graph(self.parts[signature], signature, family_of(self.parts, signature).values())

    def examples(self, graph: Graph) -> Examples:
        clips = smooth_clips((100, 70), seed=3)
        if graph.signature == ENCODE:
            return taught_examples(self.parts[ENCODE], graph, clips, 4)
        return taught_steps(self.parts, graph, clips, 4, end_id=0)


@pytest.fixture(scope="module")
def spelling() -> Spelling:
    import tflite_asr.lowering  # noqa: F401
    from tflite_asr.models import build
    from tflite_asr.quantize.calibrate import calibrate
    from tflite_asr.quantize.entries import entries
    from tflite_asr.quantize.signatures import converted, lowered_entries, sequences_of
    from tflite_asr.quantize.steps import step_ties

    model = randomise(build("transformer", CONFIG), seed=3)
    floats = converted(lowered_entries(entries(model, FACTS), 4, FACTS), FACTS.windows, 4)
    parts = {one.signature: one.data for one in floats}
    ranges = calibrate(parts, sequences_of(parts, smooth_clips((100, 80, 150, 200)), 4))
    return Spelling(parts, ranges, tuple(step_ties(parts)))


@pytest.mark.parametrize("kernels", ["xnnpack", "builtin"])
@pytest.mark.parametrize("signature", [ENCODE, STEP])
def test_each_op_fed_the_networks_integers_is_within_one_quantum(
    spelling: Spelling, signature: str, kernels: str
) -> None:
    from tflite_asr.qat.network import QuantisedNetwork
    from tflite_asr.quantize.calibrate import time_axes
    from tflite_asr.quantize.kept_whole import kept_whole

    graph, family = spelling.graph(signature), family_of(spelling.parts, signature).values()
    twin = integer_twin(spelling.parts[signature], graph, spelling.ranges, INT8, spelling.ties)
    network = QuantisedNetwork(graph, twin, spelling.ranges, time_axes(family), kept_whole(family))
    tensors = network.activations(list(spelling.examples(graph).rows([0, 1]).x))
    beyond = total = 0
    for row in (0, 1):
        values = {name: np.asarray(one)[min(row, one.shape[0] - 1)] for name, one in tensors.items()}
        for op in twin.model.subgraphs[0].operators:
            found = differences(twin.model, values, op, kernels)
            beyond, total = beyond + int((found > 1).sum()), total + found.size
            where = text(twin.model.subgraphs[0].tensors[op.outputs[0]].name)
            assert (found > 1).mean() <= 0.02, f"{op_name(twin.model, op)} {where}"
    assert beyond / total < 0.001


def test_an_output_counts_where_there_are_frames_or_tokens(spelling: Spelling) -> None:
    graph = spelling.graph(ENCODE)
    examples = spelling.examples(graph)
    masks = dict(zip(graph.outputs, examples.y[len(graph.outputs) :], strict=True))
    for name in graph.outputs:
        assert masks[name].sum(axis=1).tolist() == [25, 18], name
    graph = spelling.graph(STEP)
    examples = spelling.examples(graph)
    assert len(examples) == 2 * STEPS
    masks = dict(zip(graph.outputs, examples.y[len(graph.outputs) :], strict=True))
    history = dict(zip(graph.inputs, examples.x, strict=True))["history"]
    np.testing.assert_array_equal(masks["keys0"], history)
    assert history.sum(axis=1).min() == 1 < history.sum(axis=1).max()
    assert masks["logits"].shape == (len(examples),)
    assert masks["logits"].all()
    assert masks["context0"].all()


def test_the_objective_is_nil_for_the_teacher_and_grows_with_a_cache(spelling: Spelling) -> None:
    graph = spelling.graph(STEP)
    examples = spelling.examples(graph)
    said = list(examples.y[: len(graph.outputs)])
    objective = toward_teacher(graph)
    assert float(objective(examples.x, examples.y, said)) == pytest.approx(0.0, abs=1e-6)
    place = list(graph.outputs).index("keys0")
    said[place] = 1.1 * said[place]
    caches = len(graph.outputs) - 1
    assert float(objective(examples.x, examples.y, said)) == pytest.approx(0.01 / caches, rel=1e-3)
    with pytest.raises(TfliteAsrError, match="training by text takes one output"):
        toward_text(0)(graph)


def test_text_is_what_the_steps_are_told(spelling: Spelling) -> None:
    graph = spelling.graph(STEP)
    clips = smooth_clips((100, 70), seed=3)
    examples = taught_steps(spelling.parts, graph, clips, 4, end_id=0, spelled=[[5, 6, 7], [8]])
    told = dict(zip(graph.inputs, examples.x, strict=True))
    assert told["token"].reshape(-1).tolist() == [0, 5, 6, 7, 0, 8]
    assert told["position"].reshape(-1).tolist() == [0, 1, 2, 3, 0, 1]


def test_what_was_trained_of_both_is_a_file_whose_caches_have_one_scale(spelling: Spelling) -> None:
    from tflite_asr.qat.model import joined
    from tflite_asr.quantize.finish import finish
    from tflite_asr.quantize.quantizer import quantize
    from tflite_asr.quantize.steps import require_ties
    from tflite_asr.quantize.trained import Trained
    from tflite_asr.quantize.windows import merge

    found = [
        train_low_bit(
            family_of(spelling.parts, signature),
            signature,
            spelling.ranges,
            spelling.examples,
            toward_teacher,
            INT8,
            FEW,
            ties=spelling.ties,
        )
        for signature in (ENCODE, STEP)
    ]
    assert [one.how["grids_moved"] for one in found] == [0, 0]
    both = joined(found, {"objective": "distil"})
    assert [one["signature"] for one in both.how["signatures"]] == [ENCODE, STEP]
    assert set(both.weights) == set(found[0].weights) | set(found[1].weights)
    # Positions differ from window to window, and are not trained.
    assert spelling.graph(ENCODE).fixed
    assert not spelling.graph(ENCODE).fixed & set(both.weights)
    written = both.written_into_all(spelling.parts)
    require_ties(
        merge(
            [
                finish(quantize(data, both.ranges, spelling.ties, INT8), both.ranges)
                for data in written.values()
            ]
        )
    )
    with pytest.raises(TfliteAsrError, match="train this very model"):
        both.written_into_all({STEP: spelling.parts[STEP]})
    assert isinstance(both, Trained)


@pytest.mark.slow
def test_an_encoder_decoder_is_trained_and_exported(tmp_path: Path) -> None:
    import tflite_asr
    from tflite_asr import pipeline
    from tflite_asr.frontend import FrontEnd
    from tflite_asr.models import build
    from tflite_asr.tokens import CHARACTERS

    path = tmp_path / "t.keras"
    randomise(build("transformer", CONFIG), seed=3).save(path)
    frontend = FrontEnd(normalise="fixed", mean=(-9.0,) * 80, std=(4.0,) * 80)
    replace(FACTS, frontend=frontend, tokens=CHARACTERS).write(path)
    with pytest.raises(TfliteAsrError, match="its ranges stay as calibrated"):
        pipeline.train_low_bit(path, tmp_path / "q.npz", steps=2, ranges="widest")
    trained = pipeline.train_low_bit(path, tmp_path / "q.npz", steps=2, batch=2, window_seconds=1.0)
    assert [one["signature"] for one in trained.how["signatures"]] == [ENCODE, STEP]
    assert not list(tmp_path.glob("*.state.npz"))
    bundle = tflite_asr.export(path, tmp_path / "b", qat=tmp_path / "q.npz")
    assert tflite_asr.load(bundle).transcribe(np.zeros(8000, np.float32)).text is not None
