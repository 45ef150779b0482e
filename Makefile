# make demo and make test set up the environment by themselves, in .venv; a repeated set-up costs nothing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/set-up
# In CI nothing is rewritten: a file that the formatter would change is an error.
FORMAT := $(if $(CI),--check,)
PIP_INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
PYTEST := $(BIN)/python -m pytest -q

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow old-runtime check peers clean

help:
	@echo "make setup      the environment, in .venv (Python 3.11 or newer)"
	@echo "make demo       export, audit and evaluate the shipped checkpoint: float, dynamic, int8, int8 minus one block"
	@echo "make test       fast tests"
	@echo "make test-slow  tests that need real data, the built wheel or minutes"
	@echo "make old-runtime  bundles on tflite-runtime 2.14, in an environment of its own (part of test-slow)"
	@echo "make check      format, lint, types, imports between rooms"
	@echo "make peers      the shipped checkpoint beside other converters and runtimes (installs ONNX Runtime too)"
	@echo "make clean      remove what the others made, .venv excepted"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) setuptools wheel
	$(PIP_INSTALL) --no-build-isolation --editable '.[export,qat,train,dev]'
	@touch $@

demo: setup
	$(BIN)/tflite-asr demo --out build/demo

test: setup
	$(PYTEST) -m "not slow" -n 2 --dist loadfile

test-slow: setup
	$(PYTEST) -m slow --durations 10

old-runtime: setup
	$(PYTEST) -m slow tests/test_old_runtime.py

check: setup
	$(BIN)/ruff format $(FORMAT) .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

peers: $(VENV)/set-up-peers
	$(BIN)/python -m benchmarks.peers conformer-ctc -m tflite_asr/pretrained/demo/demo.jsonl --json build/peers/peers.json

$(VENV)/set-up-peers: $(STAMP)
	$(PIP_INSTALL) --no-build-isolation --editable '.[peers]'
	@touch $@

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
