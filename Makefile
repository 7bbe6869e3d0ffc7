# `make demo` and `make test` are the two commands for a new user; everything they need comes with pip.

VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.run-is-ready
DEMO := $(VENV)/.demo-is-ready
NOTEBOOKS := $(VENV)/.notebooks-is-ready
DEV := $(VENV)/.dev-is-ready
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq
TEMPLATES := build/deploy-check
KINESIS_LOCAL := tests/contract/kinesis_local
PYTEST := $(BIN)/python -m pytest
# Tests begin in the order of tests/support/order.py.
POOL := --dist loadscope --no-loadscope-reorder
WORKERS ?= 2
# Tests with real workers wait most of their time, and others compute meanwhile: seven processes for two cores.
TEST_WORKERS ?= 7
SEEDS ?= 10000

# Tests start hundreds of processes; one that may not keep what it has compiled takes half as long again to start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo notebooks test test-fast chaos soak bench bench-gpu bench-more check deploy-check image image-test format docs figures lock clean kinesis-local

help:  ## List the targets
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

install: $(RUN)  ## Set up .venv with what a consumer needs, Java included

demo: $(DEMO)  ## Enrich 2,000 docstrings with a real model on this machine (options: ARGS="--records 500")
	@$(BIN)/penstock demo $(ARGS)

notebooks: $(NOTEBOOKS)  ## Run the notebooks on the demo's table and render them to build/notebooks (first the demo if it never ran)
	@ls -d penstock-demo/*/enriched >/dev/null 2>&1 || $(BIN)/penstock demo --broken 20
	@$(BIN)/python -m tests.notebooks.rendered

test: $(DEV) kinesis-local  ## Run every test, including those with the real KCL and the real model
	$(PYTEST) tests/speed
	$(PYTEST) $(POOL) -n $(TEST_WORKERS) --ignore tests/speed

test-fast: $(DEV)  ## Run the quick tests, in a minute: without a JVM, without a large model
	$(PYTEST) $(POOL) -n $(WORKERS) -m "not slow" tests/unit tests/property tests/cli tests/docs

chaos: $(DEV)  ## Inject faults into real workers for ten minutes (options: ARGS="--minutes 2 --seed 7")
	$(BIN)/python -m tests.chaos $(ARGS)

soak: $(DEV)  ## Run the long tests: drains, the largest aggregates, killed workers, 10,000 seeds of the simulations
	$(BIN)/python -m tests.soak $(ARGS)
	$(BIN)/python -m tests.soak.giants
	rm -f build/deaths.jsonl
	for run in 1 2 3; do PENSTOCK_FIGURES=build/deaths.jsonl \
	    $(PYTEST) -n $(WORKERS) tests/e2e/test_takeover.py tests/e2e/test_rolling_restart.py || exit 1; done
	$(BIN)/python -m tests.unit.examples.their_embeddings --check
	PENSTOCK_SEEDS=$(SEEDS) $(PYTEST) -n $(WORKERS) --timeout 0 tests/simulation

bench-gpu: $(DEV)  ## Measure the 1 GB reference model in bfloat16 on this machine's GPU
	@$(BIN)/python -m benchmarks.gpu

bench: $(DEV)  ## Compare a task with the bare model and with stock amazon_kclpy (about 22 minutes)
	$(BIN)/python -m benchmarks $(ARGS)

bench-more: $(DEV)  ## Measure what explains the figures of make bench (half an hour)
	$(BIN)/python -m benchmarks --more --out build/more $(ARGS)

check: $(DEV)  ## Check lint, formatting, types, import rules, Dockerfiles, and known vulnerabilities of locked packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/hadolint Dockerfile examples/*/Dockerfile
	@$(BIN)/python .ci/audit

deploy-check: $(TEMPLATES)  ## Check the CloudFormation templates with checkov, and with rules for CloudFormation Guard
	@$(TEMPLATES)/bin/python .ci/deploy-check

