from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.quantize.conftest import SUBSAMPLING
from tflite_asr.measure.walk import walk
from tflite_asr.quantize.auto import OutputError, hold_back, trial
from tflite_asr.quantize.biases import correct
from tflite_asr.quantize.calibrators import Calibrator
from tflite_asr.quantize.finish import finish
from tflite_asr.quantize.kept_whole import kept_whole
from tflite_asr.quantize.quantizer import quantize
from tflite_asr.quantize.repair import WORST, repair, worst_tensors
from tflite_asr.quantize.schemes import scheme

TOO_WIDE = Calibrator("wide", lambda seen: (8 * seen.real_minimum, 8 * seen.real_maximum))


@dataclass(frozen=True)
class Walked:
    name: str
    op: str
    grid_snr_db: float


def test_the_worst_are_those_whose_own_grid_costs_most():
    walked = [Walked(f"t{number:02d}", "ADD", 40.0 - number % 30) for number in range(40)]
    walked += [
        Walked("moved", "RESHAPE", 1.0),
        Walked("fixed", "LOGISTIC", 1.0),
        Walked("features", "INPUT", 1.0),
    ]
    found = worst_tensors(walked)
    assert found[:3] == ["t29", "t28", "t27"]
    assert len(found) == WORST
    assert worst_tensors(walked, {"t29", "t27"})[:2] == ["t28", "t26"]


def test_ranges_that_waste_bits_are_replaced_where_it_helps(room):
    data = {name: window.data for name, window in room.floats.items()}
    inputs = room.inputs * 2
    found = repair(data, inputs, scheme("int8"), TOO_WIDE, walk, subsampling=SUBSAMPLING)
    kept = [step for step in found.steps if step.kept]
    assert kept
    assert all(step.after_db > step.before_db for step in kept)
    whole = kept_whole(data.values()).whole
    sources = {name: one.source for name, one in found.ranges.items() if name not in whole}
    repaired = {name for name, source in sources.items() if source != "calibration:wide"}
    assert repaired
    assert len(repaired) < len(sources)
    assert repaired <= {name for step in kept for name in step.tensors}
    _, held = hold_back(inputs)
    signature, feeds = trial(held, data, SUBSAMPLING)
    quantised = quantize(found.flatbuffers[signature], found.ranges, (), scheme("int8"))
    finished = finish(correct(quantised, found.corrections), found.ranges)
    score = OutputError(data, signature, feeds).snr_db(finished).mean()
    assert score > found.steps[0].before_db + 1
    assert np.isfinite(score)
