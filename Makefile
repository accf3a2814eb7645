# Two commands: `make demo` and `make test`. Both set up `.venv` first: the demo from requirements-demo.lock (what
# runs, with its query process), the tests from requirements-dev.lock (that, and what checks it).
# Another interpreter: make setup PYTHON=/path/to/python3.12

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo test test-browser test-bench test-mutants interpreters autobahn lint types imports format lock wheels sim bench clean

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
STAMP_DEV := $(VENV)/.installed-dev
PYTHON ?= $(shell python3.11 -c '' 2>/dev/null && echo python3.11 || echo python3)
SDK := $(wildcard clients/python/pyproject.toml)
ARGS ?=
JOBS ?= auto
SEEDS ?= 20
COMPILE = $(BIN)/pip-compile --generate-hashes --reuse-hashes --allow-unsafe --strip-extras --all-build-deps --no-header \
  --no-emit-index-url --no-emit-find-links --annotation-style line --quiet $(if $(UPGRADE),--upgrade)

help: ## What there is to make
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

setup: $(STAMP) ## Make .venv with what runs, from requirements-demo.lock

setup-dev: $(STAMP_DEV) ## Make .venv with what runs and what checks it, from requirements-dev.lock

$(STAMP): requirements-demo.lock pyproject.toml $(SDK)
	@PYTHON='$(PYTHON)' VENV='$(VENV)' bash .ci/setup requirements-demo.lock
	@touch $@

# The larger set holds the smaller one, at the same versions.
$(STAMP_DEV): requirements-dev.lock pyproject.toml $(SDK)
	@PYTHON='$(PYTHON)' VENV='$(VENV)' bash .ci/setup requirements-dev.lock
	@touch $(STAMP) $@

demo: setup ## Three nodes on loopback with a few hundred bot players (ARGS="--seconds 60 --fresh")
	@exec $(BIN)/garrison demo $(ARGS)

# Its programs start hundreds of times: their bytecode is kept, whatever the shell says.
test: setup-dev ## Every test but those in a browser, short benchmarks and mutants, on JOBS processes (ARGS="-k name")
	@exec env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n $(JOBS) --dist load -m "not browser and not bench and not mutants" $(ARGS)

test-browser: setup-dev ## The tests of the dashboard, in Chromium
	@exec $(BIN)/python -m pytest -m browser $(ARGS)

test-bench: setup-dev ## Every benchmark in short, for that it works
	@exec $(BIN)/python -m pytest -m bench $(ARGS)

test-mutants: setup-dev ## The rules of ownership and presence taken out one by one: the simulation finds each
	@exec env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n $(JOBS) --dist load -m mutants $(ARGS)

interpreters: ## Unit tests under each other version of Python that is here, 3.12 to 3.14
	@exec bash .ci/interpreters

autobahn: setup-dev ## Autobahn's WebSocket cases against the gateway's driver (needs a Python 2.7)
	@exec bash .ci/autobahn $(ARGS)

lint: setup-dev ## Style
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: setup-dev ## Types
	@$(BIN)/mypy

imports: setup-dev ## Which way imports run
	@$(BIN)/lint-imports

format: setup-dev ## Format and fix what ruff can
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

sim: setup-dev ## The simulated cluster on SEEDS seeds (SEEDS=20)
	@exec $(BIN)/python -m tests.sim.sweep --seeds $(SEEDS) $(ARGS)

bench: setup ## Every benchmark, one JSON line each
	@exec $(BIN)/garrison bench all --json $(ARGS)

lock: setup-dev ## Make the locks again from pyproject.toml (UPGRADE=1 for newer versions)
	@$(COMPILE) --output-file requirements.lock pyproject.toml
	@$(COMPILE) --extra query --constraint requirements.lock --output-file requirements-demo.lock pyproject.toml
	@$(COMPILE) --all-extras --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml

wheels: setup-dev ## Both wheels into dist/
	@rm -rf dist && $(BIN)/python -m build --wheel --no-isolation --outdir dist . \
	  && $(BIN)/python -m build --wheel --no-isolation --outdir dist clients/python

clean: ## Remove what was built, not .garrison
	@rm -rf $(VENV) .autobahn dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
