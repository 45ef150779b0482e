from __future__ import annotations

import json

import numpy as np
import pytest

from tests.quantize.conftest import SUBSAMPLING, random_feed, run, smooth_inputs
from tflite_asr.audit import audit
from tflite_asr.errors import TfliteAsrError
from tflite_asr.measure.walk import walk
from tflite_asr.quantize.build import _build, _Order, build_flatbuffer, build_flatbuffers
from tflite_asr.quantize.calibrators import CALIBRATORS
from tflite_asr.quantize.schemes import scheme

INPUTS = smooth_inputs((50, 80, 75))
NORMS = 5  # of the tiny model's one block


def here(path, schemes, windows=(80,), inputs=INPUTS, ranges=None, calibrator="min_max", repair=None):
    """`build_flatbuffers` in this process, whose TensorFlow has two threads where the child's has one."""
    order = _Order(
        tuple(windows),
        tuple(map(scheme, schemes)),
        inputs,
        SUBSAMPLING,
        (),
        ranges,
        calibrator=calibrator,
        repair=repair,
    )
    return _build(str(path), order)


@pytest.fixture(scope="module")
def built(tiny_keras):
    return dict(
        zip(
            ("float32", "dynamic", "int8"),
            here(tiny_keras, ["float32", "dynamic_wi8_afp32", "int8"]),
            strict=True,
        )
    )


def test_int8_is_integers_only_and_float_is_not(built):
    assert audit(built["int8"].data, load=False).integer_only
    assert not audit(built["float32"].data, load=False).integer_only
    assert built["int8"].lowered
    assert not built["float32"].lowered
    assert not built["dynamic"].lowered
    assert built["float32"].ranges is None
    assert built["int8"].ranges


def test_signatures_are_what_a_bundle_records(built):
    described = built["int8"].signatures["ctc_80"]
    assert described["inputs"]["features"]["shape"] == [1, 80, 80]
    assert described["inputs"]["features"]["dtype"] == "int8"
    assert described["inputs"]["mask"]["zero_point"] == -128
    assert described["outputs"]["logits"]["shape"] == [1, 20, 29]
    assert described["outputs"]["logits"]["scale"] > 0
    assert built["float32"].signatures["ctc_80"]["inputs"]["mask"] == {"shape": [1, 20], "dtype": "float32"}


def test_dynamic_is_smaller_and_near(built):
    feed = random_feed(built["float32"].data, "ctc_80")
    exact, near = (run(built[name].data, "ctc_80", feed)["logits"] for name in ("float32", "dynamic"))
    assert len(built["dynamic"].data) < 0.6 * len(built["float32"].data)
    assert 10 * np.log10((exact**2).sum() / ((exact - near) ** 2).sum()) > 25


def test_a_child_makes_the_same_bytes(built, tiny_keras):
    """Another process, another number of threads, the schemes in another order and company."""
    seen = []
    again = build_flatbuffer(
        tiny_keras,
        (80,),
        "int8",
        INPUTS,
        subsampling=SUBSAMPLING,
        progress=lambda stage, fraction: seen.append(fraction),
    )
    assert again.data == built["int8"].data
    assert again.ranges.sha256 == built["int8"].ranges.sha256
    assert again.tensors == built["int8"].tensors
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_auto_makes_what_the_calibrator_that_it_names_makes(built, tiny_keras):
    (found,) = here(tiny_keras, ["int8"], calibrator="auto")
    trial = found.calibrated["auto"]
    assert set(trial["scores_db"]) == set(CALIBRATORS)
    assert (trial["window"], trial["clips"]) == ("ctc_80", 1)
    (named,) = here(tiny_keras, ["int8"], calibrator=found.calibrated["calibrator"])
    assert found.data == named.data
    assert named.calibrated == {"calibrator": found.calibrated["calibrator"], "corrected_biases": NORMS}
    assert built["int8"].calibrated == {"calibrator": "min_max", "corrected_biases": NORMS}
    assert built["float32"].calibrated == {}


