"""Audio to text, offline: front end, acoustic model and decoding of one bundle, each stage timed."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tflite_asr.audio import read_audio
from tflite_asr.bundle import Bundle
from tflite_asr.decoding import Transcript, greedy_ctc
from tflite_asr.decoding.ctc import spelled_words
from tflite_asr.errors import Finding, TfliteAsrError
from tflite_asr.frontend.config import FrontEnd
from tflite_asr.runtime.interpreter import TensorFacts, open_interpreter
from tflite_asr.runtime.pauses import places_to_cut
from tflite_asr.runtime.spelling import Spelling, StepSpeller, place_in_time, real_values, spell
from tflite_asr.runtime.windows import Piece, apart, breaks, cut, join


@dataclass(frozen=True)
class StageSeconds:
    """Where the time of one utterance went, in wall-clock seconds; padding is paid for in the first two."""

    frontend: float = 0.0
    model: float = 0.0
    decode: float = 0.0

    @property
    def total(self) -> float:
        return self.frontend + self.model + self.decode


@dataclass(frozen=True)
class Recognition:
    """All that came of one utterance.

    Attributes:
        transcript: text and words.
        logits: [logit frames, pieces], valid frames only, in the model's own dtype.
        audio_seconds: of real audio.
        seconds: by stage.
    """

    transcript: Transcript
    logits: np.ndarray
    audio_seconds: float
    seconds: StageSeconds


@dataclass(frozen=True)
class _Heard:
    """A piece in its window: logits [logit frames, pieces] of its valid frames, and the model's other outputs, as they
    are stored."""

    piece: Piece
    window: int
    logits: np.ndarray
    memory: dict[str, np.ndarray]


class Transcriber:
    """A bundle loaded on one runtime.

    Args:
        bundle: a bundle, or its folder.
        runtime, threads: as `open_interpreter` takes them.
        delegate: of both flatbuffers; None for the one that the bundle names for its model, and XNNPACK for its front
            end, which is float.
        spelling: how an encoder-decoder spells; None for greedy attention. A CTC bundle takes none but decoder "ctc".

    Raises:
        TfliteAsrError: a feature-only bundle, a spelling that it has no decoder for, or `open_interpreter`'s.
        Finding: a broken bundle.
    """

    def __init__(
        self,
        bundle: Bundle | str | Path,
        runtime: str = "litert",
        delegate: str | None = None,
        threads: int = 1,
        spelling: Spelling | None = None,
    ):
        self.bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
        self.bundle.require_speech()
        assert self.bundle.info.frontend is not None  # require_speech has looked
        assert self.bundle.tokens is not None
        self.frontend, self.tokens = self.bundle.info.frontend, self.bundle.tokens
        self.subsampling = self.bundle.info.subsampling
        self.delegate = delegate or self.bundle.info.delegate
        self._steps = self.bundle.decode_steps
        self.spelling = spelling or Spelling("attention" if self._steps else "ctc")
        if self.spelling.decoder != "ctc" and not self._steps:
            raise TfliteAsrError(
                f"{self.bundle.path}: has no decoder for {self.spelling.decoder}; give decoder ctc, or none"
            )
        self._model = open_interpreter(self.bundle.model_path, runtime, self.delegate, threads)
        self._frontend = open_interpreter(self.bundle.frontend_path, runtime, delegate or "xnnpack", threads)
        self.windows = self.bundle.windows
        for frames, name in self.windows.items():
            wanted = {name, self._steps.get(frames, name)} if self._steps else {name}
            if f"frontend_{frames}" not in self._frontend.signatures or wanted - set(self._model.signatures):
                raise Finding(
                    f"{self.bundle.path}: no signature frontend_{frames} and {name} in both flatbuffers; "
                    "export the bundle again"
                )
        outputs = [self._model.signatures[name].outputs["logits"] for name in self.windows.values()]
        if len({(facts.dtype, facts.scale, facts.zero_point) for facts in outputs}) > 1:
            # Logits of several windows are joined as they are stored.
            raise Finding(f"{self.bundle.path}: windows differ in the logits' scale; export the bundle again")

    @property
    def frame_seconds(self) -> float:
        """Seconds that one logit frame spans."""
        return self.frontend.seconds_per_frame * self.subsampling

    @property
    def logits_facts(self) -> TensorFacts:
        """Scale and zero point of the logits (the same in every window)."""
        return self._model.signatures[next(iter(self.windows.values()))].outputs["logits"]

    def transcribe(self, audio: str | Path | np.ndarray) -> Transcript:
        """Text and words of a file or of float32 samples [samples] at the front end's rate.

        Audio shorter than one analysis window holds no frame, and its text is empty.

        Raises:
            TfliteAsrError: `read_audio`'s, or an array that is empty, not one-dimensional, or holds NaN.
        """
        return self.recognise(audio).transcript

    def logits(self, audio: str | Path | np.ndarray) -> np.ndarray:
        """[logit frames, pieces] in the model's own dtype, valid frames only; raises as `transcribe`."""
        return self.recognise(audio).logits

    def recognise(self, audio: str | Path | np.ndarray) -> Recognition:
        """Everything at once; raises as `transcribe`."""
        samples = self._samples(audio)
        frames = self.frontend.frames(len(samples))
        longest = max(self.windows)
        frontend_seconds = model_seconds = 0.0
        places = places_to_cut(samples, self.frontend.sample_rate) if frames > longest else []
        pieces = cut(
            frames, longest, self.subsampling, [place / self.frontend.seconds_per_frame for place in places]
        )
        heard: list[_Heard] = []
        for piece in pieces:
            one, spent = self._hear(samples, piece)
            frontend_seconds, model_seconds = frontend_seconds + spent[0], model_seconds + spent[1]
            heard.append(one)
        parts = [one.logits for one in heard]
        began = time.perf_counter()
        empty = np.zeros((0, len(self.tokens.pieces)), self.logits_facts.dtype)
        logits = join(parts, pieces, self.subsampling, self.tokens.blank_id) if parts else empty
        if self.spelling.decoder == "ctc":
            places_cut = breaks(pieces, self.subsampling)
            transcript = greedy_ctc(logits, None, self.tokens, self.frame_seconds, places_cut)
        else:
            transcript = self._spell(samples, heard)
        decode_seconds = time.perf_counter() - began
        seconds = StageSeconds(frontend_seconds, model_seconds, decode_seconds)
        return Recognition(transcript, logits, len(samples) / self.frontend.sample_rate, seconds)

    def _hear(self, samples: np.ndarray, piece: Piece) -> tuple[_Heard, tuple[float, float]]:
        """What the model makes of one piece, and the seconds of front end and model."""
        window = min((w for w in self.windows if w >= piece.frames), default=max(self.windows))
        began = time.perf_counter()
        inputs = self._inputs(samples, piece, window)
        between = time.perf_counter()
        outputs = dict(self._model.run(self.windows[window], inputs))
        spent = (between - began, time.perf_counter() - between)
        valid = -(-piece.frames // self.subsampling)
        return _Heard(piece, window, outputs.pop("logits")[0, :valid], outputs), spent

    def _spell(self, samples: np.ndarray, heard: list[_Heard]) -> Transcript:
        """Token by token, one stretch after the other; where pieces overlap, the encoder runs again on what is left.

        Where CTC hears nothing, nothing is spelled: a decoder never has nothing to say.
        """
        pieces = [one.piece for one in heard]
        stretches = (
            apart([one.logits for one in heard], pieces, self.subsampling, self.tokens.blank_id)
            if heard
            else []
        )
        known = {one.piece: one for one in heard}
        ids: list[int] = []
        firsts, ends, begins = [], [], []
        for stretch in stretches:
            one = known.get(stretch) or self._hear(samples, stretch)[0]
            begin = stretch.start // self.subsampling
            begins.append(begin)
            if (one.logits.argmax(axis=1) == self.tokens.blank_id).all():
                continue
            logits = real_values(one.logits, self.logits_facts)
            found = spell(
                self._speller(one),
                self.tokens.blank_id,
                stretch.frames * self.frontend.seconds_per_frame,
                self.spelling,
                logits,
            )
            first, end = place_in_time(logits, found, self.tokens.blank_id)
            ids += found
            firsts.append(begin + first)
            ends.append(begin + end)
        none = [np.zeros(0, np.int64)]
        return spelled_words(
            np.array(ids, np.int64),
            np.concatenate(none + firsts),
            np.concatenate(none + ends),
            self.tokens,
            self.frame_seconds,
            begins[1:],
        )

    def _speller(self, heard: _Heard) -> StepSpeller:
        mask = np.zeros((1, -(-heard.window // self.subsampling)), np.float32)
        mask[:, : len(heard.logits)] = 1.0
        return StepSpeller(self._model, self._steps[heard.window], heard.memory, mask)

    def features(self, samples: np.ndarray, window: int | None = None) -> np.ndarray:
        """What the front end makes of samples that fit one window: float32 [frames, mels], valid frames only."""
        frames = self.frontend.frames(len(samples))
        window = window or min(w for w in self.windows if w >= frames)
        return self._features(samples, Piece(0, frames), window)[0, :frames]

    def warm_up(self) -> None:
        """Run every window once, on silence, so that the first utterance is timed like the others."""
        for window in self.windows:
            silence = np.zeros(self.frontend.samples(window), np.float32)
            self.recognise(silence)
            if self.spelling.decoder != "ctc":
                speller = self._speller(self._hear(silence, Piece(0, window))[0])
                speller.step(speller.start(), self.tokens.blank_id)

    def _samples(self, audio: str | Path | np.ndarray) -> np.ndarray:
        if not isinstance(audio, np.ndarray):
            return read_audio(audio, self.frontend.sample_rate)
        if audio.ndim != 1:
            raise TfliteAsrError(f"audio has shape {list(audio.shape)}; give one channel, [samples]")
        if not len(audio):
            raise TfliteAsrError("audio holds no samples; give at least one")
        if not np.issubdtype(audio.dtype, np.floating):
            raise TfliteAsrError(f"audio is {audio.dtype}; give float32 samples, full scale at +-1")
        if not np.isfinite(audio).all():
            where = int(np.argmax(~np.isfinite(audio)))
            raise TfliteAsrError(f"audio: sample {where} is NaN or infinite; mend the array")
        return audio.astype(np.float32, copy=False)

    def _inputs(self, samples: np.ndarray, piece: Piece, window: int) -> dict[str, np.ndarray]:
        """The model's inputs for one piece, as it stores them; features beyond the valid frames are zero."""
        facts = self._model.signatures[self.windows[window]].inputs
        inputs = {"features": facts["features"].quantise(self._features(samples, piece, window))}
        if "mask" in facts:
            mask = np.zeros(facts["mask"].shape, np.float32)
            mask[:, : -(-piece.frames // self.subsampling)] = 1.0
            inputs["mask"] = facts["mask"].quantise(mask)
        return inputs

    def _features(self, samples: np.ndarray, piece: Piece, window: int) -> np.ndarray:
        """float32 [1, window, mels], zero beyond the piece."""
        held = samples[piece.start * self.frontend.hop_samples :]
        signature, blocks = frontend_inputs(self.frontend, self.windows, held, piece.frames, window)
        made = [self._frontend.run(signature, inputs)["features"] for inputs in blocks]
        features = np.zeros((1, window, self.frontend.mels), np.float32)
        features[:, : piece.frames] = np.concatenate(made, axis=1)[:, : piece.frames]
        return features


def frontend_inputs(
    frontend: FrontEnd, windows: Iterable[int], samples: np.ndarray, frames: int, window: int
) -> tuple[str, list[dict[str, np.ndarray]]]:
    """What frontend.tflite is run on to make the features of one window.

    A front end whose frames know nothing of each other runs in blocks of the shortest window: the padding then costs
    nothing, and what it works on stays in the processor's cache (16 s: 3.0 ms in blocks of 2 s, 5.4 ms at once, where
    other processes share the cache).

    Args:
        frontend: its config.
        windows: of the bundle, in frames.
        samples: float32 [samples] from the first frame on.
        frames: that are wanted, at least 1.
        window: of the model that they are for.

    Returns:
        the signature, and the inputs of each run; the features of the runs follow one another.
    """
    alone = not (frontend.centre or frontend.preemphasis or frontend.normalise == "per_feature")
    block = min(windows) if alone else window
    blocks = []
    for first in range(0, frames, block):
        valid = min(block, frames - first)
        start = first * frontend.hop_samples
        held = samples[start : start + frontend.reach(valid)]
        room = np.zeros(frontend.reach(block), np.float32)
        room[: len(held)] = held
        if frontend.preemphasis and len(held):  # goes on as pre-emphasis turns into silence
            beyond = np.arange(1, len(room) - len(held) + 1)
            room[len(held) :] = held[-1] * frontend.preemphasis**beyond
        inputs = {"samples": room[None]}
        if frontend.normalise == "per_feature":
            inputs["mask"] = (np.arange(block) < valid).astype(np.float32)[None]
        blocks.append(inputs)
    return f"frontend_{block}", blocks
