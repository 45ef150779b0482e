"""The grammar of `--drop`: which modules of a model a specification names.

spec       = item ("," item)*
item       = shorthand | component ("." component)*
component  = name | name with "*" for any run of characters | name FIRST "-" LAST (block4-5)
shorthand  = "positions" | "norms" | "batch_norms" | "biases"        every path that ends in that word
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from itertools import product
from typing import Any

from tflite_asr.errors import TfliteAsrError

SHORTHANDS = {"positions": "positions", "norms": "norm", "batch_norms": "batch_norm", "biases": "bias"}
_RANGE = re.compile(r"^(\D+)(\d+)-(\d+)$")


def module_paths(config: Any) -> list[str]:
    """Paths that can be dropped from the model of this config and are still in it, modules before what they hold.

    config: an architecture's config; its own `module_paths` says.
    """
    return list(config.module_paths())


def dropped_paths(specs: str | Sequence[str], config: Any) -> tuple[str, ...]:
    """What `config.dropped` becomes: earlier and new paths, sorted, none inside another.

    Args:
        specs: one specification or several; the order does not matter.
        config: the model's config; its own `dropped` stays dropped.

    Raises:
        TfliteAsrError: an item that names no module, or only modules that are dropped already.
    """
    items = [
        item.strip() for spec in ([specs] if isinstance(specs, str) else specs) for item in spec.split(",")
    ]
    items = [item for item in items if item]
    if not items:
        raise TfliteAsrError("drop: no module named; give paths such as encoder.block3 or encoder.block*.ff1")
    still, ever = module_paths(config), module_paths(replace(config, dropped=()))
    chosen = set(config.dropped)
    for item in items:
        chosen.update(_match(item, still, ever))
    outer = {p for p in chosen if not any(p.startswith(f"{q}.") for q in chosen)}
    return tuple(sorted(outer, key=_natural))


def _match(item: str, still: list[str], ever: list[str]) -> list[str]:
    """Paths of `still` that one item names."""
    if item in SHORTHANDS:
        found = [p for p in still if p.rsplit(".", 1)[-1] == SHORTHANDS[item]]
        if not found:
            raise TfliteAsrError(f"drop: the model has no {item} (left); valid paths: {compact(still)}")
        return found
    found, gone = [], False
    for pattern in _without_ranges(item):
        here = [p for p in still if _same(p, pattern)]
        found += here
        if not here and not any(_same(p, pattern) for p in ever):
            raise TfliteAsrError(_unknown(item, pattern, still))
        gone = gone or not here
    if not found and gone:
        raise TfliteAsrError(f"drop: {item} is dropped already; valid paths: {compact(still)}")
    return found


def _same(path: str, pattern: str) -> bool:
    ours, theirs = path.split("."), pattern.split(".")
    return len(ours) == len(theirs) and all(map(fnmatchcase, ours, theirs))


def _without_ranges(item: str) -> list[str]:
    """`encoder.block4-5.conv` as `encoder.block4.conv`, `encoder.block5.conv`."""
    choices: list[list[str]] = []
    for component in item.split("."):
        if not (ends := _RANGE.match(component)):
            choices.append([component])
            continue
        name, first, last = ends[1], int(ends[2]), int(ends[3])
        if first > last:
            raise TfliteAsrError(f"drop: {item}: {component} counts down; write {name}{last}-{first}")
        if last - first > 999:
            raise TfliteAsrError(
                f"drop: {item}: {component} names {last - first + 1} modules; no model has so many"
            )
        choices.append([f"{name}{index}" for index in range(first, last + 1)])
    return [".".join(components) for components in product(*choices)]


def _unknown(item: str, pattern: str, still: list[str]) -> str:
    close = difflib.get_close_matches(pattern, [*still, *SHORTHANDS], n=1, cutoff=0.4)
    hint = f"; did you mean {close[0]}? The" if close else "; the"
    named = item if item == pattern else f"{item} ({pattern})"
    return f"drop: no module {named}{hint} valid paths are {compact(still)}, or {', '.join(SHORTHANDS)}"


def _natural(path: str) -> list[Any]:
    """Sort key in which block10 follows block9."""
    return [
        (not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", path)
    ]


def compact(paths: Iterable[str]) -> str:
    """Paths on one line: `encoder.block0-5.{ff1,mhsa}`. Numbered siblings become ranges, last names a set."""
    numbers: dict[tuple[str, str], list[int]] = {}
    plain: list[tuple[str, str]] = []
    for path in paths:
        if numbered := re.match(r"^(.*?\.[a-z_]*block)(\d+)(.*)$", path):
            numbers.setdefault((numbered[1], numbered[3]), []).append(int(numbered[2]))
        else:
            plain.append(_split(path))
    lines = [(f"{head}{_ranges(indices)}", tail) for (head, tail), indices in numbers.items()]
    groups: dict[str, list[str]] = {}
    for head, tail in lines:
        parent, last = _split(tail) if tail.count(".") > 1 else ("", tail.lstrip("."))
        groups.setdefault(f"{head}{parent}", []).append(last)
    for parent, last in plain:
        groups.setdefault(parent, []).append(last)
    return ", ".join(_group(parent, names) for parent, names in groups.items())


def _split(path: str) -> tuple[str, str]:
    """A path and its last module; a bias keeps the layer that it belongs to."""
    parts = path.split(".")
    size = 2 if parts[-1] == "bias" and len(parts) > 2 else 1
    return ".".join(parts[:-size]), ".".join(parts[-size:])


def _group(parent: str, names: list[str]) -> str:
    alone = [parent] if "" in names else []
    names = [n for n in names if n]
    inside = names[0] if len(names) == 1 else "{" + ",".join(names) + "}"
    return ", ".join(alone + ([f"{parent}.{inside}"] if names else []))


def _ranges(indices: list[int]) -> str:
    """0,1,2,5 as `0-2|5`."""
    runs: list[list[int]] = []
    for index in sorted(indices):
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return "|".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
