"""tflite_asr: from a float Keras speech-recognition checkpoint to an integer-only TFLite bundle, without any data.

    import tflite_asr

    bundle = tflite_asr.export("conformer-ctc", "build/int8")
    print(tflite_asr.load("build/int8").transcribe("recording.wav").text)

Names are imported when they are first used: evaluating a bundle needs neither Keras nor TensorFlow.
"""

from __future__ import annotations

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

# The verb and its room share a name: importing both here leaves the name to the verb.
from tflite_asr.audit import AuditReport, audit

if TYPE_CHECKING:
    from tflite_asr.bundle import Bundle
    from tflite_asr.errors import Finding, TfliteAsrError
    from tflite_asr.facts import ModelFacts
    from tflite_asr.frontend import FrontEnd
    from tflite_asr.measure.bench import Benchmark, bench
    from tflite_asr.measure.evaluate import evaluate
    from tflite_asr.measure.evaluation import Evaluation
    from tflite_asr.nemo import Imported, import_nemo
    from tflite_asr.pipeline import export, shipped_models, slim_checkpoint
    from tflite_asr.runtime.transcriber import Transcriber
    from tflite_asr.studies.slim import SlimStudy, slim_study
    from tflite_asr.synthesis.representative import representative_dataset
    from tflite_asr.synthesis.synthesize import synthesize
    from tflite_asr.tokens import Tokens

_HOMES = {
    "Benchmark": "measure.bench",
    "Bundle": "bundle",
    "Evaluation": "measure.evaluation",
    "Finding": "errors",
    "FrontEnd": "frontend",
    "Imported": "nemo",
    "ModelFacts": "facts",
    "SlimStudy": "studies.slim",
    "TfliteAsrError": "errors",
    "Tokens": "tokens",
    "Transcriber": "runtime.transcriber",
    "bench": "measure.bench",
    "evaluate": "measure.evaluate",
    "export": "pipeline",
    "import_nemo": "nemo",
    "representative_dataset": "synthesis.representative",
    "shipped_models": "pipeline",
    "slim_checkpoint": "pipeline",
    "slim_study": "studies.slim",
    "synthesize": "synthesis.synthesize",
}
__all__ = [
    "AuditReport",
    "Benchmark",
    "Bundle",
    "Evaluation",
    "Finding",
    "FrontEnd",
    "Imported",
    "ModelFacts",
    "SlimStudy",
    "TfliteAsrError",
    "Tokens",
    "Transcriber",
    "audit",
    "bench",
    "evaluate",
    "export",
    "import_nemo",
    "load",
    "representative_dataset",
    "shipped_models",
    "slim_checkpoint",
    "slim_study",
    "synthesize",
]


def load(
    bundle: Any,
    runtime: str = "litert",
    delegate: str | None = None,
    threads: int = 1,
    decoder: str | None = None,
    beam: int = 1,
) -> Transcriber:
    """A bundle, checked and ready to transcribe: `tflite_asr.load(folder).transcribe("recording.wav").text`.

    Args:
        bundle: a bundle's folder, or a `Bundle`.
        runtime: "litert" or "tflite-runtime".
        delegate: "xnnpack", "builtin" or "reference"; None for the one that the bundle names.
        threads: of the interpreter.
        decoder: "attention", "ctc" or "joint"; None for attention where the bundle has it.
        beam: hypotheses that attention keeps, 1 (greedy) to 8.

    Raises:
        TfliteAsrError: a feature-only bundle, or no runtime installed.
        Finding: a broken bundle.
    """
    from tflite_asr.runtime.spelling import wanted_spelling
    from tflite_asr.runtime.transcriber import Transcriber

    return Transcriber(bundle, runtime, delegate, threads, wanted_spelling(decoder, beam))


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"tflite_asr.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    if name == "__version__":
        return metadata.version("tflite-asr")
    raise AttributeError(f"module 'tflite_asr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
