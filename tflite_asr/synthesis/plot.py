"""A picture of calibration inputs: log-mels, real ones beside them, and the loss curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.staging import save_figure
from tflite_asr.synthesis.inputs import SyntheticInputs

ENDINGS = (".png", ".pdf", ".svg")


def check_plot(path: str | Path) -> None:
    """Say before the work is done that its picture could not be drawn.

    Raises:
        TfliteAsrError: no PNG, PDF or SVG; matplotlib is not installed.
    """
    if Path(path).suffix.lower() not in ENDINGS:
        raise TfliteAsrError(f"{path}: is no kind of picture; give NAME.png, .pdf or .svg")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise TfliteAsrError("plot: matplotlib is not installed; pip install matplotlib") from error


def plot(
    inputs: SyntheticInputs,
    path: str | Path,
    clips: int = 6,
    seconds_per_frame: float = 0.01,
    against: SyntheticInputs | None = None,
) -> Path:
    """Write a PNG, PDF or SVG: the first `clips` clips and, where inputs were refined, the loss step by step.

    against: real ones, drawn in a second column in the same colours (those of the middle 98 % of all values shown).

    Raises:
        TfliteAsrError: as `check_plot`, or a file that cannot be written.
    """
    check_plot(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = [inputs] if against is None else [inputs, against]
    shown = [[clip.reshape(len(clip), -1) for clip in one.features[:clips]] for one in columns]
    limits = np.percentile(np.concatenate([clip.ravel() for column in shown for clip in column]), [1, 99])
    pictures = max(map(len, shown))
    figure = Figure(figsize=(10, 1.9 * (pictures + bool(inputs.curve))), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(pictures + bool(inputs.curve), len(columns))
    for column, (one, some) in enumerate(zip(columns, shown, strict=True)):
        for row, clip in enumerate(some):
            axis = figure.add_subplot(grid[row, column])
            image = axis.imshow(
                clip.T,
                origin="lower",
                aspect="auto",
                extent=(0, len(clip) * seconds_per_frame, 0, clip.shape[1]),
                vmin=limits[0],
                vmax=limits[1],
            )
            figure.colorbar(image, ax=axis)
            axis.set_ylabel("mel")
            kind = one.method if one is against else "refined" if row < one.refined else "prior"
            axis.set_title(f"clip {row}, {kind}", fontsize=9)
        axis.set_xlabel("seconds")
    if inputs.curve:
        _draw_curve(figure.add_subplot(grid[pictures, :]), inputs.curve)
    title = f"{inputs.method}, seed {inputs.seed}, {inputs.spent_macs:.3g} multiply-adds"
    figure.suptitle(title, fontsize=10)
    return save_figure(figure, path)


def _draw_curve(axis: Any, curve: list[dict[str, float]]) -> None:
    for batch in sorted({int(record["batch"]) for record in curve}):
        records = [record for record in curve if record["batch"] == batch]
        axis.semilogy([r["step"] for r in records], [r["loss"] for r in records], label=f"batch {batch}")
    axis.set_xlabel("step")
    axis.set_ylabel("loss")
    axis.legend(fontsize=8)
