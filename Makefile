# Needs make and Python 3.11 or newer; everything else is installed into .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: help demo test check lint types unit bench accuracy docs reference clean

help:
	@echo "make demo   install gpusim into $(VENV), run the study and one chat run"
	@echo "make test   everything that CI checks: lint, format, types, tests"
	@echo "make bench  speed and memory of whole runs (minutes); QUICK=1: short runs only; JSON=FILE: all figures"
	@echo "make accuracy  docs/accuracy.md, serving-accuracy.md and step-parts.md anew from measurements in DATA=FOLDER (default"
	@echo "            ../shared/data); FIT=FILE: also what gpusim calibrate --engine vllm FOLDER/serving --json printed"
	@echo "make docs   the documentation as a site, in site/; warnings are errors"
	@echo "make reference  docs/reference anew from the code"
	@echo "make clean  remove $(VENV), site and caches"
	@echo "PYTHON=python3.12 chooses the interpreter."

demo: $(INSTALLED)
	$(BIN)/gpusim sweep mha-vs-mqa
	$(BIN)/gpusim run chat

# What CI runs.
check: test

test: lint types unit

lint: $(INSTALLED_DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED_DEV)
	$(BIN)/mypy

unit: $(INSTALLED_DEV)
	$(BIN)/pytest -n 2 --dist worksteal

# What it measures: docs/performance.md.
bench: $(INSTALLED)
	$(BIN)/python benchmarks/speed.py $(if $(QUICK),--quick) $(if $(JSON),--json $(JSON))

# Errors of every law and of serving runs against measurements, which are not part of the repository.
DATA ?= ../shared/data
accuracy: $(INSTALLED_DEV)
	$(BIN)/python benchmarks/accuracy.py $(DATA)/silicon --out docs/accuracy.md
	$(BIN)/python benchmarks/serving_accuracy.py $(DATA)/serving --out docs/serving-accuracy.md $(if $(FIT),--fit $(FIT))
	$(BIN)/python benchmarks/step_parts.py $(DATA)/serving --out docs/step-parts.md

docs: $(INSTALLED_DEV)
	$(BIN)/mkdocs build --strict --quiet

reference: $(INSTALLED_DEV)
	$(BIN)/python docs/generate.py

# The stamps make a second call install nothing, unless pyproject.toml has changed.
$(INSTALLED): pyproject.toml | $(BIN)/python
	@echo "installing gpusim into $(VENV)"
	@$(PIP) install --editable '.[report]'
	@touch $@

$(INSTALLED_DEV): pyproject.toml | $(BIN)/python
	@echo "installing gpusim and its tools into $(VENV)"
	@$(PIP) install --editable '.[dev]'
	@touch $(INSTALLED) $@

$(BIN)/python:
	@command -v $(PYTHON) > /dev/null || { echo "$(PYTHON) not found: gpusim needs Python 3.11 or newer; choose one with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and "gpusim needs Python 3.11 or newer, $(PYTHON) is %d.%d; choose another with make PYTHON=..." % v[:2])'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "$(PYTHON) cannot make a virtual environment; on Debian and Ubuntu install python3-venv" >&2; exit 1; }

clean:
	rm -rf $(VENV) site .hypothesis .mypy_cache .pytest_cache .ruff_cache
