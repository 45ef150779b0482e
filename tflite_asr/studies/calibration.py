"""Calibration without data beside calibration on data: noise, the published recipe, ours, ours pulled toward labels,
and real speech.

Every arm runs under every calibrator with every seed, and is judged on the same speech against the same float model:
WER by paired bootstrap, SNR and agreement of the logits, bytes, ranges and, tensor by tensor, a walk. Real speech
calibrates one arm and is never evaluated on.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import tflite_asr
from tflite_asr.audit import audit
from tflite_asr.errors import TfliteAsrError
from tflite_asr.facts import ModelFacts
from tflite_asr.pipeline import Progress, facts_of, model_path, span
from tflite_asr.pipeline.preparation import check_budget
from tflite_asr.quantize.calibrators import CALIBRATOR_NAMES, CALIBRATORS
from tflite_asr.quantize.child import run_in_child
from tflite_asr.staging import plain_errors
from tflite_asr.studies import findings, floats
from tflite_asr.studies.arms import Order, hear, run_arm
from tflite_asr.studies.outcome import Outcome
from tflite_asr.studies.speech import MOST_CLIPS, Speech, divide

PUBLISHED, LABELS = "synthetic:published", "synthetic:labels"
ARMS = ("noise", PUBLISHED, findings.SYNTHETIC, LABELS, findings.REAL)
FITS_SOME = (PUBLISHED, LABELS)  # models without batch norm, or without CTC logits, do without one of these
# What shapes a result: a change in any of these makes kept results stale.
_SOURCES = (
    "audio.py audit.py decoding frontend lowering measure models pipeline quantize runtime synthesis "
    "studies/arms.py studies/floats.py studies/outcome.py studies/speech.py"
)
_PACKAGES = ("tensorflow", "keras", "ai-edge-litert", "ai-edge-quantizer", "numpy")


@dataclass(frozen=True)
class Comparison:
    """A whole study.

    Attributes:
        model: its name.
        rows: float32, dynamic, then arms by calibrator (`findings.summarise`).
        overlaps: rows of `findings.overlap`, with arm and calibrator.
        worst: rows of arm, calibrator, seed and `findings.worst_tensors`.
        walks: `tensors`, the names in the order of execution, and `rows` of arm, calibrator, seed and SNR by corpus.
        losses: of `findings.losses`, synthetic against real, the published recipe, noise and labels.
        notes: what a reader must know: where the calibration speech comes from, arms left out.
        settings: seeds, budgets, utterances and words of each corpus.
        outcomes: everything that the rows are made of.
    """

    model: str
    rows: list[dict[str, Any]]
    overlaps: list[dict[str, Any]]
    worst: list[dict[str, Any]]
    walks: dict[str, Any]
    losses: list[dict[str, Any]]
    notes: list[str]
    settings: dict[str, Any]
    outcomes: list[Outcome]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the outcomes."""
        values = {name: value for name, value in vars(self).items() if name != "outcomes"}
        sentences = [findings.sentence(one) for one in self.losses]
        return {**values, "verdicts": findings.where_it_loses(self.losses) + sentences}


def compare(
    model: str | Path,
    manifests: str | Path | Sequence[str | Path],
    *,
    calibrate_on: str | Path | None = None,
    arms: Sequence[str] = ARMS,
    calibrators: Sequence[str] = (),
    seeds: int = 5,
    budget_macs: float | None = None,
    published_budget_macs: float | None = None,
    limit: int | None = None,
    work: str | Path = "build/calibration",
    jobs: int = 1,
    split_seed: int = 0,
    progress: Progress | None = None,
) -> Comparison:
    """Calibrate in every way, and measure each on real speech.

    Args:
        model: a `.keras` file with its `.toml`, a float `.tflite` with one, or the name of a shipped checkpoint.
        manifests: evaluated, each a corpus.
        calibrate_on: manifest of the real arm (48 clips drawn by each seed); None: clips set aside from `manifests`.
        arms: of `ARMS`.
        calibrators: of `CALIBRATOR_NAMES`; none for all but "auto", which is one of the others.
        seeds: how many; 0, 1, ...
        budget_macs, published_budget_macs: multiply-adds that synthesis may spend, ours (toward labels too) and the
            published recipe; None for its default.
        limit: of each manifest, its first utterances only.
        work: folder that keeps what is done; a study that was interrupted goes on from there.
        jobs: arms at a time, each in a process of its own.
        split_seed: of the draw of what is set aside.
        progress: called with (stage, fraction done).

    Raises:
        TfliteAsrError: wrong input, or a step that failed; what is complete is kept.
    """
    names = tuple(dict.fromkeys(calibrators)) or tuple(CALIBRATORS)
    _check(arms, names, seeds, jobs)
    for budget in (budget_macs, published_budget_macs):
        check_budget(split_seed, budget)
    path = model_path(model)
    facts = facts_of(path)
    if facts is None or facts.frontend is None or facts.tokens is None:
        raise TfliteAsrError(f"{path}: speech needs a front end and tokens; write them into its .toml")
    paths = [manifests] if isinstance(manifests, (str, Path)) else list(manifests)
    digest = _digest(path)
    folder = Path(work) / f"{path.stem}-{digest}"
    speech = divide(
        paths,
        calibrate_on,
        folder,
        tokens=facts.tokens,
        limit=limit,
        seed=split_seed,
        real=findings.REAL in arms,
    )
    with plain_errors(Path(work)):  # after the manifests were found good
        folder.mkdir(parents=True, exist_ok=True)
    study = _Study(path, facts, folder, speech, names, jobs)
    base, dynamic = study.float_side(span(progress, 0.0, 0.1))
    budgets = {PUBLISHED: published_budget_macs, findings.SYNTHETIC: budget_macs, LABELS: budget_macs}
    outcomes = study.run([one for one in ARMS if one in arms], seeds, budgets, span(progress, 0.1, 1.0))
    settings = {
        "model": str(path),
        "model_sha256": digest,
        "manifests": [str(one) for one in paths],
        "calibrate_on": str(calibrate_on) if calibrate_on else None,
        "limit": limit,
        "calibrators": list(names),
        "versions": {name: metadata.version(name) for name in ("tflite-asr", "ai-edge-quantizer")},
        "seeds": seeds,
        "budget_macs": {arm: value for arm, value in budgets.items() if value is not None and arm in arms},
        "corpora": {
            corpus: {"utterances": len(some), "words": sum(len(one.text.split()) for one in some)}
            for corpus, some in speech.corpora.items()
        },
        "work": str(folder),
    }
    return conclude(facts.name, base, dynamic, outcomes, study.notes, settings)


