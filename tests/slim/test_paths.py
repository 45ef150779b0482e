"""The drop grammar: what a specification names, and what a wrong one is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tflite_asr.errors import TfliteAsrError
from tflite_asr.models import conformer
from tflite_asr.models.conformer import ConformerConfig
from tflite_asr.slim.paths import compact, dropped_paths, module_paths

CONFIG = ConformerConfig(blocks=6, dim=16, heads=2, kernel=5, positions="relative")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("encoder.block3", ["encoder.block3"]),
        ("encoder.block*.ff1", [f"encoder.block{i}.ff1" for i in range(6)]),
        ("encoder.block4-5.conv", ["encoder.block4.conv", "encoder.block5.conv"]),
        ("encoder.block2.mhsa", ["encoder.block2.mhsa"]),
        (
            "encoder.block1-2.mhsa.positions",
            ["encoder.block1.mhsa.positions", "encoder.block2.mhsa.positions"],
        ),
        ("positions", [f"encoder.block{i}.mhsa.positions" for i in range(6)]),
        ("encoder.block3.ff1.norm", ["encoder.block3.ff1.norm"]),
        ("encoder.block*.norm", [f"encoder.block{i}.norm" for i in range(6)]),
        ("encoder.block2.mhsa.attention.bias", ["encoder.block2.mhsa.attention.bias"]),
        ("encoder.block*.ff1.dense1.bias", [f"encoder.block{i}.ff1.dense1.bias" for i in range(6)]),
        ("encoder.block0.ff*", ["encoder.block0.ff1", "encoder.block0.ff2"]),
        ("encoder.block0.conv.batch_norm", ["encoder.block0.conv.batch_norm"]),
        ("batch_norms", [f"encoder.block{i}.conv.batch_norm" for i in range(6)]),
        (" encoder.block5 , encoder.block0 ", ["encoder.block0", "encoder.block5"]),
        ("ctc.dense.bias", ["ctc.dense.bias"]),
    ],
)
def test_a_specification_names(spec: str, expected: list[str]) -> None:
    assert list(dropped_paths(spec, CONFIG)) == expected


def test_shorthands_take_every_path_that_ends_so() -> None:
    # A block has 5 norms (ff1, mhsa, conv, ff2 and its own) and 8 biased layers; 2 convolutions, 2 dense besides.
    assert len(dropped_paths("norms", CONFIG)) == 6 * 5
    assert len(dropped_paths("biases", CONFIG)) == 6 * 8 + 4


def test_order_and_splitting_do_not_matter() -> None:
    together = dropped_paths("encoder.block3,encoder.block*.ff1,biases", CONFIG)
    assert dropped_paths(["biases", "encoder.block*.ff1", "encoder.block3"], CONFIG) == together
    assert "encoder.block3.ff1" not in together  # inside encoder.block3


def test_blocks_are_sorted_by_number() -> None:
    big = replace(CONFIG, blocks=12)
    paths = ("encoder.block2", "encoder.block10", "encoder.block11")
    assert dropped_paths("encoder.block10-11,encoder.block2", big) == paths


def test_what_is_dropped_stays_dropped() -> None:
    first = replace(CONFIG, dropped=dropped_paths("encoder.block1.ff1", CONFIG))
    assert dropped_paths("encoder.block1", first) == ("encoder.block1",)
    assert dropped_paths("encoder.block0-1.ff1", first) == ("encoder.block0.ff1", "encoder.block1.ff1")
    with pytest.raises(TfliteAsrError, match=r"encoder\.block1\.ff1 is dropped already"):
        dropped_paths("encoder.block1.ff1", first)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("encoder.block9.ff1", r"encoder\.block9\.ff1; did you mean encoder\.block\d\.ff1\?"),
        ("encoder.blok3", r"did you mean encoder\.block3\?"),
        ("encoder.block4-6", r"encoder\.block4-6 \(encoder\.block6\)"),
        ("encoder.block5-4", r"write block4-5"),
        ("norm", r"did you mean norms\?"),
        ("encoder", r"no module encoder"),
        ("encoder.block1.mhsa.attention", "no module"),
        (" , ", "no module named"),
    ],
)
def test_a_wrong_path_is_told_on_one_line(spec: str, said: str) -> None:
    with pytest.raises(TfliteAsrError, match=said) as caught:
        dropped_paths(spec, CONFIG)
    assert "\n" not in str(caught.value)


def test_a_wrong_path_lists_the_valid_ones_compactly() -> None:
    with pytest.raises(TfliteAsrError) as caught:
        dropped_paths("decoder.block0", CONFIG)
    assert "encoder.block0-5.{ff1,mhsa,conv,ff2,norm}" in str(caught.value)
    assert "encoder.block0-5.mhsa.{norm,positions,attention.bias}" in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_model_without_positions_says_so() -> None:
    with pytest.raises(TfliteAsrError, match="has no positions"):
        dropped_paths("positions", replace(CONFIG, positions="none"))


def test_gaps_show_in_the_compact_list() -> None:
    assert compact(["encoder.block0", "encoder.block1", "encoder.block4"]) == "encoder.block0-1|4"


@pytest.mark.parametrize("positions", ["none", "relative"])
def test_the_paths_are_those_the_builder_asks_for(monkeypatch: pytest.MonkeyPatch, positions: str) -> None:
    config = ConformerConfig(
        blocks=2,
        dim=8,
        heads=2,
        kernel=3,
        subsampling_channels=4,
        positions=positions,
        dropped=("encoder.block1.conv",),
    )
    asked: list[str] = []
    original = conformer._Builder.has

    def has(self: conformer._Builder, path: str) -> bool:
        asked.append(path)
        return original(self, path)

    monkeypatch.setattr(conformer._Builder, "has", has)
    conformer.build_conformer(config)
    meaningful = {
        p for p in asked if p not in config.dropped and (positions == "relative" or "positions" not in p)
    }
    assert set(module_paths(config)) == meaningful
