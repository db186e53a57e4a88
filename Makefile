PYTHON ?= python3
PORT ?= 5000
ARGS ?=
JOBS ?= 2
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help env animals test test-all test-faults lint format ui bench lock audit clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## +/\t/' | expand -t 14

env: $(STAMP)  ## create .venv with the versions of requirements.lock

# Hashes are checked for everything that is installed, uv and the build backend included.
$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "raysearch needs Python 3.11 or newer, and '$(PYTHON)' is not: $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "Name another one, such as: make env PYTHON=python3.12" >&2; exit 1; }
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  $(PYTHON) -m venv --clear .venv
	@echo "Installing the versions of requirements.lock into .venv (several GB, once) ..."
	@awk '/^[^ ]/ {uv = /^uv==/} uv' requirements.lock > .venv/uv.lock
	@if $(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r .venv/uv.lock; then \
	  VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements.lock && \
	  VIRTUAL_ENV=.venv $(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e .; \
	else \
	  echo "uv cannot be installed here; pip does the same, more slowly." >&2; \
	  $(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock && \
	  $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .; \
	fi
	@touch $@

animals: env  ## search for the best animals model on generated images; ARGS= adds options
	$(BIN)/python -m raysearch.tune animals $(ARGS)

test: env  ## lint and run all tests
	@status=0; $(MAKE) --no-print-directory lint || status=1; \
	$(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile -m "not ray and not slow" $(ARGS) || status=1; \
	$(BIN)/python -m pytest -q -m "ray and not slow" $(ARGS) || status=1; exit $$status

test-all: env  ## run the slow tests too (two hours)
	$(BIN)/python -m pytest -q -m "slow or not slow" $(ARGS)

test-faults: env  ## let every fault of docs/reliability.md happen, and write its table anew (an hour)
	$(BIN)/python -m pytest -q -m "slow or not slow" tests/faults --reliability docs/reliability.md $(ARGS)

lint: env  ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: env  ## format the code and repair what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

ui: env  ## open the records of all searches in MLflow, on this machine only
	@test -f results/mlflow.db || { echo "No records yet. Run a search first: make animals" >&2; exit 1; }
	@echo "MLflow: http://127.0.0.1:$(PORT) (Ctrl+C ends it; PORT= takes another port)"
	@MLFLOW_DISABLE_TELEMETRY=true $(BIN)/mlflow server --host 127.0.0.1 --port $(PORT) --workers 1 \
	  --backend-store-uri sqlite:///results/mlflow.db --artifacts-destination results/mlartifacts

bench: env  ## measure start-up, data, training and scheduling on this machine
	$(BIN)/python benchmarks/start_up.py
	$(BIN)/python benchmarks/data.py
	$(BIN)/python benchmarks/train.py
	$(BIN)/python -m benchmarks.scheduling
	$(BIN)/python -m benchmarks.many_trials

lock: env  ## write requirements.lock anew from pyproject.toml; ARGS=--upgrade takes the newest versions
	$(BIN)/uv pip compile --no-config --quiet --universal --python-version 3.11 --extra dev \
	  --generate-hashes --custom-compile-command "make lock" $(ARGS) -o requirements.lock pyproject.toml

audit: env  ## look for known weaknesses in the versions of requirements.lock; .venv stays as it is
	$(BIN)/uv tool run pip-audit --strict --require-hashes --disable-pip --requirement requirements.lock

clean:  ## remove the environment and all caches; results/ stays
	rm -rf .venv build dist .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
