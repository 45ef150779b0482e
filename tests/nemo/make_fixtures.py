"""Writes tests/fixtures/nemo: tiny random NeMo models as `.nemo` archives, and what NeMo itself computes with them.

Not run by the tests. The fixtures that lie there were made with nemo_toolkit 3.0.0 and torch 2.13.0 (CPU), Python 3.11:

    python3.11 -m venv nemo && nemo/bin/pip install torch==2.13.0 'nemo_toolkit[asr]==3.0.0'
    nemo/bin/python tests/nemo/make_fixtures.py

Each NAME.nemo has its NAME.npz: for the first 12,870 ("whole": the frames are a multiple of 8) and all 13,700 ("odd")
samples of waveform.npz, `features_*` float32 [frames, mels] as NeMo's preprocessor makes them, valid frames only, and
`logits_*` float32 [frames / subsampling, pieces], the decoder's outputs before log-softmax. dtypes.ckpt and legacy.ckpt
are torch checkpoints of the tensors in dtypes.npz, in torch's two file formats.
"""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
import torch
from nemo.collections.asr.models import EncDecCTCModel, EncDecCTCModelBPE
from omegaconf import OmegaConf

HERE = Path(__file__).resolve().parent.parent / "fixtures" / "nemo"
LENGTHS = {"whole": 12_870, "odd": 13_700}
CHARACTERS = [" ", *"abcdefghijklmnopqrstuvwxyz", "'"]
TEXT = [
    "the quick brown fox jumps over the lazy dog",
    "she sells sea shells on the sea shore",
    "erase help enter start stop go yes no",
    "one two three four five six seven eight nine zero",
]


def waveform() -> np.ndarray:
    """int16 [13700]: gliding tones under changing noise, a silence of zeros, and an end that is loud."""
    rng = np.random.default_rng(7)
    time = np.arange(max(LENGTHS.values())) / 16000
    tone = sum(np.sin(2 * np.pi * (f * time + g * time**2)) for f, g in ((180, 90), (700, -200), (2300, 900)))
    level = 0.02 + 0.2 * np.abs(np.sin(7 * time))
    samples = level * (tone / 3 + 0.3 * rng.standard_normal(len(time)))
    samples[5000:5600] = 0
    return np.round(samples * 32767).clip(-32768, 32767).astype(np.int16)


def preprocessor(mels: int, window: float, **more: Any) -> dict[str, Any]:
    return {
        "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
        "sample_rate": 16000,
        "normalize": "per_feature",
        "window_size": window,
        "window_stride": 0.01,
        "window": "hann",
        "features": mels,
        "n_fft": 512,
        "frame_splicing": 1,
        "dither": 0.00001,
        **more,
    }


def conformer(**more: Any) -> dict[str, Any]:
    return {
        "_target_": "nemo.collections.asr.modules.ConformerEncoder",
        "feat_in": 80,
        "feat_out": -1,
        "n_layers": 2,
        "d_model": 16,
        "subsampling": "striding",
        "subsampling_factor": 4,
        "subsampling_conv_channels": 8,
        "ff_expansion_factor": 2,
        "self_attention_model": "rel_pos",
        "n_heads": 2,
        "att_context_size": [-1, -1],
        "xscaling": True,
        "untie_biases": True,
        "pos_emb_max_len": 5000,
        "conv_kernel_size": 5,
        "conv_norm_type": "batch_norm",
        **more,
    }


def blocks(*rows: dict[str, Any], separable: bool, **shared: Any) -> list[dict[str, Any]]:
    plain = {"repeat": 1, "kernel": [1], "stride": [1], "dilation": [1], "dropout": 0.0, "residual": False}
    return [
        {**plain, **row, **({"separable": True} if separable and row.get("kernel") != [1] else {}), **shared}
        for row in rows
    ]


def convolutions(rows: list[dict[str, Any]], mels: int) -> dict[str, Any]:
    target = "nemo.collections.asr.modules.ConvASREncoder"
    return {"_target_": target, "feat_in": mels, "activation": "relu", "conv_mask": True, "jasper": rows}


QUARTZNET = blocks(
    {"filters": 16, "kernel": [11], "stride": [2]},
    {"filters": 16, "kernel": [7], "repeat": 2, "residual": True},
    {"filters": 24, "kernel": [9], "repeat": 3, "residual": True},
    {"filters": 24, "kernel": [5], "dilation": [2]},
    {"filters": 32},
    separable=True,
)
JASPER = blocks(
    {"filters": 12, "kernel": [5], "stride": [2]},
    {"filters": 12, "kernel": [5], "repeat": 2, "residual": True, "residual_dense": True},
    {"filters": 16, "kernel": [3], "repeat": 2, "residual": True, "residual_dense": True},
    {"filters": 16, "kernel": [5], "repeat": 2, "residual": True, "residual_dense": True},
    {"filters": 16, "kernel": [5], "dilation": [2]},
    {"filters": 24},
    separable=False,
)


