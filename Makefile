# Two ways in: `make all` draws Figure 4 from nothing, `make test` runs the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORES ?= all
# The rules call dissect-embed by its name.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: all install test lint clean

all: install
	$(BIN)/snakemake --cores $(CORES)

# torch and torchvision in one call, so that pip picks two that match.
$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet torch torchvision
	$(BIN)/pip install --quiet --editable ".[workflow]" --group test --group lint
	touch $@

install: $(VENV)/installed

# A file of tests in one process, several side by side, each with a thread of its own.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/snakefmt --check Snakefile pipelines
	$(BIN)/mypy
	$(BIN)/snakemake --lint