class _Study:
    """One model on one set of speech, and the folder that keeps what is done."""

    def __init__(
        self,
        path: Path,
        facts: ModelFacts,
        folder: Path,
        speech: Speech,
        calibrators: Sequence[str],
        jobs: int,
    ) -> None:
        self.path, self.facts, self.folder, self.speech = path, facts, folder, speech
        self.calibrators, self.jobs = calibrators, jobs
        self.notes = [speech.note]
        self.logits = folder / f"logits-{speech.sha256[:12]}.npz"

    def float_side(self, progress: Progress | None) -> tuple[Outcome, Outcome]:
        """float32 and dynamic, heard."""
        floats.make(self.path, self.facts, self.folder, span(progress, 0.0, 0.6))
        bundle = self.folder / floats.FLOAT
        floats.logits_of(bundle, self.speech.utterances, self.logits, span(progress, 0.6, 0.8))
        one = self._plain(floats.FLOAT, None)
        other = self._plain(
            floats.DYNAMIC, floats.read_logits(self.logits, self.speech.utterances), span(progress, 0.8, 1.0)
        )
        return one, other

    def _plain(self, scheme: str, logits: Any, progress: Progress | None = None) -> Outcome:
        kept = self._place(scheme, "", 0, None)
        if not kept.is_file():
            bundle = tflite_asr.Bundle.load(self.folder / scheme)

            def tell(done: float) -> None:
                if progress:
                    progress(scheme, done)

            corpora = hear(bundle, self.speech.utterances, logits, tell)
            proof = audit(bundle.model_path, load=False)
            sha256 = bundle.info.files["model.tflite"]["sha256"]
            Outcome(scheme, "", 0, proof.size_bytes, sha256, proof.integer_only, corpora).write(kept)
        return Outcome.read(kept)

    def run(
        self,
        arms: Sequence[str],
        seeds: int,
        budgets: dict[str, float | None],
        progress: Progress | None,
    ) -> list[Outcome]:
        """Every arm with every seed under every calibrator; what lies in the folder is not done again."""
        kept: dict[str, list[Path]] = {}
        orders = []
        for arm in arms:
            alike = arm == findings.REAL and self.speech.calibration_clips <= MOST_CLIPS
            if alike and seeds > 1:
                self.notes.append("real: one seed, since every draw takes all clips")
            for seed in range(1 if alike else seeds):
                places = {name: self._place(arm, name, seed, budgets.get(arm)) for name in self.calibrators}
                kept.setdefault(arm, []).extend(places.values())
                if wanted := {name: place for name, place in places.items() if not place.is_file()}:
                    orders.append(self._order(arm, seed, budgets.get(arm), wanted))
        failed = self._work(orders, progress)
        found = []
        for arm, some in kept.items():
            if arm in failed:
                self.notes.append(f"{arm}: left out ({failed[arm]})")
            else:
                found += [Outcome.read(one) for one in some]
        return found

    def _work(self, orders: Sequence[Order], progress: Progress | None) -> dict[str, str]:
        """Carry out the orders. Returns arm to why it cannot be, for those that do not fit every model."""
        done = [0.0] * len(orders)
        failed: dict[str, str] = {}
        stopped = threading.Event()

        def carry_out(number: int) -> None:
            order = orders[number]
            if order.arm in failed:
                return

            def tell(stage: str, fraction: float) -> None:
                if stopped.is_set():
                    raise TfliteAsrError("stopped")
                done[number] = fraction
                if progress:
                    progress(stage, sum(done) / len(done))

            try:
                run_in_child(run_arm, order, stage=f"{order.arm}, seed {order.seed}", progress=tell)
            except TfliteAsrError as error:
                if order.arm not in FITS_SOME:
                    raise
                failed[order.arm] = str(error)

        if self.jobs == 1:
            for number in range(len(orders)):
                carry_out(number)
            return failed
        with ThreadPoolExecutor(self.jobs) as pool:
            try:
                for future in [pool.submit(carry_out, number) for number in range(len(orders))]:
                    future.result()
            except BaseException:
                stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return failed

    def _order(self, arm: str, seed: int, budget: float | None, wanted: dict[str, Path]) -> Order:
        manifest = self.speech.calibration
        return Order(
            model=self.path,
            facts=self.facts,
            arm=arm,
            calibration=str(manifest) if arm == findings.REAL else arm,
            seed=seed,
            budget_macs=budget,
            base=self.folder,
            utterances=self.speech.utterances,
            logits=self.logits,
            wanted=wanted,
            walked=seed == 0,
        )

    def _place(self, arm: str, calibrator: str, seed: int, budget: float | None) -> Path:
        """The file that keeps a result, by all that it depends on beside the model."""
        settings: list[Any] = [self.speech.sha256, arm, calibrator, seed, budget]
        if arm == findings.REAL and self.speech.calibration is not None:
            settings.append(self.speech.calibration.read_bytes())
        digest = hashlib.sha256(repr(settings).encode()).hexdigest()[:12]
        label = "-".join(part for part in (arm.replace(":", "-"), calibrator, f"seed{seed}") if part)
        return self.folder / f"{label}-{digest}.json"


