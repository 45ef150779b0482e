"""A calibration study as pictures: fidelity and word errors by arm, widths of ranges, SNR along the model."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.staging import save_figure

Row = Mapping[str, Any]

# A colour for each arm, told apart by colour-blind readers too (Okabe and Ito).
COLOURS = {
    "noise": "#999999",
    "synthetic:published": "#E69F00",
    "synthetic": "#0072B2",
    "synthetic:labels": "#CC79A7",
    "real": "#009E73",
}

MOST_DB = 60.0  # what is exact in integers (a mask) would flatten all else


def draw(study: Row) -> Any:
    """The figure of what `calibrate compare --json` writes.

    Raises:
        TfliteAsrError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise TfliteAsrError("plot: matplotlib is not installed; pip install matplotlib") from error
    corpora = list(study["settings"]["corpora"])
    rows = [row for row in study["rows"] if row["calibrator"]]
    walks = study["walks"]["rows"]
    panels = len(corpora) + 1 + bool(study["overlaps"]) + (len(corpora) if walks else 0)
    figure = Figure(figsize=(9, 2.8 * panels), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(np.atleast_1d(figure.subplots(panels)))
    for corpus in corpora:
        _fidelity(axes.pop(0), rows, corpus)
    _words(axes.pop(0), rows)
    if study["overlaps"]:
        _widths(axes.pop(0), study["overlaps"])
    for corpus in corpora if walks else ():
        _along(axes.pop(0), walks, corpus)
    handles = {text: handle for axis in figure.axes for handle, text in _legend(axis)}
    figure.legend(list(handles.values()), list(handles), loc="outside upper center", ncols=5)
    return figure


def save(study: Row, path: str | Path) -> Path:
    """Write the figure: PNG, PDF or SVG by the name's ending.

    Raises:
        TfliteAsrError: matplotlib is not installed, another ending, or a file that cannot be written.
    """
    return save_figure(draw(study), path)


def svg(study: Row) -> str:
    """The figure as an SVG element, to stand inside a page."""
    out = io.StringIO()
    draw(study).savefig(out, format="svg")
    text = out.getvalue()
    return text[text.index("<svg") :]


def _places(rows: Sequence[Row]) -> tuple[list[str], dict[str, int]]:
    """Calibrators from left to right, and the arms' order inside each."""
    arms = [arm for arm in COLOURS if any(row["arm"] == arm for row in rows)]
    return list(dict.fromkeys(row["calibrator"] for row in rows)), {arm: i for i, arm in enumerate(arms)}


def _fidelity(axis: Any, rows: Sequence[Row], corpus: str) -> None:
    calibrators, arms = _places(rows)
    for row in rows:
        place = calibrators.index(row["calibrator"]) + 0.15 * (arms[row["arm"]] - (len(arms) - 1) / 2)
        seeds = row["corpora"][corpus]["snr_db_seeds"]
        axis.plot([place] * len(seeds), seeds, "o", color=COLOURS[row["arm"]], label=row["arm"], alpha=0.8)
    axis.set_xticks(range(len(calibrators)), calibrators)
    axis.set_xlim(-0.5, len(calibrators) - 0.5)
    axis.set_ylabel("logits' SNR, dB")
    axis.set_title(f"{corpus}: fidelity to float32, a dot a seed", fontsize=10)


def _words(axis: Any, rows: Sequence[Row]) -> None:
    calibrators, arms = _places(rows)
    axis.axhline(0, color="black", linewidth=0.8)
    for row in rows:
        place = calibrators.index(row["calibrator"]) + 0.15 * (arms[row["arm"]] - (len(arms) - 1) / 2)
        middle, low, high = (100 * row["against_float32"][key] for key in ("difference", "low", "high"))
        reach = [[middle - low], [high - middle]]
        colour = COLOURS[row["arm"]]
        axis.errorbar([place], [middle], yerr=reach, fmt="o", capsize=3, color=colour, label=row["arm"])
    axis.set_xticks(range(len(calibrators)), calibrators)
    axis.set_xlim(-0.5, len(calibrators) - 0.5)
    axis.set_ylabel("WER, points")
    axis.set_title("all corpora: above float32, mean of seeds, 95 % interval", fontsize=10)


def _widths(axis: Any, rows: Sequence[Row]) -> None:
    first = rows[0]["calibrator"]
    for row in rows:
        if row["calibrator"] == first:
            widths = sorted(width for width, _ in row["by_tensor"].values())
            axis.semilogy(
                np.linspace(0, 100, len(widths)), widths, color=COLOURS[row["arm"]], label=row["arm"]
            )
    axis.axhline(1, color="black", linewidth=0.8)
    axis.set_xlabel("% of tensors")
    axis.set_ylabel("width / real's")
    axis.set_title(f"{first}: width of ranges against real calibration's", fontsize=10)


def _along(axis: Any, walks: Sequence[Row], corpus: str) -> None:
    first = walks[0]["calibrator"]
    for row in walks:
        if row["calibrator"] == first:
            axis.plot(row["snr_db"][corpus], color=COLOURS[row["arm"]], label=row["arm"], linewidth=0.8)
    axis.set_xlabel("activation, in the order of execution")
    axis.set_ylim(top=MOST_DB)
    axis.set_ylabel("SNR, dB")
    axis.set_title(f"{first}, {corpus}: float and integers side by side", fontsize=10)


def _legend(axis: Any) -> list[tuple[Any, str]]:
    return list(zip(*axis.get_legend_handles_labels(), strict=True))
