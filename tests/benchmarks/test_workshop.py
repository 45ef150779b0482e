"""Peers are made once, and one that cannot be made says why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.side_by_side.makers import PEERS, Ingredients, Peer
from benchmarks.side_by_side.workshop import build_all
from tests.benchmarks.made_up import make_abort, make_letters, make_refusal


@pytest.fixture
def given(tmp_path: Path) -> Ingredients:
    checkpoint, clips = tmp_path / "model.keras", tmp_path / "clips.npz"
    checkpoint.write_bytes(b"weights")
    clips.write_bytes(b"clips")
    return Ingredients(checkpoint, clips, frames=100, subsampling=4)


def peer(name: str, make: Callable, **settings) -> Peer:
    return Peer(name, name.title(), make, ".tflite", settings.pop("packages", ("numpy",)), **settings)


def marks(given: Ingredients) -> int:
    """How often `make_letters` ran."""
    path = given.keras_path.with_name("made")
    return len(path.read_text()) if path.exists() else 0


def test_a_peer_that_refuses_or_aborts_is_a_result_with_one_line_and_the_others_are_made(
    given: Ingredients, tmp_path: Path
) -> None:
    peers = [peer("taste", make_refusal), peer("abort", make_abort), peer("letters", make_letters)]
    built = build_all(peers, given, tmp_path / "work")
    assert list(built) == ["taste", "abort", "letters"]
    assert built["taste"].refusal == "this model is not to my taste"
    assert "SIGABRT" in str(built["abort"].refusal)
    assert "\n" not in str(built["abort"].refusal)
    assert built["taste"].file is None
    assert built["letters"].refusal is None
    assert (tmp_path / "work" / "letters.tflite").read_bytes() == b"letters of weights"
    assert built["letters"].notes == {"letters": 7}


def test_what_is_made_from_a_peer_that_refused_says_so(given: Ingredients, tmp_path: Path) -> None:
    peers = [peer("taste", make_refusal), peer("child", make_letters, takes=("taste",))]
    built = build_all(peers, given, tmp_path / "work")
    assert "taste" in str(built["child"].refusal)
    assert marks(given) == 0


def test_a_peer_whose_package_is_absent_names_the_extra(given: Ingredients, tmp_path: Path) -> None:
    built = build_all([peer("letters", make_letters, packages=("no-such-runtime",))], given, tmp_path)
    assert "no-such-runtime not installed" in str(built["letters"].refusal)
    assert "tflite-asr[peers]" in str(built["letters"].refusal)


def test_a_peer_is_made_again_only_where_something_changed(given: Ingredients, tmp_path: Path) -> None:
    work, letters = tmp_path / "work", peer("letters", make_letters, calibrated=True)
    first = build_all([letters], given, work)
    assert build_all([letters], given, work) == first
    assert marks(given) == 1
    given.keras_path.write_bytes(b"other weights")
    build_all([letters], given, work)
    assert marks(given) == 2
    assert (work / "letters.tflite").read_bytes() == b"letters of other weights"
    given.clips.write_bytes(b"other clips")
    build_all([letters], given, work)
    assert marks(given) == 3
    build_all([letters], replace(given, frames=200), work)
    assert marks(given) == 4


@pytest.mark.parametrize("lost", ["letters.tflite", "letters.json"])
def test_a_file_or_record_that_is_lost_or_cut_short_is_made_again(
    given: Ingredients, tmp_path: Path, lost: str
) -> None:
    letters = peer("letters", make_letters)
    build_all([letters], given, tmp_path)
    if lost.endswith(".json"):
        (tmp_path / lost).write_text((tmp_path / lost).read_text()[:20])
    else:
        (tmp_path / lost).unlink()
    assert build_all([letters], given, tmp_path)["letters"].refusal is None
    assert marks(given) == 2


def test_a_refusal_is_tried_again(given: Ingredients, tmp_path: Path) -> None:
    build_all([peer("letters", make_refusal)], given, tmp_path)
    assert build_all([peer("letters", make_letters)], given, tmp_path)["letters"].refusal is None


def test_every_peer_comes_behind_those_that_it_takes() -> None:
    seen: set[str] = set()
    for one in PEERS:
        assert set(one.takes) <= seen, one.name
        seen.add(one.name)
