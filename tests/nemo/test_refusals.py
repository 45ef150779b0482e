"""What cannot be mapped is refused by name, in one line, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.nemo.archives import FIXTURES, changed, members, state_dict
from tflite_asr.errors import TfliteAsrError
from tflite_asr.nemo import import_nemo
from tflite_asr.nemo.alphabet import sentence_pieces
from tflite_asr.nemo.archive import WEIGHTS
from tflite_asr.nemo.weights import read_weights

Change = Callable[[dict[str, Any]], object]


def refusal(archive: Path, folder: Path) -> str:
    before = sorted(folder.iterdir())
    with pytest.raises(TfliteAsrError) as caught:
        import_nemo(archive, folder / "out.keras")
    assert sorted(folder.iterdir()) == before
    message = str(caught.value)
    assert "\n" not in message
    return message


def put(path: str, value: Any) -> Change:
    """Set `encoder.jasper.1.se`, say."""
    *tables, last = path.split(".")

    def change(config: dict[str, Any]) -> None:
        table: Any = config
        for name in tables:
            table = table[int(name) if name.isdigit() else name]
        table[last] = value

    return change


PREPROCESSOR = [
    ("sample_rate", 0, "preprocessor.sample_rate is 0; a number above 0, up to 768000"),
    ("window_size", float("nan"), "preprocessor.window_size is nan; a number is expected"),
    ("window_stride", float("inf"), "preprocessor.window_stride is inf; a number is expected"),
    ("window_size", 1e-9, "preprocessor.window_size is 1e-09; a sample at the least"),
    ("n_fft", 1 << 40, "preprocessor.n_fft is 1099511627776; a number above 0"),
    ("log_zero_guard_value", ["a"], "preprocessor.log_zero_guard_value is ['a']; a number"),
    ("normalize", {"fixed_mean": ["a"], "fixed_std": [1]}, "preprocessor.normalize is {"),
    ("lowfreq", 9000.0, "changed.nemo: preprocessor: front end: bands from 9000.0"),
]


@pytest.mark.parametrize(("key", "value", "message"), PREPROCESSOR)
def test_a_front_end_that_cannot_be_is_refused(key: str, value: Any, message: str, tmp_path: Path) -> None:
    archive = changed("quartznet", tmp_path, put(f"preprocessor.{key}", value))
    assert message in refusal(archive, tmp_path)


def test_what_our_own_configs_refuse_names_the_archive_and_its_section(tmp_path: Path) -> None:
    archive = changed("conformer", tmp_path, put("encoder.n_heads", 0))
    assert f"{archive}: encoder: conformer: heads is 0" in refusal(archive, tmp_path)


def test_a_value_of_any_size_is_shown_in_short(tmp_path: Path) -> None:
    """A few aliases in YAML stand for more text than there is memory."""
    nested: list[Any] = ["a"]
    for _ in range(40):
        nested = [nested] * 9
    archive = changed("quartznet", tmp_path, put("encoder.unheard_of", nested))
    assert len(refusal(archive, tmp_path)) < 1000


CONFORMER = [
    ("target", "nemo.x.EncDecRNNTBPEModel", "target is 'nemo.x.EncDecRNNTBPEModel'; only EncDecCTCModel and"),
    ("adapters", {"a": 1}, "adapters is {'a': 1}; only CTC models without adapters"),
    ("encoder._target_", "nemo.x.SqueezeformerEncoder", "encoder._target_ is 'nemo.x.SqueezeformerEncoder'"),
    (
        "encoder.att_context_style",
        "chunked_limited",
        "encoder.att_context_style is 'chunked_limited'; only regular",
    ),
    ("encoder.att_context_size", [-2, 1], "encoder.att_context_size is [-2, 1]; two whole numbers"),
    (
        "encoder.self_attention_model",
        "rel_pos_local_attn",
        "encoder.self_attention_model is 'rel_pos_local_attn'",
    ),
    ("encoder.self_attention_model", "abs_pos", "encoder.self_attention_model is 'abs_pos'; only rel_pos"),
    ("encoder.subsampling", "vggnet", "encoder.subsampling is 'vggnet'; only striding or dw_striding"),
    ("encoder.conv_norm_type", "layer_norm", "encoder.conv_norm_type is 'layer_norm'; only batch_norm"),
    ("encoder.conv_context_size", [3, 1], "encoder.conv_context_size is [3, 1]; only null"),
    ("encoder.causal_downsampling", True, "encoder.causal_downsampling is True; only false"),
    ("encoder.reduction_factor", 2, "encoder.reduction_factor is 2; only 1"),
    ("encoder.feat_out", 20, "encoder.feat_out is 20; an encoder that projects"),
    ("encoder.global_tokens", 1, "encoder.global_tokens is 1; only 0"),
    ("encoder.invented", 3, "encoder.invented is 3; it is not known here"),
    ("encoder.n_layers", "two", "encoder.n_layers is 'two'; a whole number"),
    ("encoder.n_layers", "${model.n}", "encoder.n_layers is '${model.n}'; resolve the config"),
    ("encoder.n_layers", None, "encoder.n_layers is missing"),
    ("encoder.n_layers", 3, "no tensor encoder.layers.2."),
    ("encoder.n_layers", 1, "has no place in the model"),
    ("encoder.d_model", 32, "the config says"),
    ("encoder.feat_in", 64, "the config says"),
    ("encoder.n_heads", 3, "dim 16 is not a multiple of heads 3"),
    ("encoder.use_bias", False, "has no place in the model"),
    ("preprocessor._target_", "nemo.x.AudioToMFCCPreprocessor", "only AudioToMelSpectrogramPreprocessor"),
    ("preprocessor.window", "hamming", "preprocessor.window is 'hamming'; only hann"),
    ("preprocessor.normalize", "all_features", "preprocessor.normalize is 'all_features'; only per_feature"),
    ("preprocessor.log_zero_guard_type", "clamp", "preprocessor.log_zero_guard_type is 'clamp'; only add"),
    ("preprocessor.mag_power", 1.0, "preprocessor.mag_power is 1.0; only 2.0"),
    ("preprocessor.frame_splicing", 3, "preprocessor.frame_splicing is 3; only 1"),
    ("preprocessor.exact_pad", True, "preprocessor.exact_pad is True; only false"),
    ("preprocessor.mel_norm", "htk", "preprocessor.mel_norm is 'htk'; only slaney"),
    ("preprocessor.lowfreq", 100, "preprocessor.featurizer.fb is not what the preprocessor's config gives"),
    ("preprocessor.window_size", 0.02, "preprocessor.featurizer.window is not what"),
    ("decoder._target_", "nemo.x.LSTMDecoder", "decoder._target_ is 'nemo.x.LSTMDecoder'"),
    ("decoder.num_classes", 20, "decoder.num_classes is 20; the vocabulary has 28 pieces"),
    ("decoder.vocabulary", [], "decoder.num_classes is 28; the vocabulary has 0 pieces"),
    ("decoder.feat_in", 20, "decoder.feat_in is 20; the encoder gives 16 channels"),
    ("labels", ["a"], "labels and decoder.vocabulary differ"),
    ("decoder.vocabulary", [7], "decoder.vocabulary holds 7; a piece is a string"),
]
JASPER = [
    ("encoder.conv_mask", False, "encoder.conv_mask is False; only true"),
    ("encoder.normalization_mode", "group", "encoder.normalization_mode is 'group'; only batch"),
    ("encoder.activation", "selu", "encoder.activation is 'selu'; only relu or silu or swish"),
    ("encoder.residual_mode", "max", "encoder.residual_mode is 'max'; only add or stride_add"),
    ("encoder.jasper.1.se", True, "encoder.jasper[1].se is True; only false"),
    ("encoder.jasper.1.groups", 2, "encoder.jasper[1].groups is 2; only 1"),
    ("encoder.jasper.1.future_context", 2, "encoder.jasper[1].future_context is 2; only -1"),
    ("encoder.jasper.1.invented", 2, "encoder.jasper[1].invented is 2; it is not known"),
    ("encoder.jasper.4.stride", [2], "encoder.jasper[4].stride is [2]; only one block that strides"),
    ("encoder.jasper.1.kernel", [5, 7], "encoder.jasper[1].kernel is [5, 7]; a whole number"),
    ("encoder.jasper", [], "encoder.jasper is []; a list of tables"),
    (
        "encoder.jasper.2.separable",
        True,
        "encoder.encoder.2.mconv.0.conv.weight is [16, 12, 3], the config says [12, 1, 3]",
    ),
]


@pytest.mark.parametrize(("path", "value", "message"), CONFORMER)
def test_a_conformers_settings(tmp_path: Path, path: str, value: Any, message: str) -> None:
    archive = changed("conformer", tmp_path, put(path, value))
    assert message in refusal(archive, tmp_path)


@pytest.mark.parametrize(("path", "value", "message"), JASPER)
def test_a_jaspers_settings(tmp_path: Path, path: str, value: Any, message: str) -> None:
    archive = changed("jasper", tmp_path, put(path, value))
    assert message in refusal(archive, tmp_path)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("tokenizer.type", "wpe", "tokenizer.type is 'wpe'; only bpe"),
        (
            "tokenizer.model_path",
            "nemo:gone.model",
            "tokenizer.model_path is 'nemo:gone.model'; the archive holds no",
        ),
        ("decoder.vocabulary", ["a"], "decoder.vocabulary and the tokenizer differ"),
    ],
)
def test_tokenizers(tmp_path: Path, path: str, value: Any, message: str) -> None:
    archive = changed("fastconformer", tmp_path, put(path, value))
    assert message in refusal(archive, tmp_path)


def weights_without(name: str, **instead: np.ndarray) -> bytes:
    """The conformer's checkpoint without one tensor, and with others."""
    tensors = read_weights(members(FIXTURES / "conformer.nemo")[WEIGHTS], "fixture")
    tensors = {key: value for key, value in tensors.items() if key != name}
    return state_dict({**tensors, **{key.replace("__", "."): value for key, value in instead.items()}})


