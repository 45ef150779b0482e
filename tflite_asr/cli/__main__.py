"""`python -m tflite_asr.cli` is the command `tflite-asr`."""

from tflite_asr.cli import main

main()
