"""One bundle on LiteRT and on tflite-runtime 2.14: how much of what they give is the same, and how far apart the rest.

    python -m benchmarks.old_runtime BUNDLE -m MANIFEST --environment DIR

DIR is an environment with `tflite-asr[tflite-runtime]` (Python 3.11 or older; constraints-tflite-runtime.txt),
which runs this checkout. SNR is the mean over utterances whose logits differ.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from tflite_asr.manifest import read_manifest
from tflite_asr.measure.fidelity import argmax_agreement, dequantise, snr_db
from tflite_asr.measure.wer import word_errors
from tflite_asr.runtime import Transcriber
from tflite_asr.tokens import normalise_text

# Each (runtime, delegate); None for the delegate that the bundle names. The first is what the others are held against.
KERNELS = (("tflite-runtime", None), ("litert", None), ("litert", "builtin"), ("litert", "xnnpack"))


def hear(bundle: str, manifest: str, runtime: str, delegate: str | None) -> dict[str, np.ndarray]:
    """Text and real logits of every utterance: `text` [utterances], and `0`, `1`, ... float32 [frames, pieces]."""
    transcriber = Transcriber(bundle, runtime, delegate)
    facts = transcriber.logits_facts
    texts, logits = [], {}
    for number, row in enumerate(read_manifest(manifest)):
        found = transcriber.recognise(row.audio_filepath)
        texts.append(normalise_text(found.transcript.text))
        logits[str(number)] = dequantise(found.logits, facts.scale, facts.zero_point)
    return {"text": np.array(texts), **logits}


def elsewhere(
    environment: Path, bundle: str, manifest: str, runtime: str, delegate: str | None
) -> dict[str, np.ndarray]:
    """`hear`, in another environment, on this checkout."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "heard.npz"
        command = [
            str(environment / "bin" / "python"),
            "-m",
            "benchmarks.old_runtime",
            bundle,
            "-m",
            manifest,
        ]
        options = ["--hear", str(out), runtime, delegate or ""]
        checkout = str(Path(__file__).resolve().parent.parent)
        subprocess.run([*command, *options], check=True, env={**os.environ, "PYTHONPATH": checkout})
        with np.load(out) as found:
            return dict(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle")
    parser.add_argument("-m", "--manifest", required=True)
    parser.add_argument("--environment", type=Path)
    parser.add_argument("--hear", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.hear:
        out, runtime, delegate = given.hear
        np.savez(out, **hear(given.bundle, given.manifest, runtime, delegate or None))
        return
    if given.environment is None:
        parser.error("give --environment, where tflite-runtime 2.14 is installed")
    texts = [row.text for row in read_manifest(given.manifest)]
    old: dict[str, np.ndarray] = {}
    print("runtime         delegate   WER %  same texts  logits that differ %  SNR dB  same argmax %")
    for runtime, delegate in KERNELS:
        if not old:
            found = old = elsewhere(given.environment, given.bundle, given.manifest, runtime, delegate)
        else:
            found = hear(given.bundle, given.manifest, runtime, delegate)
        rows = [(old[str(n)], found[str(n)]) for n in range(len(texts))]
        differing = np.mean(np.concatenate([(a != b).ravel() for a, b in rows]))
        agreeing = np.sum([argmax_agreement(a, b) for a, b in rows], axis=0)
        apart = [snr_db(a, b) for a, b in rows if not np.array_equal(a, b)]
        wer = word_errors(texts, list(found["text"])).rate
        same, snr = np.mean(found["text"] == old["text"]), np.mean(apart) if apart else np.inf
        print(
            f"{runtime:15} {delegate or '(its own)':9} {100 * wer:6.2f} {same:11.1%}"
            f" {100 * differing:21.2f} {snr:7.1f} {100 * agreeing[0] / agreeing[1]:14.2f}"
        )


if __name__ == "__main__":
    sys.exit(main())