DENSE = "encoder.layers.1.feed_forward1.linear1.weight"


@pytest.mark.parametrize(
    ("instead", "message"),
    [
        ({}, f"no tensor {DENSE}"),
        ({DENSE: np.zeros((16, 32), np.float32)}, f"{DENSE} is [16, 32], the config says [32, 16]"),
        ({DENSE: np.zeros((32, 16), np.int64)}, f"{DENSE} holds int64 numbers"),
        ({DENSE: np.full((32, 16), np.inf, np.float32)}, f"{DENSE} holds NaN or infinity"),
    ],
    ids=["missing", "another shape", "another dtype", "infinite"],
)
def test_weights_that_are_not_the_configs(
    tmp_path: Path, instead: dict[str, np.ndarray], message: str
) -> None:
    archive = changed("conformer", tmp_path, weights=weights_without(DENSE, **instead))
    assert f"{archive}: model_weights.ckpt: {message}" in refusal(archive, tmp_path)


def test_a_tensor_too_many_is_named(tmp_path: Path) -> None:
    extra = {"encoder.layers.0.adapter.weight": np.zeros((2, 2), np.float32)}
    archive = changed("conformer", tmp_path, weights=weights_without("", **extra))
    assert "tensor encoder.layers.0.adapter.weight has no place in the model" in refusal(archive, tmp_path)


