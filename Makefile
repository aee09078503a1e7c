# Two commands do everything on a fresh machine; each sets up what it needs in .venv and is fast the second time.
#
#   make demo ARGS="--frames 100"    light install (no torch), then the built-in model on the synthetic camera
#   make test                        full install, then lint, types and tests
#   make model                       train the built-in model again and put it into the package
#   make bench                       the measurements of docs/measurements.md that a CPU can make
#   make kernels                     compile every GPU kernel for every architecture, and look for spills (minutes)
#   make clean                       remove what these made

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
NATIVE := $(wildcard kernels/csrc/*) CMakeLists.txt pyproject.toml constraints.txt
ARGS ?=
TESTS ?= tests

.PHONY: demo test lint types model bench kernels clean
.DEFAULT_GOAL := test

$(VENV)/light: $(NATIVE)
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the light runtime into $(VENV)"
	@$(PIP) --editable .
	@touch $@

$(VENV)/full: $(VENV)/light
	@echo "installing the exporter and the test tools into $(VENV)"
	@$(PIP) --editable ".[export,dev]"
	@touch $@

demo: $(VENV)/light
	@$(BIN)/mmedge demo $(ARGS)

lint: $(VENV)/full
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/full
	$(BIN)/mypy
	$(BIN)/mypy benchmarks examples

test: lint types
	$(BIN)/pytest $(TESTS)

model: $(VENV)/full
	$(BIN)/python -m mmedge_export.training.make_model $(ARGS)

bench: $(VENV)/full
	OPENBLAS_NUM_THREADS=1 $(BIN)/python benchmarks/frame.py
	$(BIN)/python benchmarks/staged.py
	$(BIN)/python benchmarks/clip.py
	$(BIN)/python benchmarks/prompt_forms.py
	$(BIN)/python benchmarks/precision.py

kernels: $(VENV)/full
	MMEDGE_ALL_TARGETS=1 $(BIN)/pytest tests/kernels/aot/test_spills.py

clean:
	rm -rf $(VENV) build dist
