# make run · make test · make test-all · make check · make ui · make bench · make docs · make wheel · make study[-fast]   (each sets up .venv on first use)
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORE := $(VENV)/.core
READY := $(VENV)/.ready
ARGS ?=
# Modules that an installer or a user's setting left uncompiled would be compiled anew by every process of a test.
export PYTHONDONTWRITEBYTECODE :=
EXTRAS ?= dev

.PHONY: run test test-all coverage check audit mutants format ui bench study study-fast docs wheel clean
.DEFAULT_GOAL := run

# Set-up runs again only when what is to be installed changes. `make run` needs the package alone, everything else the
# extra EXTRAS too. uv installs where it is there and finds every pinned version, pip otherwise; neither compiles
# modules that nobody may ever import.
define install
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "agnews-exp needs Python >= 3.11; $(PYTHON) is $$($(PYTHON) -V). Try: make PYTHON=python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing agnews-exp$(1) into $(VENV) (once; some minutes)"
	@{ command -v uv >/dev/null && uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.$(1)' 2>/dev/null; } \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt --editable '.$(1)'
	@touch $@
endef

$(CORE): pyproject.toml constraints.txt
	$(call install,)

$(READY): pyproject.toml constraints.txt
	$(call install,[$(EXTRAS)])
	@touch $(CORE)

run: $(CORE)  ## train, judge and log one classical model on whatever data can be had
	$(BIN)/python run.py experiment=quickstart $(ARGS)

test: $(READY)  ## the unit tests and the main paths: some five minutes on two cores
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow and not gpu" $(ARGS)

test-all: $(READY)  ## all other tests that need no GPU: some 20 minutes on two cores
	$(BIN)/python -m pytest -n auto --dist worksteal -m "slow and not gpu" $(ARGS)

coverage: $(READY)  ## line coverage of the fast tests, their subprocesses included
	$(BIN)/python -m pytest -n auto --dist worksteal -m "not slow and not gpu" --cov --cov-report=term:skip-covered $(ARGS)

check: $(READY)  ## format, lint, types, layer contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: $(READY)  ## known weaknesses of the pinned packages (asks a server), and bandit's look at ours
	$(BIN)/python -m pip install --quiet --disable-pip-version-check bandit pip-audit
	$(BIN)/bandit --quiet --recursive --severity-level high agnews_exp
	$(BIN)/pip-audit --requirement constraints.txt

mutants: $(READY)  ## break one module in many ways and see which the fast tests notice: make mutants ARGS='agnews_exp.evaluation.routing*'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check mutmut
	$(BIN)/mutmut run $(ARGS)
	$(BIN)/mutmut results

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

study: $(READY)  ## a whole study on AG News (AGNEWS_DATA_DIR or the hub): hours; goes on where it was interrupted
	$(BIN)/agnews study full reference=ag_news_notebooks $(ARGS)

study-fast: $(READY)  ## every stage of a study on the shipped sample, 5 to 25 minutes
	$(BIN)/agnews study fast reference=ag_news_notebooks $(ARGS)

ui: $(CORE)  ## the MLflow UI on this project's store
	$(BIN)/agnews ui $(ARGS)

bench: $(READY)  ## benchmarks against the peers; each prints a ratio
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python scripts/bench_features.py $(ARGS)

docs: $(READY)  ## the documentation site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet $(ARGS)
	@echo "open site/index.html   (or: $(BIN)/python -m mkdocs serve)"

wheel: $(READY)  ## wheel and sdist, in dist/
	$(BIN)/python -m hatchling build $(ARGS)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