def test_halves_are_taken_as_floats(tmp_path: Path) -> None:
    half = {DENSE: np.ones((32, 16), np.float16)}
    archive = changed("conformer", tmp_path, weights=weights_without(DENSE, **half))
    assert import_nemo(archive, tmp_path / "out.keras").architecture == "conformer"


@pytest.mark.parametrize("data", [b"[1, 2]", b"a: [", b"\xff\xfe", b"!!python/object/apply:os.system [ls]"])
def test_a_config_that_is_no_plain_table(tmp_path: Path, data: bytes) -> None:
    from tests.nemo.archives import tar_of

    path = tmp_path / "a.nemo"
    path.write_bytes(tar_of({"model_config.yaml": data, WEIGHTS: b"w"}))
    assert "model_config.yaml" in refusal(path, tmp_path)


def test_an_old_configs_cls_and_params_are_read(tmp_path: Path) -> None:
    """As NeMo wrote them before 1.0."""

    def change(config: dict[str, Any]) -> None:
        for name in ("preprocessor", "encoder", "decoder"):
            values = config[name]
            config[name] = {"cls": values.pop("_target_"), "params": values}
        del config["target"]

    imported = import_nemo(changed("quartznet", tmp_path, change), tmp_path / "out.keras")
    assert (imported.architecture, imported.parameters) == ("quartznet", 8525)


@pytest.mark.parametrize("suffix", [".keras", ".toml"])
def test_no_file_is_replaced_unasked(tmp_path: Path, suffix: str) -> None:
    there = tmp_path / f"out{suffix}"
    there.write_bytes(b"mine")
    assert f"{there}: exists" in refusal(FIXTURES / "quartznet.nemo", tmp_path)
    assert there.read_bytes() == b"mine"


def test_byte_pieces_and_other_files_are_no_vocabulary() -> None:
    plain = b"\x0a\x05\x0a\x03abc"
    assert sentence_pieces(plain, "m") == ["abc"]
    with pytest.raises(TfliteAsrError, match=r"tokenizer piece '<0x0A>' is a byte"):
        sentence_pieces(b"\x0a\x0a\x0a\x06<0x0A>\x18\x06", "m")
    for data in (plain[:-1], b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x0b\x0a"):
        with pytest.raises(TfliteAsrError, match="is no SentencePiece model"):
            sentence_pieces(data, "m")
