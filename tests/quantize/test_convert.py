from __future__ import annotations

import numpy as np
import pytest

from tests.quantize.conftest import SUBSAMPLING, run
from tflite_asr.errors import TfliteAsrError
from tflite_asr.flatbuffer import read_flatbuffer
from tflite_asr.quantize.convert import convert, output_names, signature_name, static_shapes


@pytest.fixture(scope="module")
def tiny(tiny_keras):
    from tflite_asr.models import load_model

    return load_model(tiny_keras)


def test_a_window_computes_what_the_model_computes(tiny):
    window = convert(tiny, 80, SUBSAMPLING)
    assert window.signature == "ctc_80"
    rng = np.random.default_rng(1)
    features, mask = rng.standard_normal((1, 80, 80)).astype(np.float32), np.ones((1, 20), np.float32)
    features[:, 60:], mask[:, 15:] = 0, 0
    logits = run(window.data, "ctc_80", {"features": features, "mask": mask})["logits"]
    np.testing.assert_allclose(logits, np.asarray(tiny([features, mask])), atol=1e-4)


def test_batch_norm_and_half_steps_are_folded(tiny):
    window = convert(tiny, 80, SUBSAMPLING)
    assert not [path for path in window.tensors if path.endswith((".batch_norm", ".half"))] or all(
        "depthwise" in name
        for path, names in window.tensors.items()
        if path.endswith(".batch_norm")
        for name in names[:1]
    )
    graph = read_flatbuffer(window.data).subgraphs[0]
    assert not {"VAR_HANDLE", "READ_VARIABLE", "SQRT", "DIV"} & {
        operator.name for operator in graph.operators
    }


def test_tensors_bear_the_names_of_modules_in_every_window(room):
    short, long = room.floats["ctc_80"], room.floats["ctc_120"]
    assert short.tensors == long.tensors
    assert "encoder.block0.ff1.dense1" in short.tensors
    assert "ctc.dense" in short.tensors
    assert short.tensors["ctc.dense"] == ("ctc.dense/fully_connected",)
    for window in (short, long):
        graph = read_flatbuffer(window.data).subgraphs[0]
        names = [tensor.name for tensor in graph.tensors]
        assert len(set(names)) == len(names)
        written = {names[index] for operator in graph.operators for index in operator.outputs}
        assert written == {name for some in window.tensors.values() for name in some}


def test_layers_that_keras_numbers_keep_their_own_ops():
    import keras

    source = keras.Input((12, 8), name="source")
    hidden = keras.layers.Dense(4, activation="relu", name="dense")(source)
    hidden = keras.layers.Dense(5, activation="relu", name="dense_1")(hidden)
    model = keras.Model(source, keras.layers.Dense(6, name="dense_1_1")(hidden))
    tensors = convert(model, None).tensors
    assert [names[-1] for names in tensors.values()] == [
        "dense/fully_connected",
        "dense_1/fully_connected",
        "dense_1_1/fully_connected",
    ]


def test_the_same_model_gives_the_same_bytes(tiny):
    assert convert(tiny, 80, SUBSAMPLING) == convert(tiny, 80, SUBSAMPLING)


def test_somebody_s_own_model_keeps_its_names():
    import keras

    left, right = keras.Input((None, 6), name="left"), keras.Input((None, 6), name="right")
    both = keras.layers.Add()([left, right])
    model = keras.Model({"left": left, "right": right}, {"sum": both, "twice": both * 2.0})
    window = convert(model, 10)
    assert window.signature == "main_10"
    ones = np.ones((1, 10, 6), np.float32)
    outputs = run(window.data, "main_10", {"left": ones, "right": 3 * ones})
    assert outputs["sum"].max() == 4
    assert outputs["twice"].min() == 8
    assert sorted(output_names(model)) == ["sum", "twice"]


def test_a_fixed_time_axis_needs_no_window():
    import keras

    source = keras.Input((50, 40))
    model = keras.Model(source, keras.layers.Dense(3)(source))
    assert signature_name(model, None) == "main"
    assert convert(model, None).signature == "main"


def test_open_axes_are_named():
    import keras

    source = keras.Input((None, None, 3), name="picture")
    model = keras.Model(source, keras.layers.Dense(3)(source))
    with pytest.raises(TfliteAsrError, match=r"'picture'.*only the batch and the second axis"):
        static_shapes(model, 10)
    source = keras.Input((None, 3), name="sound")
    with pytest.raises(TfliteAsrError, match="'sound' has an open time axis"):
        static_shapes(keras.Model(source, keras.layers.Dense(3)(source)), None)


def test_an_op_without_a_builtin_is_named():
    import keras

    source = keras.Input((8, 8), name="source")
    model = keras.Model(source, keras.ops.erfinv(source))
    with pytest.raises(TfliteAsrError, match=r"no TFLite builtin for.*Erfinv") as error:
        convert(model, None)
    assert "\n" not in str(error.value)
