# Everything a person or CI runs. Needs Python 3.11+, git and make; the rest is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CHAOS ?= tests/chaos
DEEP ?= $(addprefix tests/,adapters benchmarks comparison integration training test_compare.py)

.PHONY: help demo test test-deep test-chaos check install bench down clean
.DEFAULT_GOAL := help

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-10s %s\n", $$1, $$2}'

$(STAMP): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or newer is needed; name one: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "error: the venv module is missing (Debian: apt-get install python3-venv)"; exit 2; }
	@echo "environment      installing $$(grep -c == constraints.txt) packages into $(VENV), about a minute and 7 GB"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $$(grep '^uv==' constraints.txt)
	@$(BIN)/uv pip install --quiet --system-certs --python $(BIN)/python --requirement constraints.txt
	@$(BIN)/uv pip install --quiet --system-certs --python $(BIN)/python --no-deps --editable .
	@touch $@

install: $(STAMP)  ## Make .venv with the pinned packages

demo: $(STAMP)  ## From nothing to a champion that answers HTTP
	@$(BIN)/tca demo

check: $(STAMP)  ## Style, types and architecture
	@$(BIN)/ruff check flows bentos tests benchmarks
	@$(BIN)/ruff format --check --quiet flows bentos tests benchmarks
	@$(BIN)/mypy
	@$(BIN)/lint-imports

# Two files at a time; the detector and the whole train want all cores, so they come one after the other.
SIDE_BY_SIDE := $(addprefix tests/,adapters benchmarks changes ci comparison dataset exporting infra promotion rollout router training) $(wildcard tests/test_*.py)

test: check  ## Checks and the whole test suite
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(SIDE_BY_SIDE)
	@$(BIN)/python -m pytest $(addprefix --ignore=,$(SIDE_BY_SIDE))

test-deep: $(STAMP)  ## Trainings killed, on two machines, from a work pool, reproduced; eight minutes
	@$(BIN)/python -m pytest -m deep $(DEEP)

test-chaos: $(STAMP)  ## Fuzz, soak and overload a real service; kill, stop and starve promotions; half an hour
	@$(BIN)/python -m pytest -m chaos -s $(CHAOS)

bench: $(STAMP)  ## Measure speed; an hour and a half on an idle machine
	@$(BIN)/python -m benchmarks.router
	@$(BIN)/python -m benchmarks.evaluator
	@$(BIN)/python -m benchmarks.decisions.offline
	@$(BIN)/python -m benchmarks.decisions.candidates
	@$(BIN)/python -m benchmarks.decisions.online
	@$(BIN)/python -m benchmarks.manifest
	@$(BIN)/python -m benchmarks.drift
	@$(BIN)/python -m benchmarks.training
	@$(BIN)/python -m benchmarks.tuning
	@$(BIN)/python -m benchmarks.serving
	@$(BIN)/python -m benchmarks.summary

down: $(STAMP)  ## Stop the local services
	@$(BIN)/tca down

clean:  ## Stop the services and remove what was made (data, artifacts, reports, local state)
	@test ! -x $(BIN)/tca || $(BIN)/tca down
	rm -rf .tca artifacts reports data
	@echo '{"version": null, "digest": null}' > champion.json
