"""Checkpoints read without PyTorch: those it wrote itself, and those that nobody should load."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.nemo.archives import FIXTURES, checkpoint, state_dict, tensor, word
from tflite_asr.errors import TfliteAsrError
from tflite_asr.nemo.tensors import Tensors
from tflite_asr.nemo.weights import read_weights

ONE = np.arange(6, dtype=np.float32).reshape(2, 3)


def refusal(data: bytes) -> str:
    with pytest.raises(TfliteAsrError) as caught:
        read_weights(data, "model.nemo")
    message = str(caught.value)
    assert message.startswith("model.nemo: ")
    assert "\n" not in message
    return message


def one_tensor(**changes: Any) -> bytes:
    """A checkpoint of ONE under the name w, its tensor described otherwise."""
    said = {"kind": "FloatStorage", "key": "0", "numbers": 6, "shape": [2, 3], "strides": [3, 1], **changes}
    return checkpoint(b"\x80\x02}(" + word("w") + tensor(**said) + b"u.", {"0": ONE.tobytes()})


class Calls:
    """Pickles as a call of anything."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def test_every_dtype_and_layout_is_what_torch_saved() -> None:
    """dtypes.ckpt is torch.save's: halves, bfloat16, doubles, whole numbers, views, a transpose, a parameter."""
    found = read_weights((FIXTURES / "dtypes.ckpt").read_bytes(), "dtypes.ckpt")
    expected = np.load(FIXTURES / "dtypes.npz")
    assert set(found) == set(expected.files)
    for name in expected.files:
        np.testing.assert_array_equal(found[name], expected[name], strict=True)


def test_the_format_before_torch_1_6_is_refused_with_the_way_out() -> None:
    assert "PyTorch before 1.6; load it and torch.save it again" in refusal(
        (FIXTURES / "legacy.ckpt").read_bytes()
    )


def test_a_checkpoint_made_by_hand_is_read_too() -> None:
    found = read_weights(state_dict({"a.b": ONE, "n": np.array(3)}), "model.nemo")
    np.testing.assert_array_equal(found["a.b"], ONE)
    assert found["n"] == 3


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_no_pickle_calls_a_function(tmp_path: Path, protocol: int) -> None:
    """os.system by every protocol: refused, by its name where the pickle gets as far as naming it."""
    witness = tmp_path / "executed"
    hostile = {"w": Calls(os.system, f"touch {witness}")}
    message = refusal(checkpoint(pickle.dumps(hostile, protocol)))
    assert f"{os.system.__module__}.system" in message or "its pickle uses" in message
    assert not witness.exists()


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (eval, "builtins.eval"),
        (getattr, "builtins.getattr"),
        (__import__, "builtins.__import__"),
        (OrderedDict.fromkeys, "builtins.getattr"),
        (os.path.join, "posixpath.join"),
    ],
)
def test_a_global_that_no_state_dict_needs_is_refused_by_name(function: Any, name: str) -> None:
    named = name.replace("builtins", "__builtin__"), name
    message = refusal(checkpoint(pickle.dumps({"w": Calls(function, "1")}, 2)))
    assert any(f"names {each}" in message for each in named)


@pytest.mark.parametrize(
    "name", ["torch.load", "torch._utils._rebuild_sparse_tensor", "torch.storage._load_from_bytes"]
)
def test_other_parts_of_torch_are_refused_too(name: str) -> None:
    module, function = name.rsplit(".", 1)
    program = b"\x80\x02}(" + word("w") + f"c{module}\n{function}\n(tR".encode() + b"u."
    assert f"names {name}" in refusal(checkpoint(program))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"numbers": 7}, "storage 0 holds 6 numbers, its pickle says 7"),
        ({"kind": "DoubleStorage"}, "storage 0 holds 3 numbers, its pickle says 6"),
        ({"key": "1"}, "storage 1 is missing"),
        ({"key": "../0"}, "of no known kind"),
        ({"shape": [2, 4]}, "reaches beyond its storage of 6 numbers"),
        ({"offset": 1}, "reaches beyond its storage of 6 numbers"),
        ({"offset": -1}, "is malformed"),
        ({"strides": [-3, 1]}, "is malformed"),
        ({"strides": [3]}, "is malformed"),
        ({"shape": [1 << 30, 1 << 30], "strides": [0, 0]}, "reaches beyond its storage"),
        ({"shape": [1] * 9, "strides": [1] * 9}, "is malformed"),
        ({"kind": "ComplexFloatStorage"}, "names torch.ComplexFloatStorage"),
    ],
)
def test_a_tensor_that_its_storage_does_not_hold_is_refused(changes: dict[str, Any], message: str) -> None:
    assert message in refusal(one_tensor(**changes))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (pickle.dumps([1], 2), "holds a list, not a dict of tensors"),
        (pickle.dumps({}, 2), "not a dict of tensors"),
        (pickle.dumps({"w": 3}, 2), "'w' is a int, not a tensor"),
        (pickle.dumps({"w": 10**40}, 2), "'w' is a int"),
        (b"\x80\x02}r\xff\xff\xff\x7f.", "claims 2,147,483,647 objects"),
        (b"\x80\x02}", "is damaged"),
        (b"\x80\x02" + b"(" * 10, "is damaged"),
        (b"", "is damaged"),
    ],
    ids=["list", "empty", "number", "long", "memo", "no stop", "marks", "nothing"],
)
def test_anything_but_a_dict_of_tensors_is_refused(program: bytes, message: str) -> None:
    assert message in refusal(checkpoint(program))


def test_a_damaged_storage_is_refused() -> None:
    data = bytearray(one_tensor())
    place = data.find(ONE.tobytes())
    data[place] ^= 0xFF
    assert "is damaged (BadZipFile" in refusal(bytes(data))
    assert "no PyTorch checkpoint" in refusal(bytes(data[: len(data) // 2]))
    assert "no PyTorch checkpoint" in refusal(b"nothing of the kind")


def test_a_zip_that_unpacks_to_more_than_it_is_is_refused() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/data.pkl", pickle.dumps({}, 2))
        archive.writestr("model/data/0", bytes(50 << 20))
    assert "claims more bytes than it has" in refusal(out.getvalue())


def test_big_endian_storages_are_refused() -> None:
    out = io.BytesIO(one_tensor())
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("model/byteorder", "big")
    assert "big-endian" in refusal(out.getvalue())


def test_a_tensor_is_taken_once_by_name_and_shape() -> None:
    tensors = Tensors({"a": ONE, "b": ONE, "n": np.arange(3), "bad": ONE * np.nan}, "model.nemo")
    np.testing.assert_array_equal(tensors.take("a", 2, 3), ONE)
    for name, shape, message in (
        ("a", (2, 3), "no tensor a"),
        ("b", (3, 2), r"b is \[2, 3\], the config says \[3, 2\]"),
        ("n", (3,), "n holds int64 numbers"),
        ("bad", (2, 3), "bad holds NaN"),
    ):
        with pytest.raises(TfliteAsrError, match=message):
            tensors.take(name, *shape)


def test_tensors_left_over_are_named_but_counters_and_tables_are_not() -> None:
    computed = {"norm.num_batches_tracked": np.array(1), "encoder.pos_enc.pe": ONE}
    Tensors({**computed, "preprocessor.featurizer.fb": ONE}, "m").done()
    with pytest.raises(TfliteAsrError, match=r"m: tensor adapter\.0\.weight and 1 more has no place"):
        Tensors({**computed, "adapter.0.weight": ONE, "adapter.1.weight": ONE}, "m").done()
