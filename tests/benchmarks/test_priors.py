"""Sets of clips: several hold the union of what each holds, and every part names sources that exist."""

from __future__ import annotations

import numpy as np

from benchmarks.priors import ARMS, PARTS, REFINED, SOURCES, together, widened
from tflite_asr.quantize.observed import Observed
from tflite_asr.quantize.ranges import Range, Ranges


def seen(low: float, high: float, padded: float) -> dict[str, Observed]:
    one = Observed("ctc", histogram=False)
    one.add(np.array([low, high, padded], np.float32), (slice(2),))
    return {"a/mul": one}


def test_several_clips_hold_what_each_of_them_holds():
    found = together([seen(-1.0, 2.0, 9.0), seen(-3.0, 1.0, -8.0)])["a/mul"]
    assert (found.real_minimum, found.real_maximum) == (-3.0, 2.0)
    assert (found.minimum, found.maximum) == (-8.0, 9.0)
    assert found.signature == "ctc"


def test_every_part_is_of_sources_that_are_and_keeps_some_of_their_18_clips():
    assert set(ARMS) == set(SOURCES) | set(PARTS)
    for sources, choose in PARTS.values():
        assert set(sources) <= set(SOURCES)
        assert 0 < len(choose(list(range(18 * len(sources))))) <= 18 * len(sources)
    assert PARTS["the refined clips alone"][1](list(range(18))) == list(range(REFINED))


def test_room_widens_both_ends_of_what_is_not_kept():
    one = Range(-1.0, 2.0, "calibration:min_max", "ctc")
    found = widened(Ranges({"a/mul": one, "logits": one}), 1.5, frozenset({"logits"}))
    assert found["a/mul"] == Range(-1.5, 3.0, "calibration:min_max", "ctc")
    assert found["logits"] == one
