# eigenseg: `make` lists what there is. Everything happens in .venv, which is made once and kept.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-gpu lint types layers wheel check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.ready ## install, then cut objects out of two real photographs without any weights
	@$(BIN)/eigenseg extract backbone=color_texture output.dir=outputs/demo output.heatmap=true resume=false \
		input=$$($(BIN)/python -c "import pathlib, sklearn.datasets; print(pathlib.Path(sklearn.datasets.__file__).parent / 'images')")

# A process per core, each with one thread: more would wait for each other.
test: $(VENV)/.ready-dev ## install with the dev extras, then run the test-suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

test-slow: $(VENV)/.ready-dev ## the tests that build or kill something
	$(BIN)/python -m pytest -m "slow and not gpu"

test-gpu: $(VENV)/.ready-dev ## the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

lint: $(VENV)/.ready-dev ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.ready-dev ## static types
	$(BIN)/mypy -p eigenseg

layers: $(VENV)/.ready-dev ## which package may import which
	$(BIN)/lint-imports

wheel: $(VENV)/.ready-dev ## build the wheel, install it elsewhere, run the console script there
	$(BIN)/python -m pytest -m slow tests/test_wheel.py

check: test lint types layers test-slow ## everything that CI runs

clean: ## remove what the targets made, .venv too
	rm -rf $(VENV) build dist outputs *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 14) else \
		f"eigenseg needs Python 3.11, 3.12 or 3.13, {sys.executable} is {v.major}.{v.minor}; try: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

# pip chooses torch and torchvision in one command, so that they fit each other.
$(VENV)/.ready: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $@ $(VENV)/.ready
