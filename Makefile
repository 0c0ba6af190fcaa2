# Targets are one line each; `make help` lists them.
PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help setup bench test selftest smoke check bench-harness clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

setup: $(STAMP) ## install everything into .venv (done once; the other targets call it)

$(STAMP): requirements.txt requirements/engines.txt requirements/check.txt requirements/data.txt constraints.txt
	@echo "installing into $(VENV); the first time takes some minutes"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) -r requirements.txt -r requirements/check.txt
	@touch $@

bench: $(STAMP) ## measure fbnetc_100 and keep every number in results/out.json; ARGS="..." goes to pytest
	@mkdir -p results
	@$(BIN)/python -m pytest tests_perf tests_accuracy $(if $(ARGS),,-k fbnetc_100) --benchmark-json results/out.json $(ARGS)

test: selftest smoke ## the suite's own tests, then a smoke run of the product tests

selftest: $(STAMP) ## the suite's own tests
	@$(BIN)/python -m pytest selftests -q $(ARGS)

smoke: $(STAMP) ## the smoke run of the product tests
	@$(BIN)/python -m pytest

check: $(STAMP) ## ruff (format and lint) and strict mypy
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy

bench-harness: $(STAMP) ## what the harness itself costs, printed
	@$(BIN)/python -m selftests.bench_harness

clean: ## remove environments, caches and results
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .benchmarks .cache results
