#!/usr/bin/env python3
"""Render the clips that the package ships for its demo, from `clips.toml`, with Debian's espeak-ng.

    python recipes/demo/make_clips.py --out tflite_asr/pretrained/demo

Voices and sentences in `clips.toml` are left out of the synthetic training corpus
(`recipes/conformer-ctc/speak.py`), so that the demo measures the model on speech it never saw. Writes one
ogg/opus file a clip and `demo.jsonl`, a NeMo manifest.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import soundfile

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "conformer-ctc"))

from sentences import say_spelling  # noqa: E402  (after the path of the other recipe)
from speak import SAMPLE_RATE, Delivery, add_noise, at_level, say, tomllib  # noqa: E402

LEVEL_DBFS = -26.0
PADDING_SECONDS = 0.15


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    rows, size = [], 0
    for index, clip in enumerate(tomllib.loads((HERE / "clips.toml").read_text())["clip"]):
        spoken = say_spelling(clip["text"].split()) if clip.get("spell") else clip["text"]
        delivery = Delivery(
            f"{clip['voice']}+{clip['variant']}",
            clip["speed"],
            pitch=clip.get("pitch", 50),
            gap=clip.get("gap", 0),
        )
        samples = np.pad(say(spoken, delivery), round(PADDING_SECONDS * SAMPLE_RATE))
        if "snr_db" in clip:
            samples = add_noise(samples, clip["snr_db"], np.random.default_rng(index))
        samples = at_level(samples, LEVEL_DBFS)
        name = f"demo{index:02d}.ogg"
        soundfile.write(options.out / name, samples, SAMPLE_RATE, format="OGG", subtype="OPUS")
        size += (options.out / name).stat().st_size
        duration = round(len(samples) / SAMPLE_RATE, 3)
        rows.append(
            {
                "audio_filepath": name,
                "duration": duration,
                "text": clip["text"],
                "voice": delivery.voice,
                "snr_db": clip.get("snr_db"),
            }
        )
    (options.out / "demo.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    seconds = sum(float(row["duration"]) for row in rows)
    print(f"{options.out}: {len(rows)} clips, {seconds:.0f} s, {size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
