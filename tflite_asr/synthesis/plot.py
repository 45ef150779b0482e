"""A picture of calibration inputs: log-mels and the loss curve."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tflite_asr.errors import TfliteAsrError
from tflite_asr.synthesis.inputs import SyntheticInputs


def plot(inputs: SyntheticInputs, path: str | Path, clips: int = 6, seconds_per_frame: float = 0.01) -> Path:
    """Write a PNG, PDF or SVG: the first `clips` clips and, where inputs were refined, the loss step by step.

    Raises:
        TfliteAsrError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise TfliteAsrError("plot: matplotlib is not installed; pip install matplotlib") from error
    shown = [clip.reshape(len(clip), -1) for clip in inputs.features[:clips]]
    rows = len(shown) + bool(inputs.curve)
    figure = Figure(figsize=(10, 1.9 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.atleast_1d(figure.subplots(rows))
    for index, (axis, clip) in enumerate(zip(axes, shown, strict=False)):
        image = axis.imshow(
            clip.T, origin="lower", aspect="auto", extent=(0, len(clip) * seconds_per_frame, 0, clip.shape[1])
        )
        figure.colorbar(image, ax=axis)
        axis.set_ylabel("mel")
        axis.set_title(f"clip {index}, {'refined' if index < inputs.refined else 'prior'}", fontsize=9)
    axes[len(shown) - 1].set_xlabel("seconds")
    if inputs.curve:
        for batch in sorted({int(record["batch"]) for record in inputs.curve}):
            records = [record for record in inputs.curve if record["batch"] == batch]
            axes[-1].semilogy(
                [r["step"] for r in records], [r["loss"] for r in records], label=f"batch {batch}"
            )
        axes[-1].set_xlabel("step")
        axes[-1].set_ylabel("loss")
        axes[-1].legend(fontsize=8)
    figure.suptitle(
        f"{inputs.method}, seed {inputs.seed}, {inputs.spent_macs:.3g} multiply-adds", fontsize=10
    )
    figure.savefig(str(path))
    return Path(path)
