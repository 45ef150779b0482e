"""A slimming study as a picture: what is left of a model against what it costs, and the two rankings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tflite_asr.errors import TfliteAsrError
from tflite_asr.report.slim_table import ranked_by_wer
from tflite_asr.staging import save_figure

Row = Mapping[str, Any]

# Told apart by colour-blind readers too (Okabe and Ito).
ALONE, GREEDY, CONTROL = "#999999", "#0072B2", "#E69F00"
AXES = {"parameters": "parameters, million", "macs": "multiply-adds, million"}
LEAST_KL = 1e-6  # a logarithm needs one


def draw(study: Row) -> Any:
    """The figure of what `slim study --json` writes.

    Raises:
        TfliteAsrError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise TfliteAsrError("plot: matplotlib is not installed; pip install matplotlib") from error
    heard, ranked = study["full"]["wer"] is not None, ranked_by_wer(study)
    panels = 3 if ranked else 2
    figure = Figure(figsize=(5 * panels, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = list(figure.subplots(1, panels))
    for axis, quantity in zip(axes, AXES, strict=False):
        _pareto(axis, study, quantity, heard)
    if ranked:
        _agreement(axes[2], study)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=4)
    return figure


def save(study: Row, path: str | Path) -> Path:
    """Write the figure: PNG, PDF or SVG by the name's ending.

    Raises:
        TfliteAsrError: matplotlib is not installed, another ending, or a file that cannot be written.
    """
    return save_figure(draw(study), path)


def _pareto(axis: Any, study: Row, quantity: str, heard: bool) -> None:
    full = study["full"]

    def height(row: Row) -> float:
        return 100 * row["wer"] if heard else max(row["kl"], LEAST_KL)

    if ranked_by_wer(study) or not heard:
        alone = [(full[quantity] - row[f"{quantity}_saved"], height(row)) for row in study["rows"]]
        axis.plot(*_columns(alone), "o", color=ALONE, markersize=3, label="one module dropped, no recovery")
    steps = study["steps"]
    path = [(one[quantity], height(one)) for one in steps]
    if heard:
        path.insert(0, (full[quantity], 100 * full["wer"]))
        control = [(one[quantity], 100 * one["control_wer"]) for one in steps]
        if control:
            axis.plot(*_columns(control), "s--", color=CONTROL, label="control: full, the same steps")
    else:
        axis.set_yscale("log")
    if path:
        axis.plot(
            *_columns(path),
            "o-",
            color=GREEDY,
            label="dropped one after the other" if steps else "full model",
        )
        for one in steps:
            axis.annotate(
                _label(one["path"]),
                (one[quantity] / 1e6, height(one)),
                fontsize=7,
                xytext=(3, 3),
                textcoords="offset points",
            )
    axis.set_xlabel(AXES[quantity])
    axis.set_ylabel("dev WER, %" if heard else "KL to the full model, nats a frame")


def _label(path: str) -> str:
    """Of a drop, which may be of several modules."""
    if "," in path:
        return f"{path.count(',') + 1} modules"
    return path.removeprefix("encoder.") or "recovered"


def _agreement(axis: Any, study: Row) -> None:
    rows, base = study["rows"], study["full"]["wer"]
    kl = [max(row["kl"], LEAST_KL) for row in rows]
    axis.semilogx(kl, [100 * (row["wer"] - base) for row in rows], "o", color=ALONE, markersize=3)
    if max(kl) >= 10 * min(kl):  # else there may be no whole power to read the axis by
        axis.xaxis.set_minor_formatter("")
    axis.set_xlabel("KL, nats a frame, synthetic inputs")
    axis.set_ylabel("dev WER, points above the full model")
    if found := study["agreement"]:
        words = f"Spearman {found['spearman']:.2f} ({found['low']:.2f} to {found['high']:.2f})"
        axis.set_title(words, fontsize=10)


def _columns(points: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x / 1e6 for x, _ in points], [y for _, y in points]
