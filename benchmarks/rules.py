#!/usr/bin/env python3
"""What each lowering rule is worth: one layer alone, float32, int8 as it stands and int8 lowered, on both cores.

    python benchmarks/rules.py --core cortex-a76 --markdown build/rules.md

400 frames of 144 channels (a Conformer-S at 16 s), random weights, calibrated on the inputs that it is judged by. "As
it stands" is AI Edge Quantizer's static int8 with the finishing pass: what int8 would be without the rule. Times are
processor time of one thread, the least of `--runs`, taken in turn; the SNR is against float32.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click
import keras
import numpy as np
from keras import ops
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tflite_asr.audit import audit
from tflite_asr.lowering import lower
from tflite_asr.measure.arm import count_instructions
from tflite_asr.measure.fidelity import snr_db
from tflite_asr.models.layers import GatedLinearUnit, RelativeAttention
from tflite_asr.quantize.calibrate import calibrate
from tflite_asr.quantize.convert import convert
from tflite_asr.quantize.finish import finish
from tflite_asr.quantize.quantizer import quantize
from tflite_asr.quantize.schemes import scheme
from tflite_asr.runtime import open_interpreter

FRAMES, CHANNELS, HEADS = 400, 144, 4
Feed = dict[str, np.ndarray]


def sequence(build: Callable[[Any], Any], shape: tuple[int, ...] = (FRAMES, CHANNELS)) -> keras.Model:
    x = keras.Input(shape, batch_size=1, name="x")
    return keras.Model(x, build(x))


def attention(positions: str) -> keras.Model:
    x = keras.Input((FRAMES, CHANNELS), batch_size=1, name="x")
    mask = keras.Input((FRAMES,), batch_size=1, name="mask")
    layer = RelativeAttention(heads=HEADS, key_dim=CHANNELS // HEADS, positions=positions)
    return keras.Model([x, mask], layer(x, mask))


def keras_attention() -> keras.Model:
    x = keras.Input((FRAMES, CHANNELS), batch_size=1, name="x")
    mask = keras.Input((FRAMES,), batch_size=1, name="mask")
    seen = ops.expand_dims(ops.not_equal(mask, 0.0), 1)
    layer = keras.layers.MultiHeadAttention(HEADS, CHANNELS // HEADS)
    return keras.Model([x, mask], layer(x, x, attention_mask=seen))


def masked_softmax() -> keras.Model:
    x = keras.Input((HEADS, FRAMES, FRAMES), batch_size=1, name="x")
    mask = keras.Input((1, 1, FRAMES), batch_size=1, name="mask")
    return keras.Model([x, mask], keras.layers.Softmax()(x, mask=ops.not_equal(mask, 0.0)))


def stem() -> keras.Model:
    def build(x: Any) -> Any:
        x = keras.layers.Reshape((-1, 80, 1))(x)
        for _ in range(2):
            x = keras.layers.ZeroPadding2D(((1, 0), (1, 0)))(x)
            x = keras.layers.Conv2D(32, 3, strides=2, activation="relu")(x)
        return x

    return sequence(build, (4 * FRAMES, 80))


def norm_and_dense(x: Any) -> Any:
    return keras.layers.Dense(4 * CHANNELS)(keras.layers.LayerNormalization()(x))


CASES: dict[str, Callable[[], keras.Model]] = {
    "layer_normalization": lambda: sequence(keras.layers.LayerNormalization()),
    "affine: layer norm, Dense": lambda: sequence(norm_and_dense),
    "relative_attention, no positions": lambda: attention("none"),
    "relative_attention": lambda: attention("relative"),
    "multi_head_attention": keras_attention,
    "masked_softmax": masked_softmax,
    "depthwise, 31 taps": lambda: sequence(keras.layers.DepthwiseConv1D(31, padding="same")),
    "relu": lambda: sequence(lambda x: keras.layers.ReLU()(keras.layers.Reshape((-1, CHANNELS))(x))),
    "no rule: swish": lambda: sequence(keras.layers.Activation("silu")),
    "no rule: gelu": lambda: sequence(keras.layers.Activation("gelu")),
    "no rule: gated linear unit": lambda: sequence(GatedLinearUnit()),
    "subsampling, 2-D": stem,
}


def feeds_of(model: keras.Model, seed: int = 0) -> list[Feed]:
    """Three inputs of unit variance; a mask of its own length in each."""
    random, feeds = np.random.default_rng(seed), []
    for valid in (1.0, 0.7, 0.4):
        feed = {}
        for tensor in model.inputs:
            values = random.normal(size=tensor.shape).astype(np.float32)
            if tensor.name == "mask":
                values = np.zeros(tensor.shape, np.float32)
                values[..., : int(valid * FRAMES)] = 1.0
            feed[tensor.name] = values
        feeds.append(feed)
    return feeds


def randomise(model: keras.Model, seed: int = 0) -> None:
    """Biases and norms off zero and one."""
    random = np.random.default_rng(seed)
    for variable in model.variables:
        if len(variable.shape) == 1:
            variable.assign(np.asarray(variable) + 0.2 * random.normal(size=variable.shape))


def to_int8(data: bytes, signature: str, feeds: list[Feed]) -> bytes:
    ranges = calibrate({signature: data}, {signature: [[feed] for feed in feeds]})
    return finish(quantize(data, ranges, (), scheme("int8")), ranges)


class Runner:
    """A flatbuffer opened on one thread, that takes float feeds."""

    def __init__(self, data: bytes, signature: str) -> None:
        self.interpreter, self.signature = open_interpreter(data, threads=1), signature
        self.tensors = self.interpreter.signatures[signature]

    def stored(self, feed: Feed) -> Feed:
        return {name: _stored(self.tensors.inputs[name], values) for name, values in feed.items()}

    def run(self, stored: Feed) -> np.ndarray:
        (name, tensor), *_ = self.tensors.outputs.items()
        values = self.interpreter.run(self.signature, stored)[name]
        return (values.astype(np.float32) - tensor.zero_point) * tensor.scale if tensor.scale else values


def _stored(tensor: Any, values: np.ndarray) -> np.ndarray:
    if not tensor.scale:
        return values
    return np.clip(np.rint(values / tensor.scale) + tensor.zero_point, -128, 127).astype(np.int8)


def measure(name: str, core: str | None, runs: int) -> dict[str, Any]:
    """One case: each form's time, instructions and SNR."""
    keras.utils.set_random_seed(0)
    model = CASES[name]()
    randomise(model)
    feeds = feeds_of(model)
    plain, lowered = convert(model, None), convert(lower(model), None)
    forms = {"float32": plain.data}
    for form, window in (("as it stands", plain), ("lowered", lowered)):
        forms[form] = to_int8(window.data, window.signature, feeds)
    signature = plain.signature
    runners = {form: Runner(data, signature) for form, data in forms.items()}
    stored = {form: runner.stored(feeds[0]) for form, runner in runners.items()}
    least = dict.fromkeys(forms, float("inf"))
    for _ in range(runs):
        for form, runner in runners.items():
            started = time.thread_time()
            runner.run(stored[form])
            least[form] = min(least[form], 1e3 * (time.thread_time() - started))
    row: dict[str, Any] = {"case": name, "forms": {}}
    wanted = [runners["float32"].run(feed) for feed in feeds]
    for form, data in forms.items():
        found: dict[str, Any] = {"ms": least[form], "integer_only": audit(data, load=False).integer_only}
        if form != "float32":
            got = [runners[form].run(runners[form].stored(feed)) for feed in feeds]
            found["snr_db"] = float(np.mean([snr_db(a, b) for a, b in zip(wanted, got, strict=True)]))
        if core:
            found["instructions"] = count_instructions(data, signature, core, 16.0, stored[form]).total
        row["forms"][form] = found
    return row


