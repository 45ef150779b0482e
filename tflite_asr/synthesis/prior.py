"""The clips that calibration starts from: which lengths, how many, from which prior."""

from __future__ import annotations

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.frontend import FrontEnd, log_mel
from tflite_asr.synthesis.babble import babble
from tflite_asr.synthesis.inputs import SyntheticInputs, on_grid
from tflite_asr.synthesis.shapes import ModelInputs
from tflite_asr.synthesis.smooth import smooth_field

# (clips, seconds): batches of one length that refinement can take whole, the cheapest first. Every other clip is
# babble. The last ones are what a runtime meets at its edges: one second, and the longest window.
BATCHES = ((8, 2.0), (4, 4.0), (2, 8.0))
EDGES = (1.0, 16.0)
OWN_MODEL_FRAMES = 200  # a length for somebody's own model that has an open time axis and no facts


def batch_lengths(shape: ModelInputs, facts: ModelFacts | None) -> list[list[int]]:
    """Frames of every clip, batch by batch; no clip is longer than the model's longest window."""
    if shape.fixed_frames:
        return [[shape.fixed_frames] * clips for clips, _ in BATCHES]
    if facts is None or facts.frontend is None:
        longest = max(facts.windows) if facts is not None else OWN_MODEL_FRAMES
        return [[shape.whole(min(OWN_MODEL_FRAMES, longest))] * clips for clips, _ in BATCHES]
    longest = max(facts.windows)

    def frames(seconds: float) -> int:
        wanted = round(seconds * facts.frontend.sample_rate / facts.frontend.hop_samples)  # type: ignore[union-attr]
        return shape.whole(min(wanted, longest))

    return [[frames(seconds)] * clips for clips, seconds in BATCHES] + [[frames(s)] * 2 for s in EDGES]


def prior_clips(shape: ModelInputs, facts: ModelFacts | None, seed: int) -> list[list[np.ndarray]]:
    """Batches of clips: smooth fields and, where a front end is known, babble by turns.

    Smooth fields have unit variance in the model's normalised feature space. A front end that does not normalise has
    none: there they take the mean and deviation, mel by mel, of the babble.

    Returns:
        float32 [frames, mels] arrays, a list a batch.
    """
    frontend = facts.frontend if facts is not None else None
    if frontend is not None and shape.tail != (frontend.mels,):
        raise TfliteAsrError(
            f"{facts.name if facts else 'model'}: takes frames of {shape.tail}, its front end gives {frontend.mels} "
            "mels; mend the .toml"
        )
    lengths = batch_lengths(shape, facts)
    batches: list[list[np.ndarray]] = []
    clip = 0
    for batch in lengths:
        rows = []
        for frames in batch:
            rng = np.random.default_rng([seed, clip])
            rows.append(
                babble_features(rng, frontend, frames)
                if frontend is not None and clip % 2
                else smooth_field(rng, (frames, *shape.tail))
            )
            clip += 1
        batches.append(rows)
    if frontend is not None and frontend.normalise == "none":
        spoken = np.concatenate([row for rows in batches for row in rows[1::2]])
        centre, spread = spoken.mean(axis=0), spoken.std(axis=0)
        for rows in batches:
            rows[::2] = [(centre + spread * row).astype(np.float32) for row in rows[::2]]
    return batches


def babble_features(rng: np.random.Generator, frontend: FrontEnd, frames: int) -> np.ndarray:
    """Babble through the model's own front end: float32 [frames, mels]."""
    samples = frontend.samples(frames)
    audio = babble(rng, samples / frontend.sample_rate, frontend.sample_rate)
    return log_mel(np.resize(audio, samples), frontend)[:frames]


def inputs_without_a_model(
    shape: ModelInputs, facts: ModelFacts | None, method: str, seed: int
) -> SyntheticInputs:
    """Calibration inputs where there is nothing to refine against: "noise", or "synthetic" for the prior as it is."""
    clips = noise_clips(shape, facts, seed) if method == "noise" else prior_clips(shape, facts, seed)
    return SyntheticInputs(on_grid([clip for batch in clips for clip in batch]), method=method, seed=seed)


def noise_clips(shape: ModelInputs, facts: ModelFacts | None, seed: int) -> list[list[np.ndarray]]:
    """White noise of unit variance, at the prior's lengths."""
    clip, batches = 0, []
    for batch in batch_lengths(shape, facts):
        rows = []
        for frames in batch:
            rng = np.random.default_rng([seed, clip])
            rows.append(rng.standard_normal((frames, *shape.tail)).astype(np.float32))
            clip += 1
        batches.append(rows)
    return batches
