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

test: install
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/snakefmt --check Snakefile pipelines
	$(BIN)/mypy
	$(BIN)/snakemake --lint
