"""A whole slimming study of a tiny model: ranked, dropped, recovered, kept, gone on with."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.tiny_checkpoint import write_tiny_checkpoint
from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.studies import slim as room
from tflite_asr.studies import slim_greedy, slim_recovery
from tflite_asr.studies.slim import slim_study
from tflite_asr.synthesis import prior

MODULES = "encoder.block*.ff1"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(autouse=True)
def little_to_hear(monkeypatch: pytest.MonkeyPatch) -> None:
    """One short batch a draw: every further shape is traced anew."""
    monkeypatch.setattr(prior, "BATCHES", ((2, 1.0),))
    monkeypatch.setattr(prior, "EDGES", ())


def settings(**others: Any) -> dict[str, Any]:
    return {"modules": MODULES, "target_macs": 0.95, "steps": 2, **others}


@pytest.mark.usefixtures("no_graph")
def test_a_study_without_data_ranks_drops_recovers_and_keeps_all(checkpoint: Path, tmp_path: Path) -> None:
    from tflite_asr.models import load_model

    stages: list[tuple[str, float]] = []
    out = tmp_path / "study"
    found = slim_study(checkpoint, out, **settings(), progress=lambda *one: stages.append(one))
    assert {row["path"] for row in found.rows} == {"encoder.block0.ff1", "encoder.block1.ff1"}
    assert [row["kl"] for row in found.rows] == sorted(row["kl"] for row in found.rows)
    assert all(row["kl"] > 0 and row["wer"] is None for row in found.rows)
    assert found.agreement is None
    assert found.ended == "met"
    # All save the same: the first to go is the one that is missed least.
    assert found.steps[0]["path"] == found.rows[0]["path"]
    assert found.steps[-1]["macs"] <= 0.95 * found.full["macs"]
    assert [one["number"] for one in found.steps] == list(range(1, len(found.steps) + 1))
    held = json.loads((out / "study.json").read_text())
    assert (held["seed"], held["steps"], held["recover"]) == (0, 2, "distil")
    assert set(held["versions"]) >= {"keras", "tensorflow"}
    last = Path(found.chosen or "")
    assert last.name == f"{len(found.steps):03d}-{found.steps[-1]['path']}"
    facts = ModelFacts.read(last / "model.keras")
    assert facts is not None
    assert facts.config["dropped"] == found.steps[-1]["dropped"]
    assert load_model(last / "model.keras").count_params() == load_model(
        last / "control.keras"
    ).count_params() - (found.full["parameters"] - found.steps[-1]["parameters"])
    assert stages[-1][1] <= 1
    fractions = [fraction for _, fraction in stages]
    assert fractions == sorted(fractions)


def test_an_interrupted_study_goes_on_where_it_stopped(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = slim_study(checkpoint, tmp_path / "whole", **settings(recover="none", target_macs=0.9))
    assert len(whole.steps) > 1
    out = tmp_path / "study"

    def interrupt(stop: str, stage: str, fraction: float) -> None:
        if stage.startswith(stop):
            raise KeyboardInterrupt

    for stop in ("without encoder.block1.ff1", "after 1 drop: without"):
        asked = settings(recover="none", target_macs=0.9)
        with pytest.raises(KeyboardInterrupt):
            slim_study(checkpoint, out, **asked, progress=partial(interrupt, stop))
    kept = {path: path.stat().st_mtime_ns for path in out.rglob("*.json")}
    assert len(list((out / "candidates").iterdir())) == 1
    again = slim_study(checkpoint, out, **settings(recover="none", target_macs=0.9))
    assert again.rows == whole.rows
    assert again.steps == whole.steps
    assert {path: path.stat().st_mtime_ns for path in kept} == kept

    monkeypatch.setattr(room, "without", lambda *_: pytest.fail("measured again"))
    monkeypatch.setattr(slim_greedy, "without", lambda *_: pytest.fail("measured again"))
    assert slim_study(checkpoint, out, **settings(recover="none", target_macs=0.9)).steps == whole.steps


@pytest.mark.usefixtures("no_graph")
def test_an_interrupted_recovery_goes_on_where_it_was_saved(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tflite_asr.training import steps as training

    monkeypatch.setattr(slim_recovery, "SAVED_EVERY", 2)
    out, taken, run_steps = tmp_path / "study", list[int](), training.run_steps

    def counted(trainer: Any, batches: Any, rate: Any, *others: Any) -> list[float]:
        taken.append(len(batches))
        return run_steps(trainer, batches, rate, *others)

    def interrupt(stage: str, fraction: float) -> None:
        if stage.endswith("recover") and sum(taken) == 5 + 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "run_steps", counted)
    with pytest.raises(KeyboardInterrupt):
        slim_study(checkpoint, out, **settings(steps=5), progress=interrupt)
    assert taken == [2, 2, 1, 2, 2]
    held = sorted(path.name for path in (out / "unfinished").iterdir())
    assert held == ["001-chosen.json", "001-control.state.npz", "001-model.state.npz"]
    taken.clear()
    kept = json.loads((out / "unfinished" / "001-chosen.json").read_text())
    (out / "unfinished" / "001-chosen.json").write_text(
        json.dumps({**kept, "dropped": ["encoder.block1.ff1"]})
    )
    if kept["dropped"] != ["encoder.block1.ff1"]:
        with pytest.raises(
            TfliteAsrError, match=r"001-model.state.npz: is of another recovery than the 5 steps"
        ):
            slim_study(checkpoint, out, **settings(steps=5))
    (out / "unfinished" / "001-chosen.json").write_text(json.dumps(kept))
    taken.clear()
    monkeypatch.setattr(slim_greedy.Descent, "_choose", lambda *_: pytest.fail("chosen again"))
    found = slim_study(checkpoint, out, **settings(steps=5))
    assert taken == [2, 1]
    assert found.ended == "met"
    assert not list((out / "unfinished").iterdir())


def test_the_control_goes_first_and_teaches_the_smaller_model(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int, int | None]] = []

    def run(
        _: Any,
        model: Any,
        number: int,
        tell: Any,
        steps: int,
        state: Path,
        teacher: Any = None,
        what: str = "",
    ) -> list[float]:
        asked.append((number, model.count_params(), teacher and teacher.count_params()))
        return []

    monkeypatch.setattr(slim_recovery.Recovery, "run", run)
    found = slim_study(checkpoint, tmp_path / "study", **settings(target_macs=0.9))
    full = found.full["parameters"]
    assert len(found.steps) > 1
    expected = [
        one for s in found.steps for one in ((s["number"], full, None), (s["number"], s["parameters"], full))
    ]
    assert asked == expected


def test_a_teacher_may_be_trained_again_afterwards(checkpoint: Path) -> None:
    from tflite_asr.models import load_model

    facts = ModelFacts.read(checkpoint)
    assert facts is not None
    model, teacher = load_model(checkpoint), load_model(checkpoint)
    teacher.trainable = False
    slim_recovery.Recovery("distil", 1, teacher, facts).run(model, 1, teacher=teacher)
    assert len(teacher.trainable_variables) == len(model.trainable_variables) > 0


@pytest.mark.usefixtures("no_graph")
def test_a_study_that_met_its_target_goes_on_with_a_last_recovery(checkpoint: Path, tmp_path: Path) -> None:
    from tflite_asr.models import load_model
    from tflite_asr.report.slim_table import study_tables

    out = tmp_path / "study"
    first = slim_study(checkpoint, out, **settings())
    again = slim_study(checkpoint, out, **settings(last_steps=5))
    *drops, last = again.steps
    assert drops == first.steps
    assert (last["path"], last["steps"], last["parameters"]) == ("", 5, drops[-1]["parameters"])
    assert last["kl_before_recovery"] == drops[-1]["kl"] != last["kl"]
    assert Path(again.chosen or "").name == f"{len(again.steps):03d}-recovered"
    for name in ("model", "control"):
        before, after = (
            load_model(Path(place or "") / f"{name}.keras").get_weights()
            for place in (first.chosen, again.chosen)
        )
        assert any(np.any(one != other) for one, other in zip(before, after, strict=True)), name
    assert slim_study(checkpoint, out, **settings(last_steps=5)).steps == again.steps
    assert slim_study(checkpoint, out, **settings()).steps == again.steps
    with pytest.raises(TfliteAsrError, match=r"is a last recovery of 5 steps, not 6; give --last-steps 5"):
        slim_study(checkpoint, out, **settings(last_steps=6))
    cells = [str(cell) for table in study_tables(again.to_dict()) for cell in table.columns[0].cells]
    assert "recovered, 5 steps more" in cells


def test_changed_arguments_are_refused_in_one_line(checkpoint: Path, tmp_path: Path) -> None:
    from tflite_asr.studies.slim_folder import StudyFolder

    out = tmp_path / "study"
    StudyFolder(out, {"steps": 2, "seed": 0}).begin()
    with pytest.raises(
        TfliteAsrError, match=r"study.json: this study was begun with steps 2, not 3; give the same"
    ):
        StudyFolder(out, {"steps": 3, "seed": 0})
    StudyFolder(out, {"steps": 2, "seed": 0}).begin()
    StudyFolder(out, {"steps": 2, "seed": 0, "at_once": 1, "rate": 3e-4})  # what it did before it said so
    with pytest.raises(TfliteAsrError, match="begun with at-once 1, not 2"):
        StudyFolder(out, {"steps": 2, "seed": 0, "at_once": 2})
    (out / "study.json").write_text("{")
    for text in ("{", "[]", "null", "{}"):
        (out / "study.json").write_text(text)
        with pytest.raises(TfliteAsrError, match=r"study.json: is damaged \(.*\); give another --out"):
            StudyFolder(out, {"steps": 2, "seed": 0})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rank_wer": False}, "--no-rank-wer: there is no dev speech to spare"),
        ({"at_once": 2, "target_macs": None}, "--at-once 2: nothing is dropped without"),
        ({"at_once": 0}, "--at-once 0: give 1 or more"),
        ({"rate": 2.0}, "--rate 2: give a learning rate above 0 and below 1"),
        ({"modules": "encoder.block7.ff1"}, "--modules: no module encoder.block7.ff1"),
        (
            {"target_macs": 0.1},
            r"--target-macs 0.1: without all of these modules [0-9,]+ are left \(0\.[0-9]+",
        ),
        ({"target_params": 10.0}, "--target-params 10: without all of these modules"),
        ({"target_macs": 1e12}, "the model has [0-9,]+ already; give less"),
        ({"target_macs": 1.0}, "--target-macs 1: give a fraction below 1"),
        ({"max_wer_rise": 0.5}, "--max-wer-rise: there is no word error rate without speech; give --dev"),
        ({"score": "wer"}, "--score wer: there is no word error rate"),
        ({"recover": "finetune"}, "--recover finetune: nothing to train on; give --manifest"),
        ({"manifests": ["a.jsonl"]}, "--manifest: is for --recover finetune"),
        ({"dev": ["absent.jsonl"]}, "absent.jsonl: no such manifest"),
        ({"last_steps": -1}, "--last-steps -1: give 0 or more"),
        (
            {"last_steps": 5, "recover": "none"},
            "--last-steps 5: is recovery when a target is met; give --recover",
        ),
        ({"last_steps": 5, "target_macs": None}, "is met; give --target-params or --target-macs too"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(
    given: dict[str, Any], message: str, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(TfliteAsrError, match=message) as caught:
        slim_study(checkpoint, tmp_path / "study", **settings(**given))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "study").exists()


def test_a_folder_of_other_things_and_a_file_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(TfliteAsrError, match=r"holds other things and no study.json"):
        slim_study(checkpoint, tmp_path, **settings())
    with pytest.raises(TfliteAsrError, match=r"notes.txt: is no folder"):
        slim_study(checkpoint, tmp_path / "notes.txt", **settings())
    with pytest.raises(TfliteAsrError, match="cannot be written"):
        slim_study(checkpoint, "/proc/study", **settings())
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_model_without_an_architecture_has_no_known_modules(checkpoint: Path, tmp_path: Path) -> None:
    bare = shutil.copy(checkpoint, tmp_path / "bare.keras")
    with pytest.raises(TfliteAsrError, match="its architecture is unknown"):
        slim_study(bare, tmp_path / "study", **settings())


def test_distillation_brings_a_model_back_toward_the_full_one_and_leaves_the_full_one_alone(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tflite_asr.models import load_model
    from tflite_asr.pipeline import facts_of
    from tflite_asr.slim import slim

    monkeypatch.setattr(slim_recovery, "RATE", 3e-3)
    facts, full = facts_of(checkpoint), load_model(checkpoint)
    assert facts is not None
    smaller = slim(full, facts, "encoder.block1.ff1")[0]
    before, held = [np.array(w) for w in full.get_weights()], [np.array(w) for w in smaller.get_weights()]
    losses = slim_recovery.Recovery("distil", 40, full, facts).run(smaller, 1)
    assert len(losses) == 40
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
    assert all(np.array_equal(a, b) for a, b in zip(before, full.get_weights(), strict=True))
    moved = {w.path: not np.array_equal(a, w) for a, w in zip(held, smaller.weights, strict=True)}
    assert not any(moved[w.path] for w in smaller.weights if "moving" in w.name)
    assert any(moved.values())


@pytest.mark.slow
def test_on_real_speech_both_rankings_name_the_same_module_and_a_drop_is_held_against_its_control(
    speech_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    asked: dict[str, Any] = {
        "dev": [speech_data / "an4" / "dev.jsonl", speech_data / "speechocean762" / "dev.jsonl"],
        "limit": 12,
        "modules": "encoder.block0,encoder.block2.mhsa,encoder.block4.norm,encoder.block5.ff2.dense1.bias",
        "target_macs": 0.94,
        "steps": 4,
        "recover": "finetune",
        "manifests": [speech_data / "an4" / "dev.jsonl"],
        "cache": tmp_path / "cache",
    }
    found = slim_study("conformer-ctc", tmp_path / "study", **asked)
    assert set(found.full["corpora"]) == {"an4/dev", "speechocean762/dev"}
    # Of four modules, two of which move no word of so few, no more of a rank correlation is asked than that it is one.
    for judged_by in ("kl", "wer"):
        assert (
            max(found.rows, key=lambda row: row[judged_by])["path"]
            == found.rows[-1]["path"]
            == "encoder.block0"
        )
    assert found.agreement is not None
    assert 0 < found.agreement["spearman"] <= 1
    (step,) = found.steps
    assert step["path"] == "encoder.block2.mhsa"
    rise = step["wer"] - step["control_wer"]
    assert step["wer_rise"]["difference"] == pytest.approx(rise)
    assert set(step["corpora"]) == set(found.full["corpora"])
