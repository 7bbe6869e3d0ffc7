# `make demo` and `make test` are the two commands for a new user; everything they need comes with pip.

VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.run-is-ready
DEMO := $(VENV)/.demo-is-ready
DEV := $(VENV)/.dev-is-ready
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq
CLASSES := build/kcl.jsa
KINESIS_LOCAL := tests/contract/kinesis_local
PYTEST := $(BIN)/python -m pytest
# Tests begin in the order of tests/support/order.py.
POOL := --dist loadgroup --no-loadscope-reorder
WORKERS ?= 2
# Tests with real workers wait most of their time, and others compute meanwhile: three processes for each of two cores.
TEST_WORKERS ?= 6
SEEDS ?= 10000

# Tests start hundreds of processes; one that may not keep what it has compiled takes half as long again to start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo test test-fast chaos soak bench bench-gpu bench-more check format docs figures lock clean kinesis-local

help:  ## What there is to make
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

install: $(RUN)  ## Set up .venv with what a consumer needs, Java included

demo: $(DEMO)  ## Enrich 2,000 docstrings with a real model, on this machine alone (options: ARGS="--records 500")
	@$(BIN)/penstock demo $(ARGS)

test: $(DEV) $(CLASSES) kinesis-local  ## Every test, those with the real KCL and the real model included
	$(PYTEST) tests/speed
	$(PYTEST) $(POOL) -n $(TEST_WORKERS) --ignore tests/speed

test-fast: $(DEV)  ## The tests that need neither a JVM nor a model nor a server
	$(PYTEST) $(POOL) -n $(WORKERS) tests/unit tests/property tests/cli tests/docs

chaos: $(DEV)  ## Ten minutes of everything that can go wrong, on real workers (options: ARGS="--minutes 2 --seed 7")
	$(BIN)/python -m tests.chaos $(ARGS)

soak: $(DEV)  ## Leave in mid-batch; the largest aggregates; kill and replace workers; 10,000 seeds of the simulations
	$(BIN)/python -m tests.soak $(ARGS)
	$(BIN)/python -m tests.soak.giants
	rm -f build/deaths.jsonl
	for run in 1 2 3; do PENSTOCK_FIGURES=build/deaths.jsonl \
	    $(PYTEST) -n $(WORKERS) tests/e2e/test_takeover.py tests/e2e/test_rolling_restart.py || exit 1; done
	PENSTOCK_SEEDS=$(SEEDS) $(PYTEST) -n $(WORKERS) --timeout 0 tests/simulation

bench-gpu: $(DEV)  ## The 1 GB reference in bfloat16 on this machine's GPU: efficiency, batch curve, records/s
	@$(BIN)/python -m benchmarks.gpu

bench: $(DEV)  ## About 22 minutes: what a task delivers, beside the bare model and beside stock amazon_kclpy
	$(BIN)/python -m benchmarks $(ARGS)

bench-more: $(DEV)  ## Half an hour: what explains the figures of make bench, and has no bar
	$(BIN)/python -m benchmarks --more --out build/more $(ARGS)

check: $(DEV)  ## Lint, formatting, types, who may import whom, and known vulnerabilities of what is locked
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	@$(BIN)/python .ci/audit

format: $(DEV)  ## Format, and mend what ruff can mend by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

figures: $(DEV)  ## Put what make chaos, make soak and make bench measured last into the documents
	for file in chaos.json soak.json giants.json deaths.jsonl bench.json beside.json task.json; do \
	    if [ -f build/$$file ]; then cp build/$$file docs/figures/; fi; done
	if [ -f build/more/bench.json ]; then cp build/more/bench.json docs/figures/more.json; fi
	$(BIN)/python -m tests.docs.rendered

docs: $(DEV)  ## Render what the documents take from the code: help texts, settings, metrics
	$(BIN)/python -m tests.docs.rendered

lock: $(DEV)  ## Write the locks anew from setup.cfg
	.ci/lock

clean:  ## Remove all that was made here, .venv included
	rm -rf $(VENV) build dist out penstock-demo *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	rm -rf $(KINESIS_LOCAL)/node_modules
	find consumer pipeline examples tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The locks are complete, so nothing is resolved; that is quicker, and every machine gets the same.
$(RUN): requirements-build.lock requirements.lock setup.cfg pyproject.toml | $(BIN)/python
	@echo "Setting up $(VENV): a few minutes, once."
	@$(PIP) --no-deps -r requirements-build.lock
	@$(PIP) --no-deps -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

# Which build of torch it is depends on where pip looks. PyPI's build for Linux needs CUDA, other builds do not.
$(DEMO): requirements-torch-deps.lock requirements-torch.lock requirements-torch-cuda.lock requirements-demo.lock $(RUN)
	@$(PIP) --no-deps -r requirements-torch-deps.lock
	@$(PIP) --no-deps -r requirements-torch.lock
	@if $(BIN)/python -m pip check | grep -q '^torch .* requires nvidia-'; then \
	    $(PIP) --no-deps -r requirements-torch-cuda.lock; \
	fi
	@$(PIP) --no-deps -r requirements-demo.lock
	@touch $@

$(DEV): requirements-dev.lock $(DEMO)
	@$(PIP) --no-deps -r requirements-dev.lock
	@touch $@

# Ask every Python there may be for what is needed, and take the first that has it.
$(BIN)/python:
	@for python in $(PYTHON) python3.11 python3.12 python3.13 python3.14 python3; do \
	    if $$python -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        exec $$python -m venv $(VENV); \
	    fi; \
	done; \
	echo "Penstock needs Python 3.11 or newer with its venv module; found: $$(python3 --version 2>&1)." >&2; \
	echo "Install it (Debian, Ubuntu: python3.11 python3.11-venv), or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; \
	exit 2

# A JVM of the end-to-end tests starts in half the processor's time with it.
$(CLASSES): $(DEV) consumer/kcl/classes/penstock-kcl.jar
	@$(BIN)/python -m tests.support.class_archive $@

# The second opinion on Kinesis, for the contract tests; where there is no npm they do without.
kinesis-local:
	@if command -v npm >/dev/null && [ -f $(KINESIS_LOCAL)/package-lock.json ] \
	    && ! [ $(KINESIS_LOCAL)/node_modules/.package-lock.json -nt $(KINESIS_LOCAL)/package-lock.json ]; then \
	    npm ci --silent --no-audit --no-fund --prefix $(KINESIS_LOCAL) >/dev/null 2>&1 \
	    || echo "kinesis-local could not be installed; its contract tests are left out."; \
	fi
