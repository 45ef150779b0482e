"""The sizes of a Speech-Transformer and its modules by path; what follows from them alone."""

from __future__ import annotations

from dataclasses import dataclass, fields

from tflite_asr.errors import TfliteAsrError

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
        if not all(isinstance(path, str) for path in self.dropped):
            raise TfliteAsrError(f"transformer: dropped is {self.dropped!r}; give module paths")
        object.__setattr__(self, "dropped", self._with_whole_modules(tuple(self.dropped)))

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
