#!/usr/bin/env python3
"""Make a synthetic training corpus with Debian's espeak-ng: 16 kHz mono flac files and a NeMo manifest.

    python recipes/conformer-ctc/speak.py --utterances 4000 --seed 1 --out build/espeak --jobs 2 \
        --text-from DATA/an4/train.jsonl --text-from DATA/speechocean762/train.jsonl

Needs `apt-get install espeak-ng` and numpy, soundfile, soxr. Texts come from `sentences.py`; with
`--text-from` also from chains of word pairs of training transcripts (never give it a dev or test split).
Every utterance draws a voice, a variant, speed, pitch, word gap, speaker size (resampling, so that children
occur), level, and sometimes a room, noise or a narrow band; the manifest's `effects` names them. The same
seed gives the same corpus, utterance by utterance: `--first-index 4000` goes on where a run of 4000 ended.
Voices and sentences of the demo clips (`recipes/demo/clips.toml`) are left out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from sentences import Text, Texts

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Samples = NDArray[np.float32]

SAMPLE_RATE = 16000
ESPEAK_RATE = 22050
LONGEST_SECONDS = 15.0  # the longest window of the shipped models is 16 s
# Characters a second: 99 % of the human training clips are slower, and CTC needs a frame (40 ms) for each.
FASTEST = 17.0
DEMO_CLIPS = Path(__file__).resolve().parent.parent / "demo" / "clips.toml"


def weights(text: str) -> dict[str, float]:
    """`name:weight` pairs; the empty name is the voice without a variant."""
    return {name: float(weight) for name, weight in (pair.split(":") for pair in text.split())}


# Accents of English in Debian's espeak-ng-data
VOICES = weights(
    """
    en-us:10 en-gb:5 en-gb-x-rp:3 en-gb-scotland:3 en-029:2 en-us-nyc:3 en-gb-x-gbclan:2 en-gb-x-gbcwmd:2
    """
)
# Speakers; whisper and croak are rare, the plain ones common
VARIANTS = weights(
    """
    :3 m1:2 m2:2 m3:2 m4:2 m5:2 m6:2 m7:2 m8:2 f1:3 f2:3 f3:3 f4:3 f5:3 klatt:1 klatt2:1 klatt4:1
    croak:0.5 whisper:0.3 whisperf:0.3 Alex:2 Alicia:2 Andrea:2 Andy:2 Annie:2 AnxiousAndy:1 Denis:2
    Diogo:2 Gene:2 Henrique:1 Hugo:2 Jacky:1 Lee:2 Marco:1 Mario:2 Michael:2 Mike:2 Nguyen:1 RicishayMax:1
    Storm:1 adam:2 anika:1 announcer:1 antonio:1 aunty:2 belinda:2 benjamin:2 boris:2 caleb:2 david:2 ed:1
    edward:2 edward2:2 grandma:1 grandpa:1 gustave:1 iven:1 john:2 kaukovalta:2 linda:2 marcelo:2 max:2
    michel:1 miguel:1 norbert:2 pablo:2 paul:2 pedro:2 quincy:2 rob:2 robert:2 sandro:2 shelby:2 steph:1
    steph2:1 steph3:1 travis:2 victor:2 zac:1
    """
)


@dataclass(frozen=True)
class Delivery:
    """How one sentence is said.

    `speed` in words a minute, `pitch` 0-99, `gap` between words in 10 ms, `size` > 1 a smaller speaker.
    """

    voice: str
    speed: int
    pitch: int = 50
    gap: int = 0
    size: float = 1.0


@dataclass(frozen=True)
class Plan:
    """What the whole run shares, so that a worker needs nothing else than an index."""

    out: Path
    seed: int
    transcripts: tuple[str, ...]
    held_out_variants: frozenset[str]
    held_out_texts: frozenset[str]


WORKER: tuple[Plan, Texts]  # set once in each worker process


def say(spoken: str, delivery: Delivery) -> Samples:
    """float32 [samples] at 16 kHz, silence at the ends cut. RuntimeError holds espeak-ng's own words."""
    speed = round(delivery.speed / delivery.size)  # resampling to another size changes it back
    how = f"-v {delivery.voice} -s {speed} -p {delivery.pitch} -g {delivery.gap} -z --stdout"
    command = ["espeak-ng", *how.split(), spoken]
    done = subprocess.run(command, capture_output=True, check=False)
    samples = np.frombuffer(done.stdout[44:], dtype="<i2").astype(np.float32) / 32768
    if done.returncode or not samples.any():
        raise RuntimeError(
            f"espeak-ng -v {delivery.voice} said nothing for {spoken!r}: {done.stderr.decode().strip()}"
        )
    return trim(soxr.resample(samples, ESPEAK_RATE * delivery.size, SAMPLE_RATE).astype(np.float32))