def _check(arms: Sequence[str], calibrators: Sequence[str], seeds: int, jobs: int) -> None:
    for kind, some, known in (("arm", arms, ARMS), ("calibrator", calibrators, CALIBRATOR_NAMES)):
        for one in some:
            if one not in known:
                raise TfliteAsrError(f"{kind} {one!r}: unknown; the known ones are {', '.join(known)}")
    for name, number in (("seeds", seeds), ("jobs", jobs)):
        if number < 1:
            raise TfliteAsrError(f"{name} is {number}; give 1 or more")
    if not arms:
        raise TfliteAsrError(f"no arm to compare; give some of {', '.join(ARMS)}")


def _digest(path: Path) -> str:
    """Of the model, its facts, the package's code and what it is made with."""
    found = hashlib.sha256(path.read_bytes())
    beside = ModelFacts.path_for(path)
    found.update(beside.read_bytes() if beside.is_file() else b"")
    home = Path(tflite_asr.__file__).parent
    for room in _SOURCES.split():
        for source in sorted((home / room).rglob("*.py")) or [home / room]:
            found.update(source.read_bytes())
    found.update(repr([metadata.version(package) for package in _PACKAGES]).encode())
    return found.hexdigest()[:12]


def conclude(
    model: str,
    base: Outcome,
    dynamic: Outcome,
    outcomes: Sequence[Outcome],
    notes: list[str],
    settings: dict[str, Any],
) -> Comparison:
    """The study that some outcomes make; base: float32."""
    rows = [findings.summarise([one], base, []) for one in (base, dynamic)]
    overlaps, worst, lost = [], [], []
    walks: dict[str, Any] = {"tensors": [], "rows": []}
    for name in dict.fromkeys(one.calibrator for one in outcomes):
        by_arm = {arm: [one for one in outcomes if (one.arm, one.calibrator) == (arm, name)] for arm in ARMS}
        real, ours = by_arm[findings.REAL], by_arm[findings.SYNTHETIC]
        for arm, runs in by_arm.items():
            if not runs:
                continue
            rows.append(findings.summarise(runs, base, [] if arm == findings.REAL else real))
            labels: dict[str, Any] = {"arm": arm, "calibrator": name}
            if (found := findings.overlap(runs, real))["tensors"]:
                overlaps.append(labels | found)
            if walked := runs[0].walked:
                labels |= {"seed": runs[0].seed}
                worst.append(labels | {"tensors": findings.worst_tensors(walked)})
                walks["tensors"] = [one.name for one in next(iter(walked.values()))]
                along = {corpus: [round(one.snr_db, 2) for one in some] for corpus, some in walked.items()}
                walks["rows"].append(labels | {"snr_db": along})
        for others in (real, by_arm[PUBLISHED], by_arm["noise"], by_arm[LABELS]):
            if ours and others:
                lost += findings.losses(ours, others)
    return Comparison(model, rows, overlaps, worst, walks, lost, notes, settings, [base, dynamic, *outcomes])