def config(front: dict[str, Any], encoder: dict[str, Any], width: int, tokenizer: Path | None) -> Any:
    vocabulary = [] if tokenizer else CHARACTERS
    values = {
        "preprocessor": front,
        "spec_augment": {"_target_": "nemo.collections.asr.modules.SpectrogramAugmentation"},
        "encoder": encoder,
        "decoder": {
            "_target_": "nemo.collections.asr.modules.ConvASRDecoder",
            "feat_in": width,
            "num_classes": len(vocabulary) or -1,
            "vocabulary": vocabulary,
        },
        "optim": {"name": "novograd", "lr": 0.01},
    }
    if tokenizer:
        values["tokenizer"] = {"dir": str(tokenizer), "type": "bpe"}
    else:
        values["labels"] = vocabulary
    return OmegaConf.create(values)


def train_tokenizer(folder: Path) -> Path:
    (folder / "text").write_text("\n".join(TEXT * 20))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text"),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=48,
        model_type="bpe",
        bos_id=-1,
        eos_id=-1,
        minloglevel=2,
    )
    pieces = [line.split("\t")[0] for line in (folder / "tokenizer.vocab").read_text().splitlines()]
    words = [p[1:] if p.startswith("\u2581") else f"##{p}" for p in pieces if p != "<unk>"]
    (folder / "vocab.txt").write_text("\n".join(w for w in words if w) + "\n")
    return folder


def randomise(model: torch.nn.Module, seed: int) -> None:
    """Weights at unit gain; norms, biases and stored statistics away from their defaults."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if "featurizer" in name or not value.is_floating_point():
                continue
            if name.endswith("running_var") or (value.ndim == 1 and name.endswith("weight")):
                value.copy_(0.5 + torch.rand(value.shape, generator=generator))
            elif value.ndim == 1 or "pos_bias" in name:
                value.copy_(0.2 * torch.randn(value.shape, generator=generator))
            else:
                fan = value[0].numel()
                value.copy_(torch.randn(value.shape, generator=generator) / fan**0.5)


def compute(model: Any, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features and logits of valid frames, as `model.forward` makes them."""
    audio = torch.from_numpy(samples.astype(np.float32) / 32768)[None]
    with torch.no_grad():
        features, frames = model.preprocessor(input_signal=audio, length=torch.tensor([audio.shape[1]]))
        encoded, valid = model.encoder(audio_signal=features, length=frames)
        logits = model.decoder.decoder_layers(encoded).transpose(1, 2)
        probabilities = model(input_signal=audio, input_signal_length=torch.tensor([audio.shape[1]]))[0]
    torch.testing.assert_close(torch.log_softmax(logits, -1), probabilities)
    return features[0, :, : int(frames)].T.numpy(), logits[0, : int(valid)].numpy()


def write(name: str, kind: Any, values: Any, seed: int, compress: bool) -> None:
    model = kind(cfg=values).eval()
    model.preprocessor.featurizer.pad_to = 0  # as `model.transcribe` sets it
    randomise(model, seed)
    arrays = {}
    for which, length in LENGTHS.items():
        arrays[f"features_{which}"], arrays[f"logits_{which}"] = compute(model, waveform()[:length])
        print(name, which, arrays[f"features_{which}"].shape, arrays[f"logits_{which}"].std())
    np.savez_compressed(HERE / f"{name}.npz", **arrays)
    model.save_to(str(HERE / f"{name}.nemo"))
    if compress:  # as NeMo wrote archives before 1.13
        data = (HERE / f"{name}.nemo").read_bytes()
        (HERE / f"{name}.nemo").write_bytes(gzip.compress(data, mtime=0))


def write_checkpoints() -> None:
    """One tensor a dtype, a view of another's storage, a transposed one, and a parameter."""
    generator = torch.Generator().manual_seed(1)
    single = torch.randn((3, 4), generator=generator)
    tensors = {
        "single": single,
        "half": single.half(),
        "bfloat": single.bfloat16(),
        "double": single.double(),
        "long": torch.arange(5),
        "row": single[1],
        "transposed": single.T,
        "parameter": torch.nn.Parameter(2 * single),
        "scalar": torch.tensor(7),
    }
    plain = {
        k: v.detach().float().numpy() if v.is_floating_point() else v.numpy() for k, v in tensors.items()
    }
    np.savez_compressed(HERE / "dtypes.npz", **plain)
    torch.save(tensors, HERE / "dtypes.ckpt")
    torch.save(tensors, HERE / "legacy.ckpt", _use_new_zipfile_serialization=False)


def main() -> None:
    HERE.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(HERE / "waveform.npz", samples=waveform())
    write_checkpoints()
    with tempfile.TemporaryDirectory() as folder:
        pieces = train_tokenizer(Path(folder))
        fast = conformer(
            subsampling="dw_striding",
            subsampling_factor=8,
            xscaling=False,
            untie_biases=False,
            use_bias=False,
            att_context_size=[4, 2],
            conv_kernel_size=9,
            conv_context_size="causal",
        )
        quartz = preprocessor(64, 0.02, pad_to=16, preemph=0.97)
        models = {
            "conformer": (EncDecCTCModel, config(preprocessor(80, 0.025), conformer(), 16, None), False),
            "fastconformer": (EncDecCTCModelBPE, config(preprocessor(80, 0.025), fast, 16, pieces), True),
            "quartznet": (EncDecCTCModel, config(quartz, convolutions(QUARTZNET, 64), 32, None), True),
            "jasper": (EncDecCTCModel, config(quartz, convolutions(JASPER, 64), 24, None), False),
        }
        for seed, (name, (kind, values, compress)) in enumerate(models.items()):
            write(name, kind, values, seed, compress)


if __name__ == "__main__":
    main()
