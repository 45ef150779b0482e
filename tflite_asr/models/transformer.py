"""Speech-Transformer: 2-D convolutions, a Transformer encoder with CTC, a decoder that attends to it.

Mohamed et al. 2019 (arXiv 1904.11660): no sinusoidal positions, since the encoder's frames get theirs from VGG-like
convolutions and the decoder's tokens from causal 1-D ones. Every module is residual with its norm before it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import keras

from tflite_asr.errors import TfliteAsrError
from tflite_asr.models.layers import AttentionHeads, Mask, RelativeAttention, SinusoidalPositions

POSITIONS = ("none", "sinusoidal")
MOST_POSITIONS = 400  # of a decoder that steps: a table in the file; 20 s at the default frames_per_token


@dataclass(frozen=True)
class TransformerConfig:
    """Every size of a Speech-Transformer.

    Attributes:
        mels, pieces: width of the features and number of output pieces, the blank included. The decoder, which never
            spells the blank, takes it for the start and the end of a sequence.
        blocks, decoder_blocks, dim, heads, feed_forward_multiplier: encoder and decoder.
        subsampling: frames that become one; a power of two, a stage of 3x3 convolutions each.
        subsampling_channels: channels of the last stage; each stage before has half of them.
        convolutions: of a stage; the first has stride 2. They see the past: a frame sees up to its own group's end.
        lookahead: frames by which what comes out of them is moved ahead, so that a frame sees what follows.
        context_layers, context_kernel: causal convolutions over the decoder's tokens.
        positions: "none" or "sinusoidal", in encoder and decoder.
        frames_per_token: feature frames to a token at the least; how long the decoder's caches are.
        dropout: rate after every module, of whole channels (SpatialDropout1D).
        dropped: module paths that are not built (`tflite_asr.slim` writes them).
    """

    mels: int = 80
    pieces: int = 29
    blocks: int = 7
    decoder_blocks: int = 2
    dim: int = 128
    heads: int = 4
    feed_forward_multiplier: int = 4
    subsampling: int = 4
    subsampling_channels: int = 32
    convolutions: int = 2
    lookahead: int = 2
    context_layers: int = 2
    context_kernel: int = 3
    positions: str = "none"
    frames_per_token: int = 5
    dropout: float = 0.1
    dropped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "dropped", self._with_whole_modules(tuple(self.dropped)))
        for field in fields(self):
            value, least = (
                getattr(self, field.name),
                0 if field.name in ("lookahead", "context_layers") else 1,
            )
            if field.type == "int" and (type(value) is not int or value < least):
                raise TfliteAsrError(
                    f"transformer: {field.name} is {value!r}; give a whole number, {least} or more"
                )
        if self.dim % self.heads:
            raise TfliteAsrError(
                f"transformer: dim {self.dim} is not a multiple of heads {self.heads}; change one"
            )
        if self.subsampling & (self.subsampling - 1) or self.subsampling == 1:
            raise TfliteAsrError(f"transformer: subsampling is {self.subsampling}; give 2, 4 or 8")
        if self.subsampling_channels % (self.subsampling // 2):
            raise TfliteAsrError(
                f"transformer: subsampling_channels is {self.subsampling_channels}; give a multiple of "
                f"{self.subsampling // 2}"
            )
        if self.positions not in POSITIONS:
            raise TfliteAsrError(
                f"transformer: positions is {self.positions!r}; give one of {', '.join(POSITIONS)}"
            )
        if type(self.dropout) not in (int, float) or not 0 <= self.dropout < 1:
            raise TfliteAsrError(f"transformer: dropout is {self.dropout!r}; give a rate from 0 to below 1")

    @property
    def stages(self) -> int:
        return self.subsampling.bit_length() - 1

    def channels(self, stage: int) -> int:
        """Of the convolutions of a stage, counted from 1."""
        return self.subsampling_channels >> (self.stages - stage)

    def longest(self, frames: int) -> int:
        """Tokens that a window of `frames` feature frames has room for, the end among them."""
        return max(16, -(-frames // self.frames_per_token))

    @property
    def parts(self) -> dict[str, int]:
        """Into how many parts modules of a kind can be dropped: heads of an attention, and groups of `dim` hidden
        units of a feed-forward."""
        return {"head": self.heads, "units": self.feed_forward_multiplier}

    def _with_whole_modules(self, dropped: tuple[str, ...]) -> tuple[str, ...]:
        """`dropped` with a module in the place of its parts where all of them are there."""
        for part, count in self.parts.items():
            for holder in dict.fromkeys(path.rsplit(".", 1)[0] for path in dropped if f".{part}" in path):
                every = {f"{holder}.{part}{index}" for index in range(count)}
                if every <= set(dropped):
                    dropped = (*(path for path in dropped if path not in every), holder)
        return dropped

    def has(self, path: str) -> bool:
        """Whether a path is built: neither it nor what holds it is dropped."""
        parts = path.split(".")
        return not {".".join(parts[:count]) for count in range(1, len(parts) + 1)} & set(self.dropped)

    def kept_parts(self, path: str) -> list[int]:
        """Heads of an attention (`encoder.block0.mhsa`), or groups of units of a feed-forward (`encoder.block0.ff`),
        that are not dropped."""
        part = "units" if path.endswith(".ff") else "head"
        return [index for index in range(self.parts[part]) if f"{path}.{part}{index}" not in self.dropped]

    def kept_channels(self, path: str) -> list[int]:
        """Inner channels that these have."""
        size = self.dim if path.endswith(".ff") else self.dim // self.heads
        return [part * size + channel for part in self.kept_parts(path) for channel in range(size)]

    def module_paths(self) -> list[str]:
        """Every path that can be put into `dropped` and is still built, modules before what they hold."""
        heads = [f"head{head}" for head in range(self.heads)]
        units = [f"units{group}" for group in range(self.feed_forward_multiplier)]
        feed_forward = ["norm", *units, "dense1.bias", "dense2.bias"]
        projections = ["query.bias", "key.bias", "value.bias", "out.bias"]
        paths = []
        for stage in range(1, self.stages + 1):
            for index in range(1, self.convolutions + 1):
                path = f"encoder.subsampling.stage{stage}.conv{index}"
                paths += [path, f"{path}.bias"] if index > 1 else [f"{path}.bias"]
        paths.append("encoder.subsampling.dense.bias")
        sinusoids = self.positions == "sinusoidal"
        paths += ["encoder.positions"] if sinusoids else []
        for index in range(self.blocks):
            block = f"encoder.block{index}"
            paths += [block, f"{block}.mhsa", f"{block}.ff"]
            paths += [f"{block}.mhsa.{name}" for name in ("norm", *heads, "attention.bias")]
            paths += [f"{block}.ff.{name}" for name in feed_forward]
        paths += ["encoder.norm", "ctc.dense.bias"]
        paths += ["decoder.positions"] if sinusoids else []
        for index in range(self.context_layers):
            path = f"decoder.context{index}"
            paths += [path, f"{path}.norm", f"{path}.conv.bias"]
        for index in range(self.decoder_blocks):
            block = f"decoder.block{index}"
            paths += [block, f"{block}.mhsa", f"{block}.cross", f"{block}.ff"]
            for module in ("mhsa", "cross"):
                paths += [f"{block}.{module}.{name}" for name in ("norm", *heads, *projections)]
            paths += [f"{block}.ff.{name}" for name in feed_forward]
        paths += ["decoder.norm", "decoder.dense.bias"]
        return [path for path in paths if self.has(path)]


TINY = TransformerConfig(blocks=2, decoder_blocks=2, dim=16, heads=2, subsampling_channels=8)
SHIPPED = TransformerConfig()
BASE = TransformerConfig(
    blocks=12, decoder_blocks=6, dim=512, heads=8, subsampling_channels=128, context_layers=3
)
SIZES = {"tiny": TINY, "shipped": SHIPPED, "base": BASE}


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


def initial_state(config: TransformerConfig, longest: int) -> dict[str, tuple[int, ...]]:
    """Shapes, without the batch, of the caches of `decode_step_of`; they begin as zeros."""
    shapes: dict[str, tuple[int, ...]] = {}
    for index in range(config.context_layers):
        if config.has(f"decoder.context{index}"):
            shapes[f"context{index}"] = (config.context_kernel - 1, config.dim)
    for index in range(config.decoder_blocks):
        if config.has(f"decoder.block{index}.mhsa"):
            inner = len(config.kept_channels(f"decoder.block{index}.mhsa"))
            shapes |= {f"{kind}{index}": (longest, inner) for kind in ("keys", "values")}
    return shapes


def step_lengths(config: TransformerConfig, frames: int) -> dict[str, int]:
    """Second axis of the inputs of `decode_step_of` that have it open, for a window of `frames` feature frames.

    Raises TfliteAsrError for a window that holds more tokens than there are positions.
    """
    longest, memory = config.longest(frames), -(-frames // config.subsampling)
    placed = config.positions == "sinusoidal" and config.has("decoder.positions")
    if placed and longest > MOST_POSITIONS:
        raise TfliteAsrError(
            f"transformer: a window of {frames} frames holds {longest} tokens, and there are {MOST_POSITIONS} "
            "positions; give shorter windows_seconds"
        )
    lengths = {"history": longest, "mask": memory}
    for index in range(config.decoder_blocks):
        lengths |= {f"{kind}{index}": longest for kind in ("keys", "values")}
        lengths |= {f"memory_{kind}{index}": memory for kind in ("keys", "values")}
    return lengths


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
