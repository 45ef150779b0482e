"""Imported models against NeMo itself: the fixtures hold what NeMo 3.0.0 computed (make_fixtures.py)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.nemo.archives import FIXTURES, KINDS
from tflite_asr.facts import ModelFacts
from tflite_asr.frontend import log_mel
from tflite_asr.models import load_model
from tflite_asr.nemo import Imported, import_nemo

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
def test_an_imported_model_exports_to_integers(case: Case, tmp_path: Path) -> None:
    """Feature to logits in int8, the per-feature front end beside it in float: heard end to end on LiteRT."""
    from dataclasses import replace

    from tflite_asr.audit import audit
    from tflite_asr.pipeline import export
    from tflite_asr.runtime.transcriber import Transcriber

    replace(case.facts, windows_seconds=(0.96,)).write(case.imported.path)
    bundle = export(case.imported.path, tmp_path / "bundle", calibration="synthetic", budget_macs=0)
    assert audit(bundle.model_path).integer_only
    transcriber = Transcriber(bundle)
    stored = transcriber.logits(waveform(LENGTHS["odd"]))
    facts, expected = transcriber.logits_facts, case.nemo["logits_odd"]
    logits = (stored.astype(np.float32) - facts.zero_point) * facts.scale
    assert logits.shape == expected.shape
    noise = np.square(logits - expected).sum()
    assert 10 * np.log10(np.square(expected - expected.mean()).sum() / noise) > 15
    assert transcriber.frontend.normalise == "per_feature"
    features = transcriber.features(waveform(LENGTHS["odd"]))
    np.testing.assert_allclose(features, case.nemo["features_odd"], rtol=0, atol=1e-3)
