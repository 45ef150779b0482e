"""The same bundle on several runtimes and delegates: kernels round differently, and here is by how much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tflite_asr.bundle import Bundle
from tflite_asr.measure.evaluate import Progress, ReferenceLogits, evaluate
from tflite_asr.measure.evaluation import Evaluation


@dataclass(frozen=True)
class KernelSpread:
    """How far apart several kernels' runs lie.

    Attributes:
        evaluations: one for each (runtime, delegate, threads), in the order asked for.
        wer_range, cer_range: lowest and highest, fractions.
        snr_range: of the logits against float, dB; None without float logits.
        differing: share of utterances on which not all kernels give the same text.
    """

    evaluations: tuple[Evaluation, ...]
    wer_range: tuple[float, float]
    cer_range: tuple[float, float]
    snr_range: tuple[float, float] | None
    differing: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, beside the evaluations' own."""
        return {
            "kernels": [[e.runtime, e.delegate, e.threads] for e in self.evaluations],
            "wer_range": list(self.wer_range),
            "cer_range": list(self.cer_range),
            "snr_range_db": list(self.snr_range) if self.snr_range else None,
            "differing_transcripts": self.differing,
        }


def evaluate_kernels(
    bundle: Bundle | str | Path,
    manifests: str | Path | Sequence[str | Path],
    kernels: Sequence[tuple[str, str, int]],
    *,
    reference: ReferenceLogits | None = None,
    limit: int | None = None,
    seed: int = 0,
    measure_footprint: bool = True,
    progress: Progress | None = None,
) -> KernelSpread:
    """Evaluate on each (runtime, delegate, threads) of `kernels`; arguments and errors as `evaluate`'s."""
    runs = []
    for index, (runtime, delegate, threads) in enumerate(kernels):

        def step(done: int, total: int, index: int = index) -> None:
            if progress:
                progress(index * total + done, len(kernels) * total)

        runs.append(
            evaluate(
                bundle,
                manifests,
                runtime=runtime,
                delegate=delegate,
                threads=threads,
                reference=reference,
                limit=limit,
                seed=seed,
                measure_footprint=measure_footprint,
                progress=step,
            )
        )
    texts = zip(*([r.pred_text for r in run.results] for run in runs), strict=True)
    snrs = [run.pooled.snr_db for run in runs if run.pooled.snr_db is not None]
    return KernelSpread(
        evaluations=tuple(runs),
        wer_range=_range([run.pooled.wer for run in runs]),
        cer_range=_range([run.pooled.cer for run in runs]),
        snr_range=_range(snrs) if snrs else None,
        differing=float(np.mean([len(set(row)) > 1 for row in texts])),
    )


def _range(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)
