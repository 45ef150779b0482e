"""A `.nemo` archive becomes `NAME.keras` with its `NAME.toml`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts, check_checkpoint_output
from tflite_asr.frontend import FrontEnd
from tflite_asr.nemo.alphabet import read_tokens
from tflite_asr.nemo.archive import WEIGHTS, read_archive
from tflite_asr.nemo.config import Section, read_config
from tflite_asr.nemo.front_end import check_tables, front_end
from tflite_asr.nemo.tensors import Tensors
from tflite_asr.nemo.weights import read_weights
from tflite_asr.staging import plain_errors, probe
from tflite_asr.tokens import Tokens


@dataclass(frozen=True)
class Imported:
    """What was imported.

    Attributes:
        path: the `.keras`; its `.toml` lies beside it.
        architecture, parameters: of the model.
        subsampling: feature frames that become one logit frame.
        tensors: how many of the checkpoint's became weights.
        frontend, tokens: as the `.toml` says.
        nemo_version: of the NeMo that wrote the archive; "" where it does not say.
    """

    path: Path
    architecture: str
    parameters: int
    subsampling: int
    tensors: int
    frontend: FrontEnd
    tokens: Tokens
    nemo_version: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        tokens = {"pieces": list(self.tokens.pieces), "blank_id": self.tokens.blank_id}
        plain = {"path": str(self.path), "frontend": self.frontend.to_dict(), "tokens": tokens}
        return {**{name: getattr(self, name) for name in self.__dataclass_fields__}, **plain}


@dataclass(frozen=True)
class _Read:
    """An archive in our terms; weights by `layer.weight`."""

    architecture: str
    config: Any
    weights: dict[str, np.ndarray]
    frontend: FrontEnd
    tokens: Tokens
    tensors: int
    nemo_version: str


def import_nemo(archive: str | Path, out: str | Path, *, overwrite: bool = False) -> Imported:
    """Import a QuartzNet, Jasper or Conformer-CTC of NVIDIA NeMo.

    The model computes what NeMo does from features (logits before log-softmax). Nothing in the archive is executed,
    and none of it is written to disk but weights, tokens and front end.

    Args:
        archive: the `.nemo` file.
        out: the `.keras` file to write, its `.toml` beside it.
        overwrite: replace files that are there.

    Raises:
        TfliteAsrError: an archive that is damaged or hostile; a model or a setting that has no counterpart here, by
            name; an output that exists or cannot be written. Nothing half-written is left.
    """
    archive, out = Path(archive), Path(out)
    check_checkpoint_output(out, overwrite)
    read = _read(archive)
    with plain_errors(out):  # before the model is built, which takes longest
        out.parent.mkdir(parents=True, exist_ok=True)
        probe(out.parent)
    model = _model(read, str(archive))
    facts = ModelFacts(
        name=out.stem,
        architecture=read.architecture,
        config=asdict(read.config),
        frontend=read.frontend,
        tokens=read.tokens,
        subsampling=read.config.subsampling,
        extra={"imported_from": archive.name, "nemo_version": read.nemo_version},
    )
    with plain_errors(out), tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as beside:
        staged = Path(beside) / out.name
        model.save(staged)
        facts.write(staged).replace(ModelFacts.path_for(out))
        staged.replace(out)
    return Imported(
        out,
        read.architecture,
        model.count_params(),
        read.config.subsampling,
        read.tensors,
        read.frontend,
        read.tokens,
        read.nemo_version,
    )


def _read(path: Path) -> _Read:
    """Everything but the model, so that a refusal costs no start of TensorFlow."""
    archive = read_archive(path)
    config = read_config(archive)
    with _named(path, "preprocessor"):
        frontend = front_end(config.section("preprocessor"))
    encoder, decoder = config.section("encoder"), config.section("decoder")
    if decoder.target() != "ConvASRDecoder":
        raise decoder.refuse("_target_", "only ConvASRDecoder can be imported")
    tokens = read_tokens(config, decoder, archive)
    decoder.only("add_blank", True)
    decoder.ignore("init_mode")
    width = decoder.take("feat_in", int, 0)
    decoder.done()
    where = f"{path}: {WEIGHTS}"
    tensors = Tensors(read_weights(archive.weights, where), where)
    with _named(path, "encoder"):
        architecture, ours, weights = _encoder(encoder, len(tokens.pieces), tensors)
    if ours.mels != frontend.mels:
        raise encoder.refuse("feat_in", f"the preprocessor gives {frontend.mels} features")
    last = ours.dim if architecture == "conformer" else ours.layers[-1].channels
    if width not in (0, last):
        raise decoder.refuse("feat_in", f"the encoder gives {last} channels")
    kernel = tensors.take("decoder.decoder_layers.0.weight", len(tokens.pieces), last, 1)
    weights["ctc.dense.kernel"] = kernel[..., 0].T
    weights["ctc.dense.bias"] = tensors.take("decoder.decoder_layers.0.bias", len(tokens.pieces))
    check_tables(frontend, tensors, where)
    tensors.done()
    version = config.take("nemo_version", str, "")
    return _Read(architecture, ours, weights, frontend, tokens, tensors.taken, version)


@contextmanager
def _named(archive: Path, section: str) -> Iterator[None]:
    """What our own configs refuse, in their own names, with the archive and its section before it."""
    try:
        yield
    except TfliteAsrError as error:
        if str(error).startswith(str(archive)):
            raise
        raise TfliteAsrError(f"{archive}: {section}: {error}") from error


def _encoder(section: Section, pieces: int, tensors: Tensors) -> tuple[str, Any, dict[str, np.ndarray]]:
    """Architecture, config and weights."""
    kind = section.target()
    if kind == "ConformerEncoder":
        from tflite_asr.nemo.conformer import conformer_config, conformer_weights

        config, scale = conformer_config(section, pieces)
        return "conformer", config, conformer_weights(config, scale, tensors)
    if kind == "ConvASREncoder":
        from tflite_asr.nemo.convolutions import convolution_config, convolution_weights

        blocks = convolution_config(section, pieces)
        name = "quartznet" if any(layer.separable for layer in blocks.layers) else "jasper"
        return name, blocks, convolution_weights(blocks, tensors)
    raise section.refuse("_target_", "only ConformerEncoder and ConvASREncoder can be imported")


def _model(read: _Read, where: str) -> Any:
    """The Keras model with the weights; every weight must have come from the checkpoint."""
    from tflite_asr.models import build

    model = build(read.architecture, read.config)
    left = dict(read.weights)
    for layer in model.layers:
        for weight in layer.weights:
            if "seed_generator" in weight.path:
                continue
            weight.assign(np.ascontiguousarray(left.pop(f"{layer.name}.{weight.name}")))
    if left:
        raise TfliteAsrError(f"{where}: {next(iter(left))} has no place in the model; this is a fault here")
    return model
