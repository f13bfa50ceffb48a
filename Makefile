# Needs python3 >= 3.11, make and pip; everything else is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONFIG ?= examples/quickstart/gateway.yaml
# Further arguments for pytest: make test ARGS="-k drain"
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup run test check bench golden lock format packages clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/.installed ## install into .venv (hash-checked) and make the demo's models
	@$(BIN)/python -m backends.train

$(VENV)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: setup ## run the quickstart: Envoy, the three services, the demo's models
	@exec $(BIN)/isg up -c $(CONFIG)

test: setup packages ## run all tests, against the real Envoy too
	$(BIN)/python -m pytest $(ARGS)

check: setup ## lint, types, import rules, the compose file
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/repository

bench: setup packages ## measure: requests/s, latency, CPU and memory, as ratios to bare Envoy
	$(BIN)/python -m benchmarks

golden: setup ## write the golden files of the translation anew
	ISG_UPDATE_GOLDEN=1 $(BIN)/python -m pytest tests/control_plane/translate/test_golden.py

lock: $(VENV)/.installed ## resolve requirements.lock anew
	scripts/lock $(BIN)/python

format: setup ## format, and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

packages: # the programs that some tests use; without them those tests are skipped, by name
	@scripts/test-packages

clean: ## remove .venv and what was made
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	rm -f backends/models/*.npz
