"""`transcribe`: sound in, text out."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from tflite_asr.cli.options import BEAM, DECODER, DELEGATES, DELEGATES_HELP, JSON, RUNTIME, THREADS
from tflite_asr.cli.terminal import complain, write_json
from tflite_asr.errors import TfliteAsrError


@click.command()
@click.argument("bundle")
@click.argument("audio", nargs=-1, required=True)
@RUNTIME
@click.option("--delegate", type=DELEGATES, help=DELEGATES_HELP)
@THREADS
@DECODER
@BEAM
@click.option("--timestamps", is_flag=True, help="A line a word, with its start and end in seconds.")
@JSON
def transcribe(
    bundle: str,
    audio: tuple[str, ...],
    runtime: str,
    delegate: str | None,
    threads: int,
    decoder: str | None,
    beam: int,
    timestamps: bool,
    json_path: str | None,
) -> None:
    """Transcribe AUDIO files ('-': standard input) with BUNDLE.

    A file that cannot be read is told on standard error; the others are transcribed, and the exit code is 2.
    """
    import io

    from tflite_asr.audio import read_audio
    from tflite_asr.runtime.spelling import wanted_spelling
    from tflite_asr.runtime.transcriber import Transcriber

    transcriber = Transcriber(bundle, runtime, delegate, threads, wanted_spelling(decoder, beam))
    results, exit_code = [], 0
    for name in audio:
        source: Any = io.BytesIO(sys.stdin.buffer.read()) if name == "-" else name
        try:
            transcript = transcriber.transcribe(read_audio(source, transcriber.frontend.sample_rate))
        except TfliteAsrError as error:
            complain(error)
            exit_code = error.exit_code
            continue
        words = [
            {"word": w.text, "start": round(w.start, 3), "end": round(w.end, 3)} for w in transcript.words
        ]
        results.append({"audio_filepath": name, "pred_text": transcript.text, "words": words})
        if json_path == "-":
            continue
        prefix = f"{name}: " if len(audio) > 1 else ""
        click.echo(f"{prefix}{transcript.text}")
        if timestamps:
            for word in words:
                click.echo(f"  {word['start']:8.2f} {word['end']:8.2f}  {word['word']}")
    write_json(json_path, json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    if exit_code:
        sys.exit(exit_code)
