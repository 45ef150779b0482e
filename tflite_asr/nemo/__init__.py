"""NeMo's `.nemo` archives read without NeMo or PyTorch: nothing in one is executed, nothing is written to disk."""

from tflite_asr.nemo.checkpoint import Imported, import_nemo

__all__ = ["Imported", "import_nemo"]
