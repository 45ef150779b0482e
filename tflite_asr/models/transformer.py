"""Speech-Transformer: 2-D convolutions, a Transformer encoder with CTC, a decoder that attends to it.

Mohamed et al. 2019 (arXiv 1904.11660): no sinusoidal positions, since the encoder's frames get theirs from VGG-like
convolutions and the decoder's tokens from causal 1-D ones. Every module is residual with its norm before it.
"""

from __future__ import annotations

from typing import Any

import keras

from tflite_asr.models.layers import AttentionHeads, Mask, RelativeAttention, SinusoidalPositions
from tflite_asr.models.transformer_config import MOST_POSITIONS, TransformerConfig


def build_transformer(config: TransformerConfig) -> keras.Model:
    """A Functional model for training, with the tokens before each token known.

    Inputs: `features` float32 [batch, frames, mels], zero beyond the valid frames, frames a multiple of the
    subsampling; `mask` float32 [batch, frames / subsampling], 1 for valid frames and 0 for padding; `tokens` int32
    [batch, tokens], the blank (for the start) and then the text.
    Outputs: CTC's `logits` float32 [batch, frames / subsampling, pieces] and the decoder's [batch, tokens, pieces], of
    the token that follows each. Logits of valid frames and of tokens do not depend on how much padding follows.
    """
    net = _Builder(config)
    features, mask = net.frames()
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    memory = net.encoder(features, mask)
    x = net.embedded(tokens, None)
    for index in net.contexts():
        path = f"decoder.context{index}"
        pad = keras.layers.ZeroPadding1D((config.context_kernel - 1, 0), name=f"{path}.pad")
        x = net.context(x, lambda y, pad=pad: pad(y), path)
    for block in net.blocks("decoder", config.decoder_blocks):
        if net.has(f"{block}.mhsa"):
            query, key, value = net.projected(x, f"{block}.mhsa")
            heads = net.attention(f"{block}.mhsa", causal=True)
            x = net.attended(x, heads(query, key, value), f"{block}.mhsa")
        if net.has(f"{block}.cross"):
            query = net.query(x, f"{block}.cross")
            mixed = net.attention(f"{block}.cross")(query, *net.keys_values(memory, f"{block}.cross"), mask)
            x = net.attended(x, mixed, f"{block}.cross")
        x = net.feed_forward(x, f"{block}.ff")
    return keras.Model([features, mask, tokens], [net.ctc(memory), net.logits(x)], name="transformer")


def encoder_of(model: keras.Model, config: TransformerConfig) -> keras.Model:
    """What runs once an utterance, of the model's own layers.

    Inputs: a dict of `features` and `mask`, as of `build_transformer`. Outputs: a dict of CTC's `logits` float32
    [batch, frames / subsampling, pieces] and, for each decoder block, `memory_keys0` and `memory_values0` float32
    [batch, frames / subsampling, inner].
    """
    net = _Builder(config, model)
    features, mask = net.frames()
    memory = net.encoder(features, mask)
    outputs = {"logits": net.ctc(memory)}
    for index in net.cross_blocks():
        keys, values = net.keys_values(memory, f"decoder.block{index}.cross")
        outputs |= {f"memory_keys{index}": keys, f"memory_values{index}": values}
    return keras.Model({"features": features, "mask": mask}, outputs, name="encode")