def trim(samples: Samples, longest_pause_seconds: float = 0.6) -> Samples:
    """`samples` without silence at the ends and with shorter pauses; silence is 50 dB under the peak."""
    hop = SAMPLE_RATE // 100
    frames = samples[: len(samples) // hop * hop].reshape(-1, hop)
    loud = np.abs(frames).max(axis=1) > np.abs(samples).max() * 10 ** (-50 / 20)
    first, last = np.flatnonzero(loud)[[0, -1]]
    pause = np.zeros(len(loud), dtype=int)  # length in frames of the silence up to each frame
    for frame in range(first, last + 1):
        pause[frame] = 0 if loud[frame] else pause[frame - 1] + 1
    keep = pause <= longest_pause_seconds * 100
    keep[:first] = keep[last + 1 :] = False
    return frames[keep].reshape(-1)


def at_level(samples: Samples, dbfs: float) -> Samples:
    """`samples` scaled to `dbfs` root mean square, less where the peak would pass 0.95."""
    gain = 10 ** (dbfs / 20) / np.sqrt(np.mean(samples**2))
    return samples * np.float32(min(gain, 0.95 / np.abs(samples).max()))


def fast_length(samples: int) -> int:
    """The next length whose FFT is fast: lengths of clips are often prime, which costs 20 times as much."""
    return -(-samples // 4000) * 4000


def add_noise(samples: Samples, snr_db: float, rng: np.random.Generator, tilt: float = 0.0) -> Samples:
    """`samples` plus Gaussian noise with a spectrum of frequency ** -`tilt` (0 white, .5 pink, 1 brown)."""
    size = fast_length(len(samples))
    spectrum = np.fft.rfft(rng.standard_normal(size))
    spectrum *= np.maximum(np.fft.rfftfreq(size, 1 / SAMPLE_RATE), 50.0) ** -tilt
    noise = np.fft.irfft(spectrum)[: len(samples)]
    gain = np.sqrt(np.mean(samples**2) / np.mean(noise**2)) * 10 ** (-snr_db / 20)
    return (samples + gain * noise).astype(np.float32)


def add_room(samples: Samples, seconds: float, wet: float, rng: np.random.Generator) -> Samples:
    """`samples` with `wet` of an exponentially decaying reverberation of `seconds` (to -60 dB)."""
    length = int(seconds * SAMPLE_RATE)
    response = rng.standard_normal(length) * 10 ** (-3 * np.arange(length) / length)
    response *= wet / np.sqrt(np.sum(response**2))
    response[0] = 1
    size = fast_length(len(samples) + length)
    wet_samples = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size))
    return wet_samples[: len(samples) + length // 4].astype(np.float32)


def narrow_band(samples: Samples, low_hz: float, high_hz: float) -> Samples:
    """`samples` through a soft-edged band-pass, as a telephone or a cheap microphone has."""
    size = fast_length(len(samples))
    hz = np.maximum(np.fft.rfftfreq(size, 1 / SAMPLE_RATE), 1)
    gain = 1 / np.sqrt((1 + (low_hz / hz) ** 8) * (1 + (hz / high_hz) ** 8))
    return np.fft.irfft(np.fft.rfft(samples, size) * gain)[: len(samples)].astype(np.float32)


def pick(rng: np.random.Generator, weights: dict[str, float]) -> str:
    """One of the names, as often as its weight says."""
    return str(rng.choice(list(weights), p=np.array(list(weights.values())) / sum(weights.values())))


def draw_delivery(rng: np.random.Generator, held_out_variants: frozenset[str], kind: str) -> Delivery:
    """A random speaker and manner; spelling and numbers are said more slowly, as people do."""
    voice = pick(rng, VOICES)
    variant = pick(rng, {name: weight for name, weight in VARIANTS.items() if name not in held_out_variants})
    slow = kind in ("spelled", "command", "number", "address")
    return Delivery(
        voice=f"{voice}+{variant}" if variant else voice,
        speed=int(rng.integers(95, 180) if slow else rng.integers(105, 215)),
        pitch=int(rng.integers(10, 91)),
        gap=int(rng.choice([0, 0, 0, 2, 5, 10, 16])) if slow else int(rng.choice([0, 0, 0, 0, 1, 3, 7])),
        size=float(rng.uniform(0.9, 1.25)) if rng.random() < 0.7 else 1.0,
    )


def draw_effects(samples: Samples, rng: np.random.Generator) -> tuple[Samples, list[str]]:
    """`samples` padded, in a random room, band, noise and level, and the names of what was done."""
    effects = []
    if rng.random() < 0.3:
        seconds = rng.uniform(0.1, 0.6)
        samples = add_room(samples, seconds, rng.uniform(0.1, 0.7), rng)
        effects.append(f"room {seconds:.2f} s")
    before, after = (int(rng.uniform(0.03, 0.35) * SAMPLE_RATE) for _ in range(2))
    samples = np.pad(samples, (before, after))
    if rng.random() < 0.6:
        snr = rng.uniform(8, 45)
        samples = add_noise(samples, snr, rng, tilt=float(rng.choice([0, 0.25, 0.5, 0.75])))
        effects.append(f"noise {snr:.0f} dB")
    if rng.random() < 0.15:
        low, high = rng.uniform(80, 350), rng.uniform(3000, 6500)
        samples = narrow_band(samples, low, high)
        effects.append(f"band {low:.0f}-{high:.0f} Hz")
    return at_level(samples, rng.uniform(-40, -15)), effects


def start_worker(plan: Plan) -> None:
    """Give a worker process its plan and grammar once, rather than with every index."""
    global WORKER
    WORKER = plan, Texts(plan.transcripts)


def utterance(index: int) -> dict[str, object]:
    """Write clip `index` and return its manifest row. Depends on the plan and the index alone."""
    plan, texts = WORKER
    rng = np.random.default_rng([plan.seed, index])
    texts.reseed(f"{plan.seed}/{index}")
    while True:
        text: Text = texts.draw()
        delivery = draw_delivery(rng, plan.held_out_variants, text.kind)
        if text.text in plan.held_out_texts:
            continue
        samples = say(text.spoken, delivery)
        rate = len(text.text) * SAMPLE_RATE / len(samples)
        if rate > FASTEST:
            delivery = replace(delivery, speed=int(delivery.speed * FASTEST / rate))
            samples = say(text.spoken, delivery)
        samples, effects = draw_effects(samples, rng)
        if len(samples) <= LONGEST_SECONDS * SAMPLE_RATE:
            break
    path = Path("clips") / f"{index:06d}.flac"
    soundfile.write(plan.out / path, samples, SAMPLE_RATE, format="FLAC")
    return {
        "audio_filepath": path.as_posix(),
        "duration": round(len(samples) / SAMPLE_RATE, 3),
        "text": text.text,
        "kind": text.kind,
        "voice": delivery.voice,
        "speed": delivery.speed,
        "pitch": delivery.pitch,
        "size": round(delivery.size, 3),
        "effects": effects,
    }


def read_held_out(path: Path) -> tuple[frozenset[str], frozenset[str]]:
    """Voice variants and texts of the clips in a `clips.toml`."""
    clips = tomllib.loads(path.read_text())["clip"]
    return frozenset(clip["variant"] for clip in clips), frozenset(clip["text"] for clip in clips)


def read_transcripts(paths: Sequence[Path]) -> Iterator[str]:
    """The `text` of every row of NeMo manifests."""
    for path in paths:
        for line in path.read_text().splitlines():
            yield json.loads(line)["text"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--utterances", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="folder for clips/*.flac and train.jsonl")
    parser.add_argument(
        "--first-index", type=int, default=0, help="go on from here: rows are appended to train.jsonl"
    )
    parser.add_argument(
        "--text-from",
        type=Path,
        action="append",
        default=[],
        help="manifest of a training split (repeatable)",
    )
    parser.add_argument(
        "--exclude", type=Path, default=DEMO_CLIPS, help="clips.toml whose voices and sentences are left out"
    )
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()

    variants, held_out = read_held_out(options.exclude)
    (options.out / "clips").mkdir(parents=True, exist_ok=True)
    plan = Plan(options.out, options.seed, tuple(read_transcripts(options.text_from)), variants, held_out)
    indices = range(options.first_index, options.first_index + options.utterances)
    manifest, seconds = options.out / "train.jsonl", 0.0
    with (
        Pool(options.jobs, start_worker, (plan,)) as pool,
        manifest.open("a" if options.first_index else "w") as lines,
    ):
        for row in pool.imap(utterance, indices, chunksize=16):
            lines.write(json.dumps(row) + "\n")
            seconds += float(str(row["duration"]))
    print(f"{manifest}: {options.utterances} utterances, {seconds / 3600:.2f} h")


if __name__ == "__main__":
    main()
