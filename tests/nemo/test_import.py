"""Imported models against NeMo itself: the fixtures hold what NeMo 3.0.0 computed (make_fixtures.py)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.nemo.archives import FIXTURES, KINDS
from tflite_asr.audit import audit
from tflite_asr.facts import ModelFacts
from tflite_asr.frontend import log_mel
from tflite_asr.models import load_model
from tflite_asr.nemo import Imported, import_nemo
from tflite_asr.pipeline import export
from tflite_asr.runtime.transcriber import Transcriber

LENGTHS = {"whole": 12_870, "odd": 13_700}  # samples; 80 frames, and 85, which no subsampling divides


@dataclass(frozen=True)
class Case:
    """An imported fixture, opened again from its files, and what NeMo computed with it."""

    imported: Imported
    model: Any
    facts: ModelFacts
    nemo: dict[str, np.ndarray]

    def logits(self, features: np.ndarray, padding: int = 0) -> np.ndarray:
        """float32 [frames, pieces] of valid frames; features are padded to the subsampling and by `padding` groups."""
        each = self.facts.subsampling
        valid = -(-len(features) // each)
        padded = np.zeros((1, (valid + padding) * each, features.shape[1]), np.float32)
        padded[0, : len(features)] = features
        mask = (np.arange(valid + padding) < valid).astype(np.float32)[None]
        return np.asarray(self.model([padded, mask], training=False))[0, :valid]


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    out = tmp_path_factory.mktemp("imported") / f"{request.param}.keras"
    imported = import_nemo(FIXTURES / f"{request.param}.nemo", out)
    facts = ModelFacts.read(out)
    assert facts is not None
    return Case(imported, load_model(out), facts, dict(np.load(FIXTURES / f"{request.param}.npz")))


def waveform(length: int) -> np.ndarray:
    return np.load(FIXTURES / "waveform.npz")["samples"][:length].astype(np.float32) / 32768


@pytest.mark.parametrize("which", LENGTHS)
@pytest.mark.parametrize("padding", [0, 3])
def test_logits_are_nemos_from_features(case: Case, which: str, padding: int) -> None:
    logits = case.logits(case.nemo[f"features_{which}"], padding)
    np.testing.assert_allclose(logits, case.nemo[f"logits_{which}"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("which", LENGTHS)
def test_features_are_nemos_from_the_waveform(case: Case, which: str) -> None:
    """Normalised per feature, in deviations; both are computed in float32."""
    assert case.facts.frontend is not None
    features = log_mel(waveform(LENGTHS[which]), case.facts.frontend)
    np.testing.assert_allclose(features, case.nemo[f"features_{which}"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("which", LENGTHS)
def test_logits_are_nemos_from_the_waveform(case: Case, which: str) -> None:
    assert case.facts.frontend is not None
    logits = case.logits(log_mel(waveform(LENGTHS[which]), case.facts.frontend))
    np.testing.assert_allclose(logits, case.nemo[f"logits_{which}"], rtol=0, atol=5e-5)


def test_facts_say_what_was_imported(case: Case) -> None:
    imported, facts = case.imported, case.facts
    assert facts.name == imported.path.stem
    assert (facts.architecture, facts.subsampling) == (imported.architecture, imported.subsampling)
    assert facts.frontend == imported.frontend
    assert facts.tokens == imported.tokens
    assert facts.extra == {"imported_from": f"{facts.name}.nemo", "nemo_version": "3.0.0"}
    assert imported.parameters == case.model.count_params()
    assert case.model.output_shape[-1] == len(imported.tokens.pieces)
    assert imported.tokens.blank_id == len(imported.tokens.pieces) - 1
    assert imported.frontend.normalise == "per_feature"
    subsampling = {"conformer": 4, "fastconformer": 8, "quartznet": 2, "jasper": 2}[facts.name]
    assert imported.subsampling == subsampling


def test_characters_and_sentence_pieces_spell_text(case: Case) -> None:
    tokens = case.imported.tokens
    assert tokens.decode(tokens.encode("she sells")).strip() == "she sells"
    if case.facts.name == "fastconformer":
        assert {"\u2581the", "\u2581sea", "<unk>"} <= set(tokens.pieces)
    else:
        assert tokens.pieces[:3] == (" ", "a", "b")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["float32", "int8"])
def test_an_imported_model_exports(case: Case, tmp_path: Path, scheme: str) -> None:
    """From the waveform, through the per-feature front end in float and the model, on LiteRT: float32 gives NeMo's
    logits, int8 is of integers alone and stays within what eight bits cost so narrow a model of random weights."""
    replace(case.facts, windows_seconds=(0.96,)).write(case.imported.path)
    bundle = export(case.imported.path, tmp_path / "bundle", scheme=scheme, budget_macs=0)
    assert audit(bundle.model_path).integer_only == (scheme == "int8")
    transcriber = Transcriber(bundle)
    for which, length in LENGTHS.items():
        features = transcriber.features(waveform(length))
        np.testing.assert_allclose(features, case.nemo[f"features_{which}"], rtol=0, atol=2e-4)
        logits, expected = transcriber.logits(waveform(length)), case.nemo[f"logits_{which}"]
        if scheme == "float32":
            np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
            continue
        facts = transcriber.logits_facts
        real = (logits.astype(np.float32) - facts.zero_point) * facts.scale
        assert 10 * np.log10(expected.var() / np.square(real - expected).mean()) > 12