def decode_step_of(model: keras.Model, config: TransformerConfig) -> keras.Model:
    """What runs once a token, of the model's own layers: its cost does not grow with the tokens before, which caches of
    one length hold; `initial_state` gives the empty ones.

    Inputs, a dict: `token` int32 [batch, 1], the one before, at first the blank; `position` int32 [batch, 1], how many
    came before it, with sinusoidal positions alone; `mask` float32 [batch, frames / subsampling] and `memory_keys0`,
    ..., as `encoder_of` has them; `history` float32 [batch, longest], 1 at the end for this token and each before it;
    `context0` float32 [batch, context_kernel - 1, dim], ..., what the context convolutions saw last; `keys0`, `values0`
    float32 [batch, longest, inner], ..., of each block's self-attention, the newest last.
    Outputs, a dict: the decoder's `logits` float32 [batch, pieces], and `context0`, `keys0`, `values0`, ... moved on by
    one: what was there is moved, and never computed with.
    """
    net = _Builder(config, model)
    inputs: dict[str, Any] = {"token": keras.Input((1,), dtype="int32", name="token")}
    outputs: dict[str, Any] = {}

    def state(name: str, length: int | None, channels: int) -> Any:
        inputs[name] = keras.Input((length, channels), name=name)
        return inputs[name]

    def moved_on(name: str, old: Any, new: Any) -> Any:
        joined = keras.layers.Concatenate(axis=1, name=f"{name}.join")([old, new])
        outputs[name] = keras.layers.Cropping1D((1, 0), name=f"{name}.next")(joined)
        return joined

    if net.has("decoder.positions") and config.positions == "sinusoidal":
        inputs["position"] = keras.Input((1,), dtype="int32", name="position")
    x = net.embedded(inputs["token"], inputs.get("position"))
    for index in net.contexts():
        old = state(f"context{index}", config.context_kernel - 1, config.dim)
        x = net.context(
            x, lambda y, old=old, index=index: moved_on(f"context{index}", old, y), f"decoder.context{index}"
        )
    for block in net.blocks("decoder", config.decoder_blocks):
        index = int(block.removeprefix("decoder.block"))
        if net.has(f"{block}.mhsa"):
            inner = len(config.kept_channels(f"{block}.mhsa"))
            if "history" not in inputs:
                inputs["history"] = keras.Input((None,), name="history")
            query, *new = net.projected(x, f"{block}.mhsa")
            for name, one in zip((f"keys{index}", f"values{index}"), new, strict=True):
                moved_on(name, state(name, None, inner), one)
            heads = AttentionHeads(len(config.kept_parts(f"{block}.mhsa")), name=f"{block}.mhsa.heads")
            mixed = heads(query, outputs[f"keys{index}"], outputs[f"values{index}"], inputs["history"])
            x = net.attended(x, mixed, f"{block}.mhsa")
        if net.has(f"{block}.cross"):
            inner = len(config.kept_channels(f"{block}.cross"))
            if "mask" not in inputs:
                inputs["mask"] = keras.Input((None,), name="mask")
            memory = [state(f"memory_{kind}{index}", None, inner) for kind in ("keys", "values")]
            query = net.query(x, f"{block}.cross")
            x = net.attended(
                x, net.attention(f"{block}.cross")(query, *memory, inputs["mask"]), f"{block}.cross"
            )
        x = net.feed_forward(x, f"{block}.ff")
    logits = keras.layers.Reshape((config.pieces,), name="decoder.flat")(net.logits(x))
    return keras.Model(inputs, {"logits": logits, **outputs}, name="decode_step")


def spells(model: keras.Model) -> bool:
    """Whether it is an encoder-decoder, which is told the tokens before each token."""
    return "tokens" in [tensor.name for tensor in model.inputs]


def ctc_part(model: keras.Model) -> keras.Model:
    """The encoder-decoder's encoder as a CTC model, inputs `features` and `mask`; a CTC model as it is."""
    if not spells(model):
        return model
    return keras.Model(model.inputs[:2], model.outputs[0], name="ctc")