# An environment of its own, of about 300 MB: checkov wants other releases of our packages.
$(TEMPLATES): .ci/deploy-check.lock
	@rm -rf $@ && python3 -m venv $@
	@$@/bin/python -m pip --disable-pip-version-check install -qq --require-hashes --no-deps -r $<
	@touch $@

format: $(DEV)  ## Format the code, apply the fixes that ruff can make, and strip the notebooks of outputs
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python -m tests.notebooks.stripped

image:  ## Build the image, and a model's from it; without Docker by buildah, as root (options: ARGS="--build-arg TORCH=cuda")
	@python3 deploy/image/build.py $(ARGS)

image-test: $(DEV)  ## Run the image of make image as a task would, and measure it; as root, with buildah and runc
	@$(BIN)/python -m tests.image $(ARGS)

figures: $(DEV)  ## Put the last figures of make chaos, soak, bench and image-test into the documents
	for file in chaos.json soak.json giants.json deaths.jsonl bench.json beside.json commits.json task.json image.json; do \
	    if [ -f build/$$file ]; then cp build/$$file docs/figures/; fi; done
	if [ -f build/more/bench.json ]; then cp build/more/bench.json docs/figures/more.json; fi
	$(BIN)/python -m tests.docs.rendered

docs: $(DEV)  ## Render the generated parts of the documents: help texts, settings, metrics
	$(BIN)/python -m tests.docs.rendered

lock: $(DEV)  ## Update the lock files from setup.cfg
	.ci/lock

clean:  ## Remove everything that was built, including .venv
	rm -rf $(VENV) build dist out penstock-demo *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	rm -rf $(KINESIS_LOCAL)/node_modules
	find consumer pipeline examples tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The locks are complete, so pip resolves nothing: it is faster, and every machine gets the same packages.
$(RUN): requirements-build.lock requirements.lock setup.cfg pyproject.toml | $(BIN)/python
	@echo "Setting up $(VENV): a few minutes, once."
	@$(PIP) --no-deps -r requirements-build.lock
	@$(PIP) --no-deps -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

# The index decides which build of torch pip installs. PyPI's build for Linux needs CUDA, other builds do not.
$(DEMO): requirements-torch-deps.lock requirements-torch.lock requirements-torch-cuda.lock requirements-demo.lock $(RUN)
	@$(PIP) --no-deps -r requirements-torch-deps.lock
	@$(PIP) --no-deps -r requirements-torch.lock
	@if $(BIN)/python -m pip check | grep -q '^torch .* requires nvidia-'; then \
	    $(PIP) --no-deps -r requirements-torch-cuda.lock; \
	fi
	@$(PIP) --no-deps -r requirements-demo.lock
	@touch $@

$(NOTEBOOKS): requirements-notebooks.lock $(DEMO)
	@$(PIP) --no-deps -r requirements-notebooks.lock
	@touch $@

$(DEV): requirements-dev.lock $(NOTEBOOKS)
	@$(PIP) --no-deps -r requirements-dev.lock
	@touch $@

# Use the first Python that is 3.11 or newer and has the venv module.
$(BIN)/python:
	@for python in $(PYTHON) python3.11 python3.12 python3.13 python3.14 python3; do \
	    if $$python -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        exec $$python -m venv $(VENV); \
	    fi; \
	done; \
	echo "Penstock needs Python 3.11 or newer with its venv module; found: $$(python3 --version 2>&1)." >&2; \
	echo "Install it (Debian, Ubuntu: python3.11 python3.11-venv), or choose one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; \
	exit 2

# Another local Kinesis to compare with, for the contract tests. Without npm those tests are skipped.
kinesis-local:
	@if command -v npm >/dev/null && [ -f $(KINESIS_LOCAL)/package-lock.json ] \
	    && ! [ $(KINESIS_LOCAL)/node_modules/.package-lock.json -nt $(KINESIS_LOCAL)/package-lock.json ]; then \
	    npm ci --silent --no-audit --no-fund --prefix $(KINESIS_LOCAL) >/dev/null 2>&1 \
	    || echo "kinesis-local could not be installed; its contract tests are skipped."; \
	fi