def cells(row: dict[str, Any]) -> list[str]:
    line = [row["case"]]
    for form in row["forms"].values():
        line.append(f"{form['ms']:.3f}")
        line.append(f"{form['instructions'] / 1e6:.2f}" if "instructions" in form else "-")
        if "snr_db" in form:
            line.append(f"{form['snr_db']:.1f}" + ("" if form["integer_only"] else ", float ops"))
    return line


HEADINGS = [
    "layer",
    *("float32 ms", "M instructions"),
    *("int8 as it stands ms", "M instructions", "SNR dB"),
    *("int8 lowered ms", "M instructions", "SNR dB"),
]


@click.command()
@click.option("--core", help="An emulated core (`tflite-asr prepare-core`); none counts no instructions.")
@click.option("--runs", default=50, show_default=True)
@click.option("--only", multiple=True, help="Cases whose name holds this.")
@click.option("--json", "json_path", help="Write the rows here.")
@click.option("--markdown", help="Write the table here.")
def main(
    core: str | None, runs: int, only: tuple[str, ...], json_path: str | None, markdown: str | None
) -> None:
    """Measure every lowering rule by itself."""
    warnings.filterwarnings("ignore", module="ai_edge_litert")
    chosen = [name for name in CASES if not only or any(part in name for part in only)]
    rows = [measure(name, core, runs) for name in track(chosen, "rules", console=Console(stderr=True))]
    table = Table(*HEADINGS, title=f"{FRAMES} x {CHANNELS}, one thread; instructions of {core or 'no core'}")
    for row in rows:
        table.add_row(*cells(row))
    Console(width=None if Console().is_terminal else 150).print(table)
    if json_path:
        Path(json_path).write_text(json.dumps(rows, indent=1) + "\n")
    if markdown:
        lines = [HEADINGS, ["---"] * len(HEADINGS), *map(cells, rows)]
        Path(markdown).write_text("".join(f"| {' | '.join(line)} |\n" for line in lines))


if __name__ == "__main__":
    main()
