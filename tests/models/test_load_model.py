"""A `.keras` file is opened without executing anything in it; each thing that can be wrong with one is one line."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import keras
import pytest

from tflite_asr.errors import TfliteAsrError
from tflite_asr.models import load_model


@keras.saving.register_keras_serializable(package="elsewhere")
class Subclassed(keras.Model):
    """What many tutorials write."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(2)

    def call(self, inputs):
        return self.dense(inputs)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    x = keras.Input((3,))
    model = keras.Model(x, keras.layers.Dense(2, activation="relu", name="only")(x))
    model.save(tmp_path / "m.keras")
    return tmp_path / "m.keras"


def complaint(path: Path) -> str:
    with pytest.raises(TfliteAsrError) as caught:
        load_model(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    assert len(message) < 400
    return message.removeprefix(f"{path}: ")


def rewrite(path: Path, change: Callable[[str], str]) -> None:
    """Change config.json of a saved model."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["config.json"] = change(parts["config.json"].decode()).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)


def test_a_whole_file_loads(saved: Path) -> None:
    assert load_model(str(saved)).count_params() == 8


def test_a_sequential_model_loads(tmp_path: Path) -> None:
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(tmp_path / "s.keras")
    assert load_model(tmp_path / "s.keras").count_params() == 8


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert complaint(tmp_path / "gone.keras") == (
        "no such model; give a .keras file or the name of a shipped checkpoint"
    )
    assert "no such model" in complaint(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_file_cut_short_is_damaged(saved: Path, share: float) -> None:
    data = saved.read_bytes()
    saved.write_bytes(data[: int(share * len(data))])
    assert "is damaged or not a .keras file" in complaint(saved)


def test_a_flipped_byte_among_the_weights_is_found(saved: Path) -> None:
    """The archive keeps a checksum of every part."""
    data = bytearray(saved.read_bytes())
    with zipfile.ZipFile(saved) as archive:
        place = archive.getinfo("model.weights.h5").header_offset
    data[place + 2000] ^= 0xFF
    saved.write_bytes(bytes(data))
    assert "cannot be loaded" in complaint(saved)


def test_an_archive_of_something_else_is_no_model(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "cannot be loaded" in complaint(tmp_path / "m.keras")


def test_weights_of_another_shape_are_refused(saved: Path) -> None:
    rewrite(saved, lambda text: text.replace('"units": 2', '"units": 5'))
    assert "cannot be loaded" in complaint(saved)


def test_a_subclassed_model_is_to_be_rebuilt(tmp_path: Path) -> None:
    model = Subclassed()
    model(keras.ops.ones((1, 3)))
    model.save(tmp_path / "m.keras")
    assert (
        complaint(tmp_path / "m.keras")
        == "is a subclassed model (Subclassed); rebuild it as a Functional one"
    )


def test_a_subclassed_model_unknown_here_is_an_unknown_class(tmp_path: Path) -> None:
    model = Subclassed()
    model(keras.ops.ones((1, 3)))
    model.save(tmp_path / "m.keras")
    rewrite(
        tmp_path / "m.keras", lambda text: text.replace("Subclassed", "Strange").replace(__name__, "strange")
    )
    message = complaint(tmp_path / "m.keras")
    assert "holds a class that is not known here" in message
    assert "Strange" in message


def test_a_lambda_is_named_and_never_run(tmp_path: Path) -> None:
    x = keras.Input((3,))
    keras.Model(x, keras.layers.Lambda(lambda v: v * 2)(x)).save(tmp_path / "m.keras")
    assert complaint(tmp_path / "m.keras").startswith("holds a Lambda, whose code would be executed")


def test_an_unknown_layer_is_named(saved: Path) -> None:
    rewrite(saved, lambda text: text.replace('"class_name": "Dense"', '"class_name": "Dance"'))
    message = complaint(saved)
    assert "holds a class that is not known here" in message
    assert "Dance" in message


def test_a_file_cannot_name_code_to_run(saved: Path, tmp_path: Path) -> None:
    """An activation that names a function of the standard library is not looked up, let alone called."""
    witness = tmp_path / "witness"
    call = {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}

    def change(text: str) -> str:
        config = json.loads(text)
        for layer in config["config"]["layers"]:
            if layer["class_name"] == "Dense":
                layer["config"]["activation"] = call
                layer["module"], layer["class_name"] = "subprocess", "Popen"
                layer["config"] = {"args": ["touch", str(witness)]}
        return json.dumps(config)

    rewrite(saved, change)
    complaint(saved)
    assert not witness.exists()