class _Builder:
    """Builds the modules of one config, or calls those of `source` again; a path that is dropped is left out."""

    def __init__(self, config: TransformerConfig, source: keras.Model | None = None) -> None:
        self.config, self.source, self.has = config, source, config.has

    def layer(self, kind: Any, name: str, *args: Any, **settings: Any) -> Any:
        return kind(*args, name=name, **settings) if self.source is None else self.source.get_layer(name)

    def dense(self, units: int, path: str) -> Any:
        return self.layer(keras.layers.Dense, path, units, use_bias=self.has(f"{path}.bias"))

    def norm(self, x: Any, path: str) -> Any:
        if not self.has(path):
            return x
        return self.layer(keras.layers.LayerNormalization, path, epsilon=1e-5)(x)

    def drop(self, x: Any, path: str) -> Any:
        # Whole channels: element-wise dropout draws a number an activation, and took 44 % of a training step on a CPU.
        if not self.config.dropout:
            return x
        return self.layer(keras.layers.SpatialDropout1D, f"{path}.dropout", self.config.dropout)(x)

    def blocks(self, part: str, count: int) -> list[str]:
        return [path for index in range(count) if self.has(path := f"{part}.block{index}")]

    def cross_blocks(self) -> list[int]:
        return [i for i in range(self.config.decoder_blocks) if self.has(f"decoder.block{i}.cross")]

    def contexts(self) -> list[int]:
        return [i for i in range(self.config.context_layers) if self.has(f"decoder.context{i}")]

    def frames(self) -> tuple[Any, Any]:
        return keras.Input((None, self.config.mels), name="features"), keras.Input((None,), name="mask")

    def encoder(self, features: Any, mask: Any) -> Any:
        """What the decoder attends to, float32 [batch, frames / subsampling, dim]."""
        config = self.config
        x = self.stem(features, mask)
        if config.positions == "sinusoidal" and self.has("encoder.positions"):
            x = self.layer(SinusoidalPositions, "encoder.positions", 1)(x)
        for block in self.blocks("encoder", config.blocks):
            path = f"{block}.mhsa"
            if self.has(path):
                attention = self.layer(
                    RelativeAttention,
                    f"{path}.attention",
                    heads=len(config.kept_parts(path)),
                    key_dim=config.dim // config.heads,
                    use_bias=self.has(f"{path}.attention.bias"),
                )
                x = self.add(x, attention(self.norm(x, f"{path}.norm"), mask), path)
            x = self.feed_forward(x, f"{block}.ff")
        return self.norm(x, "encoder.norm")

    def stem(self, features: Any, mask: Any) -> Any:
        config, path = self.config, "encoder.subsampling"
        width = config.mels
        x = self.layer(keras.layers.Reshape, f"{path}.image", (-1, config.mels, 1))(features)
        for stage in range(1, config.stages + 1):
            for index in range(1, config.convolutions + 1):
                name = f"{path}.stage{stage}.conv{index}"
                if not self.has(name):
                    continue
                padding = ((1, 0), (1, width % 2)) if index == 1 else ((2, 0), (1, 1))
                x = self.layer(keras.layers.ZeroPadding2D, f"{name}.pad", padding)(x)
                taps = {
                    "kernel_size": 3,
                    "strides": 2 if index == 1 else 1,
                    "use_bias": self.has(f"{name}.bias"),
                }
                x = self.layer(keras.layers.Conv2D, name, config.channels(stage), **taps)(x)
                x = self.layer(keras.layers.Activation, f"{name}.relu", "relu")(x)
            width = (width + 1) // 2
        x = self.layer(keras.layers.Reshape, f"{path}.flat", (-1, width * config.subsampling_channels))(x)
        x = self.dense(config.dim, f"{path}.dense")(x)
        if config.lookahead:
            x = self.layer(Mask, f"{path}.mask")(x, mask)  # or the last frames would see padding's biases
            x = self.layer(keras.layers.ZeroPadding1D, f"{path}.ahead", (0, config.lookahead))(x)
            x = self.layer(keras.layers.Cropping1D, f"{path}.crop", (config.lookahead, 0))(x)
        return self.drop(x, path)

    def ctc(self, memory: Any) -> Any:
        return self.dense(self.config.pieces, "ctc.dense")(memory)

    def feed_forward(self, x: Any, path: str) -> Any:
        if not self.has(path):
            return x
        y = self.dense(len(self.config.kept_channels(path)), f"{path}.dense1")(self.norm(x, f"{path}.norm"))
        y = self.drop(self.layer(keras.layers.Activation, f"{path}.relu", "relu")(y), f"{path}.inner")
        return self.add(x, self.dense(self.config.dim, f"{path}.dense2")(y), path)

    def add(self, x: Any, residual: Any, path: str) -> Any:
        return self.layer(keras.layers.Add, f"{path}.add")([x, self.drop(residual, path)])

    def embedded(self, tokens: Any, position: Any) -> Any:
        config = self.config
        start = keras.initializers.RandomNormal(stddev=0.5)
        table = self.layer(
            keras.layers.Embedding,
            "decoder.embedding",
            config.pieces,
            config.dim,
            embeddings_initializer=start,
        )
        x = table(tokens)
        if config.positions == "sinusoidal" and self.has("decoder.positions"):
            positions = self.layer(SinusoidalPositions, "decoder.positions", MOST_POSITIONS)
            x = positions(x) if position is None else positions(x, position)
        return self.drop(x, "decoder.embedding")

    def context(self, x: Any, with_past: Any, path: str) -> Any:
        """One causal convolution, of what `with_past` makes of the normed tokens: the frames before come first."""
        convolution = self.layer(
            keras.layers.Conv1D,
            f"{path}.conv",
            self.config.dim,
            self.config.context_kernel,
            use_bias=self.has(f"{path}.conv.bias"),
        )
        y = convolution(with_past(self.norm(x, f"{path}.norm")))
        return self.add(x, self.layer(keras.layers.Activation, f"{path}.relu", "relu")(y), path)

    def query(self, x: Any, path: str) -> Any:
        return self.dense(len(self.config.kept_channels(path)), f"{path}.query")(self.norm(x, f"{path}.norm"))

    def keys_values(self, x: Any, path: str) -> tuple[Any, Any]:
        inner = len(self.config.kept_channels(path))
        return self.dense(inner, f"{path}.key")(x), self.dense(inner, f"{path}.value")(x)

    def projected(self, x: Any, path: str) -> tuple[Any, Any, Any]:
        normed = self.norm(x, f"{path}.norm")
        query = self.dense(len(self.config.kept_channels(path)), f"{path}.query")(normed)
        return query, *self.keys_values(normed, path)

    def attention(self, path: str, causal: bool = False) -> Any:
        return self.layer(AttentionHeads, f"{path}.heads", len(self.config.kept_parts(path)), causal=causal)

    def attended(self, x: Any, mixed: Any, path: str) -> Any:
        return self.add(x, self.dense(self.config.dim, f"{path}.out")(mixed), path)

    def logits(self, x: Any) -> Any:
        return self.dense(self.config.pieces, "decoder.dense")(self.norm(x, "decoder.norm"))
