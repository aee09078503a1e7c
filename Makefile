# Two commands do everything on a fresh machine; each sets up what it needs in .venv and is fast the second time.
#
#   make demo ARGS="--frames 100"    light install (no torch), then the built-in model on the synthetic camera
#   make test                        full install, then lint, types and tests
#   make model                       train the built-in model again and put it into the package
#   make bench                       the measurements of docs/measurements.md that a CPU can make
#   make home-assistant              Home Assistant's validators of MQTT messages, which `make test` uses
#   make kernels                     compile every GPU kernel for every architecture, and look for spills (minutes)
#   make clean                       remove what these made

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
NATIVE := $(wildcard kernels/csrc/*) CMakeLists.txt pyproject.toml constraints.txt
ARGS ?=
TESTS ?= tests

.PHONY: demo test home-assistant lint types model bench kernels clean
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

# Home Assistant's own validators, apart from everything else: its pinned requirements are nobody else's. Where they cannot
# be installed, the tests that use them are skipped and say so.
$(VENV)/home-assistant/ready: tests/mmedge/sinks/mqtt/home-assistant.txt $(VENV)/full
	@echo "installing Home Assistant's validators into $(VENV)/home-assistant"
	@$(BIN)/python -m venv $(VENV)/home-assistant
	@$(VENV)/home-assistant/bin/pip install --quiet --disable-pip-version-check --no-deps --no-compile -r $< && touch $@ || \
		{ rm -rf $(VENV)/home-assistant; echo "they cannot be installed here: the tests that use them are skipped"; }

home-assistant: $(VENV)/home-assistant/ready

demo: $(VENV)/light
	@$(BIN)/mmedge demo $(ARGS)

lint: $(VENV)/full
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/full
	$(BIN)/mypy
	$(BIN)/mypy benchmarks examples

test: lint types home-assistant
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
	MMEDGE_ALL_TARGETS=1 $(BIN)/pytest tests/kernels/aot/test_spills.py tests/kernels/test_jit_launches.py

clean:
	rm -rf $(VENV) build dist
