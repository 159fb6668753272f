# Two commands: `make demo` and `make test`. Each does all of its own set-up.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
JOBS ?= 2
# One thread a process: with two test processes on two cores, more would slow both of them many times over.
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 PYTHONUTF8=1

.PHONY: demo test test-long lint audit format clean

demo: .venv/installed
	$(BIN)/tidemill demo

test: lint
	$(TEST_ENV) $(BIN)/python -m pytest -n $(JOBS) -m "not long"

test-long: .venv/installed
	$(TEST_ENV) $(BIN)/python -m pytest -n $(JOBS) -m long --timeout=3600

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(TEST_ENV) $(BIN)/python -m pytest -q tests/test_architecture.py tests/test_exports.py tests/test_lint.py

# What is installed, against published vulnerabilities. It has to ask a service on the network: one that does not answer,
# or does not know a package, is a failure too. Version numbers go without their local part (2.13.0+cpu is 2.13.0 there).
audit: .venv/installed .venv-audit/installed
	@$(BIN)/python -m pip list --format=freeze --exclude-editable | sed 's/+.*//' > .venv-audit/packages.txt
	@.venv-audit/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner off \
		--requirement .venv-audit/packages.txt || { echo "make audit: the above has to be mended, or there was no" \
		"answer from the service for known vulnerabilities, and then nothing has been checked." >&2; exit 1; }

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Tidemill needs Python 3.11 or newer with venv; set PYTHON=/path/to/python"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

.venv-audit/installed:
	$(PYTHON) -m venv .venv-audit
	.venv-audit/bin/python -m pip install --quiet 'pip-audit>=2.9'
	@touch $@

clean:
	rm -rf .venv .venv-audit demo-project .mypy_cache .ruff_cache .pytest_cache
