"""An encoder-decoder's steps: what goes in, what is carried, where it stops; CTC says when each letter was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from tflite_asr.bundle import Bundle
from tflite_asr.errors import TfliteAsrError
from tflite_asr.runtime.interpreter import Signature, TensorFacts
from tflite_asr.runtime.spelling import Spelling, StepSpeller, place_in_time, spell, wanted_spelling
from tflite_asr.runtime.transcriber import Transcriber

END, LONGEST = 0, 6


class Counting:
    """Stands in for an interpreter: its decoder says 3, 1, 2 and ends, by what its cache holds."""

    def __init__(self) -> None:
        int8 = {"dtype": "int8", "scale": 0.5, "zero_point": 10}
        inputs = {
            "token": TensorFacts((1, 1), "int32"),
            "position": TensorFacts((1, 1), "int32"),
            "history": TensorFacts((1, LONGEST), "float32"),
            "mask": TensorFacts((1, 4), "float32"),
            "memory_keys0": TensorFacts((1, 4, 1), **int8),
            "keys0": TensorFacts((1, LONGEST, 1), **int8),
        }
        outputs = {"logits": TensorFacts((1, 4), **int8), "keys0": inputs["keys0"]}
        self.signatures = {"decode_step_16": Signature("decode_step_16", inputs, outputs)}
        self.fed: list[dict[str, np.ndarray]] = []

    def run(self, signature: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        wanted = self.signatures[signature].inputs
        assert set(inputs) == set(wanted)
        for name, facts in wanted.items():
            assert (inputs[name].shape, inputs[name].dtype) == (facts.shape, np.dtype(facts.dtype))
        self.fed.append(dict(inputs))
        said = int((inputs["keys0"] != 10).sum())
        logits = np.full((1, 4), 0, np.int8)
        logits[0, [3, 1, 2, END, END, END][said]] = 40
        new = np.full((1, 1, 1), 20 + inputs["token"][0, 0], np.int8)
        return {"logits": logits, "keys0": np.concatenate([inputs["keys0"][:, 1:], new], axis=1)}


def speller(model: Any) -> StepSpeller:
    memory = {"memory_keys0": np.full((1, 4, 1), 7, np.int8), "memory_of_others": np.zeros(1)}
    return StepSpeller(model, "decode_step_16", memory, np.array([[1, 1, 1, 0]], np.float32))


def test_tokens_come_until_the_end() -> None:
    model = Counting()
    found = spell(speller(model), END, 10.0, Spelling(), np.zeros((4, 4), np.float32))
    assert found == (3, 1, 2)
    assert [feed["token"][0, 0] for feed in model.fed] == [END, 3, 1, 2]
    assert [feed["position"][0, 0] for feed in model.fed] == [0, 1, 2, 3]
    assert [feed["history"][0].tolist() for feed in model.fed[:2]] == [[0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 1, 1]]
    assert model.fed[0]["keys0"].tolist() == np.full((1, LONGEST, 1), 10).tolist()  # real zeros
    assert model.fed[3]["keys0"][0, -3:, 0].tolist() == [20, 23, 21]
    assert all((feed["memory_keys0"] == 7).all() for feed in model.fed)


def test_neither_the_caches_nor_the_speech_are_outrun() -> None:
    endless = Counting()
    endless.run = lambda signature, inputs: {  # type: ignore[method-assign]
        "logits": np.array([[0, 0, 0, 9]], np.int8)
        if inputs["token"][0, 0] != 3
        else np.array([[0, 9, 0, 0]], np.int8),
        "keys0": inputs["keys0"],
    }
    assert spell(speller(endless), END, 10.0, Spelling(), np.zeros((4, 4), np.float32)) == (3, 1, 3, 1, 3)
    assert len(spell(speller(endless), END, 0.04, Spelling(), np.zeros((1, 4), np.float32))) == 4


def test_logits_are_made_real_before_they_are_weighed() -> None:
    logs, _ = speller(Counting()).step(speller(Counting()).start(), END)
    expected = np.array([-5.0, -5.0, -5.0, 15.0])
    np.testing.assert_allclose(logs, expected - np.log(np.exp(expected).sum()), atol=1e-5)


def test_joint_scoring_hears_ctc() -> None:
    ctc = np.full((12, 4), -40.0, np.float32)
    ctc[np.arange(12), [0, 3, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]] = 40.0  # CTC is sure of 3, 1 and no more
    attention = spell(speller(Counting()), END, 10.0, Spelling("attention"), ctc)
    joint = spell(speller(Counting()), END, 10.0, Spelling("joint", beam=2), ctc)
    assert attention == (3, 1, 2)
    assert joint == (3, 1)


def test_letters_are_placed_where_ctc_hears_them() -> None:
    ctc = np.full((6, 4), -20.0, np.float32)
    ctc[np.arange(6), [0, 3, 3, 0, 1, 0]] = 20.0
    first, end = place_in_time(ctc, (3, 1), END)
    assert (first.tolist(), end.tolist()) == ([1, 4], [3, 5])


def test_what_ctc_cannot_spell_is_spread_evenly() -> None:
    first, end = place_in_time(np.zeros((4, 4), np.float32), (1, 1, 1, 1), END)
    assert (first.tolist(), end.tolist()) == ([0, 1, 2, 3], [1, 2, 3, 4])


def test_nothing_asked_for_is_the_bundles_own_way() -> None:
    assert wanted_spelling(None, 1) is None
    assert wanted_spelling(None, 4) == Spelling("attention", 4)
    assert wanted_spelling("ctc", 1) == Spelling("ctc")


@pytest.mark.parametrize(
    ("decoder", "beam", "message"), [("rnnt", 1, "decoder 'rnnt' is unknown"), ("ctc", 3, "beam 3")]
)
def test_a_way_that_is_none_is_refused(decoder: str, beam: int, message: str) -> None:
    with pytest.raises(TfliteAsrError, match=message):
        Spelling(decoder, beam)


def test_a_ctc_bundle_has_no_attention(float_bundle: Bundle) -> None:
    with pytest.raises(TfliteAsrError, match="has no decoder for attention; give decoder ctc"):
        Transcriber(float_bundle, spelling=Spelling("attention"))
    assert Transcriber(float_bundle, spelling=Spelling("ctc")).spelling.decoder == "ctc"
