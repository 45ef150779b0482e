"""A few steps on a tiny Conformer: it learns, goes on where it stopped, and what it wrote is what runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.qat.conftest import TRAINED, smooth_clips
from tflite_asr.errors import TfliteAsrError
from tflite_asr.qat.batches import in_batches, taught_examples
from tflite_asr.qat.settings import Order, Settings
from tflite_asr.qat.train import toward_teacher, train_low_bit
from tflite_asr.quantize.schemes import scheme
from tflite_asr.quantize.serialize import read_model, text

INT8 = scheme("int8")
FEW = Settings(steps=6, batch=2, learning_rate=3e-4, warmup=1, ranges="average", looks=2)


def trained_on(room, state=None, tell=lambda step, loss: None, settings=FEW, of=None):
    def examples(graph):
        return taught_examples(room.parts[TRAINED], graph, smooth_clips((100, 90, 100, 70), seed=2), 4)

    return train_low_bit(
        room.parts,
        TRAINED,
        room.ranges,
        examples,
        toward_teacher,
        INT8,
        settings,
        of=of,
        state=state,
        tell=tell,
    )


@pytest.fixture(scope="session")
def few(room):
    return trained_on(room)


def test_weights_move_and_the_grids_of_the_last_steps_are_those_of_the_file(few):
    assert few.how["grids_moved"] == 0
    assert len(few.how["losses"]) == FEW.steps
    assert all(one.source == "qat" for one in few.ranges.values())


def test_every_window_takes_the_weights_and_stays_a_model(room, few):
    from tflite_asr.quantize.finish import finish
    from tflite_asr.quantize.quantizer import quantize
    from tflite_asr.quantize.running import outputs_of

    for signature, data in room.parts.items():
        written = few.written_into(data)
        held = {text(t.name): t for t in read_model(written).subgraphs[0].tensors}
        name = next(iter(few.weights))
        buffer = read_model(written).buffers[held[name].buffer].data
        assert np.array_equal(buffer.view(np.float32).reshape(few.weights[name].shape), few.weights[name])
        file = finish(quantize(written, few.ranges, (), INT8), few.ranges)
        frames = int(signature.rsplit("_", 1)[1])
        feed = {
            "features": np.zeros((1, frames, 80), np.float32),
            "mask": np.ones((1, frames // 4), np.float32),
        }
        assert np.isfinite(outputs_of(file, signature, [feed])[0]["logits"]).all()


def test_weights_of_another_model_are_refused(room, few):
    name = next(iter(few.weights))
    with pytest.raises(TfliteAsrError, match="train this very model"):
        replace(few, began={**few.began, name: "0" * 16}).written_into(room.parts[TRAINED])
    with pytest.raises(TfliteAsrError, match="no 'nowhere'"):
        replace(few, weights={**few.weights, "nowhere": np.zeros(3, np.float32)}).written_into(
            room.parts[TRAINED]
        )


@pytest.mark.slow
def test_an_interrupted_training_goes_on_to_the_same_weights_but_for_the_moments_digits(room, few, tmp_path):
    class Interrupted(Exception):
        pass

    def stop(step, loss):
        if step == 5:
            raise Interrupted

    state = tmp_path / "state.npz"
    with pytest.raises(Interrupted):
        trained_on(room, state, stop)
    assert state.is_file()
    again = trained_on(room, state)
    assert len(again.how["losses"]) == FEW.steps
    for name, values in few.weights.items():
        moved = np.abs(values - again.weights[name]).max()
        assert moved <= 2 * FEW.steps * FEW.learning_rate, name
    with pytest.raises(TfliteAsrError, match="is of another training"):
        trained_on(
            room,
            state,
            settings=replace(FEW, learning_rate=1e-4),
        )
    with pytest.raises(TfliteAsrError, match="is of another training"):
        trained_on(room, state, of={"manifest_sha256": "1"})
    with pytest.raises(TfliteAsrError, match="is of another training"):
        trained_on(room, state, settings=replace(FEW, ranges="calibrated", sparsity="0.5"))


def test_batches_hold_every_row_once_before_any_comes_again():
    from tflite_asr.qat.batches import Examples

    rows = Examples((np.arange(6),), (np.arange(6),))
    batches = [one() for one in in_batches(rows, 2, 6, seed=0)]
    assert sorted(np.concatenate([one.x[0] for one in batches[:3]]).tolist()) == list(range(6))
    assert sorted(np.concatenate([one.x[0] for one in batches[3:]]).tolist()) == list(range(6))


def test_the_last_look_at_ranges_leaves_the_share_that_is_frozen():
    assert Settings(steps=100, ranges="widest", frozen_share=0.5, looks=2).look_steps() == (25, 50)
    assert Settings(steps=100).look_steps() == ()
    assert Settings(steps=1, ranges="average", looks=3).look_steps() == (1,)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(TfliteAsrError, match="0 steps"):
        Settings(steps=0)
    with pytest.raises(TfliteAsrError, match="ranges 'wide'"):
        Settings(ranges="wide")
    with pytest.raises(TfliteAsrError, match="learning rate 2"):
        Settings(learning_rate=2.0)


@pytest.mark.slow
@pytest.mark.parametrize("sparsity", ["0.5", "2:4"])
def test_zeros_are_in_the_file_that_runs(room, sparsity):
    found = trained_on(room, settings=replace(FEW, ranges="calibrated", sparsity=sparsity))
    assert found.how["sparsity"] == pytest.approx(0.5, abs=0.02)
    assert found.how["grids_moved"] == 0
    name = next(name for name in found.weights if name.endswith("dense1/fully_connected:1"))
    zeros = found.weights[name] == 0
    assert zeros.mean() == pytest.approx(0.5, abs=0.01)
    if sparsity == "2:4":
        assert (zeros.reshape(-1, 4).sum(axis=1) == 2).all()


def test_a_state_of_another_window_is_in_the_way_of_this_one(tmp_path):
    order = Order(None, None, "synthetic", 100, 0, None, tmp_path, 1, tmp_path / "q.state.npz", FEW)
    assert order.state_of("ctc_100", True).name == "q.state.npz"
    assert order.state_of("encode_100", False) == order.state_of("encode_200", False)
    assert order.state_of("decode_step_100", False).name == "q.decode_step.state.npz"