def test_a_repaired_model_is_integers_only_and_no_worse_where_it_was_judged(built, tiny_keras):
    (found,) = here(tiny_keras, ["int8"], repair=walk)
    assert audit(found.data, load=False).integer_only
    steps = found.calibrated["repair"]
    assert all(step["after_db"] > step["before_db"] for step in steps if step["kept"])
    assert json.loads(json.dumps(steps)) == json.loads(json.dumps(found.calibrated["repair"]))
    if not any(step["kept"] for step in steps):
        assert found.data == built["int8"].data


def test_given_ranges_stand_in_for_calibration(built, tiny_keras):
    ranges = built["int8"].ranges
    (again,) = here(tiny_keras, ["int8"], ranges=ranges)
    assert again.data == built["int8"].data
    (alone,) = here(tiny_keras, ["int8"], inputs=None, ranges=ranges)
    assert alone.ranges == ranges
    assert "corrected_biases" not in alone.calibrated


def test_somebody_s_own_model_of_stock_layers_is_integers_only(tmp_path):
    import keras
    from keras import layers

    keras.utils.set_random_seed(1)
    source = keras.Input((None, 24), name="frames")
    hidden = layers.Conv1D(16, 3, padding="same", activation="gelu")(source)
    hidden = layers.BatchNormalization()(hidden)
    hidden = layers.Add()([hidden, layers.MultiHeadAttention(2, 8)(hidden, hidden)])
    hidden = layers.LayerNormalization()(hidden)
    model = keras.Model(source, layers.Dense(5)(hidden))
    path = tmp_path / "own.keras"
    model.save(path)
    (result,) = here(
        path, ["int8"], (30, 60), [np.random.default_rng(0).standard_normal((n, 24)) for n in (30, 55)]
    )
    report = audit(result.data, load=False)
    assert report.integer_only, report.offending[0]
    assert list(result.signatures) == ["main_30", "main_60"]
    feed = random_feed(result.data, "main_60")
    assert run(result.data, "main_60", feed)["output"].shape == (1, 60, 5)


def test_what_is_missing_is_one_line(tiny_keras, tmp_path):
    with pytest.raises(TfliteAsrError, match="needs inputs to calibrate on"):
        build_flatbuffers(tiny_keras, (80,), ["int8"])
    with pytest.raises(TfliteAsrError, match="unknown"):
        build_flatbuffers(tiny_keras, (80,), ["int9"])
    with pytest.raises(TfliteAsrError, match="no window length"):
        here(tiny_keras, ["float32"], ())


def test_a_loop_is_refused_by_its_name(tmp_path):
    import keras

    x = keras.Input((12, 8))
    keras.Model(x, keras.layers.LSTM(4, return_sequences=True, name="memory")(x)).save(
        tmp_path / "lstm.keras"
    )
    inputs = [np.ones((12, 8), np.float32)]
    with pytest.raises(
        TfliteAsrError, match="main: holds WHILE for 'memory/while', and what runs inside a loop"
    ):
        build_flatbuffers(tmp_path / "lstm.keras", (), ["int8"], inputs, subsampling=1)


@pytest.mark.slow
def test_four_windows_of_the_shipped_size_are_a_fraction_of_float(tmp_path):
    """2.4 M parameters, windows of 2, 4, 8 and 16 s in both files: 9.6 MB of float, 3.5 times what int8 takes."""
    import keras

    from tflite_asr.models.conformer import SHIPPED, build_conformer

    keras.utils.set_random_seed(0)
    model = build_conformer(SHIPPED)
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if variable.path.endswith(("bias", "beta", "moving_mean")):
            variable.assign(rng.normal(0, 0.1, variable.shape))
        if variable.path.endswith("gamma"):  # the float side leaves out scales that are all 1
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    path = tmp_path / "shipped.keras"
    model.save(path)
    windows = (200, 400, 800, 1600)
    inputs = smooth_inputs((150, 390, 700, 1600))
    whole, small = build_flatbuffers(path, windows, ["float32", "int8"], inputs, subsampling=SUBSAMPLING)
    assert len(whole.data) >= 3.5 * len(small.data)
    report = audit(small.data)
    assert report.integer_only
    assert list(report.signatures) == [f"ctc_{frames}" for frames in windows]
    assert set(report.runtimes.values()) == {"loads"}
