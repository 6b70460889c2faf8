# `make demo` and `make test` work in a fresh clone: each creates .venv with pinned versions first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := pip install --quiet --disable-pip-version-check
OUT ?= runs/demo
PROCESSES := -n 2 --dist loadfile  # two processes; tests of one file stay together
COVERED := $(if $(COVERAGE),--cov=pgm_expr --cov-report=term)
QUICK := tests/data tests/distributions tests/models tests/nn tests/parts tests/zoo \
	tests/test_layers.py tests/test_readme.py tests/test_release.py tests/test_simulate.py

.PHONY: demo test test-all check lint hooks bench test-newest test-oldest clean help

help:
	@echo "make demo         train a story on real UMI counts and judge it on held-out cells (under 3 minutes)"
	@echo "make test         contract, identity, limit and statistics tests (3 to 6 minutes)"
	@echo "make check        lint, types and the fastest tests (under 90 seconds)"
	@echo "make test-all     the slow recovery tests too (under 60 minutes)"
	@echo "make lint         ruff and mypy"
	@echo "make hooks        run ruff and mypy before each commit (pre-commit)"
	@echo "make bench        install the peers that benchmarks/ compares with"
	@echo "make test-newest  the tests with the newest release of every dependency (PYTHON=python3.13)"
	@echo "make test-oldest  the tests with the oldest releases that pyproject.toml admits (PYTHON=python3.11)"

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/$(PIP) torch==2.13.0
	$(BIN)/$(PIP) --constraint constraints.txt --editable ".[test]"
	@touch $@

demo: $(VENV)/installed
	$(BIN)/pgm-expr demo --out $(OUT) --overwrite

test: $(VENV)/installed
	$(BIN)/python -m pytest $(PROCESSES) $(COVERED)

test-all: $(VENV)/installed
	$(BIN)/python -m pytest $(PROCESSES) -m "slow or not slow"

check: lint
	$(BIN)/python -m pytest $(PROCESSES) $(QUICK)

lint: $(VENV)/installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy

hooks: $(VENV)/installed
	$(BIN)/$(PIP) --constraint constraints.txt pre-commit
	$(BIN)/pre-commit install

bench: $(VENV)/installed
	$(BIN)/$(PIP) --constraint constraints.txt --editable ".[bench]"

# Neither is part of CI: the newest PyTorch is a download of gigabytes.
test-newest:
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/$(PIP) --upgrade --upgrade-strategy eager --editable ".[test]"
	.venv-newest/bin/python -m pytest $(PROCESSES)

test-oldest: .venv-oldest/installed
	.venv-oldest/bin/python -m pytest $(PROCESSES)

.venv-oldest/installed: pyproject.toml .ci/oldest.py
	$(PYTHON) -m venv --clear .venv-oldest
	$(PYTHON) .ci/oldest.py > .venv-oldest/constraints.txt
	.venv-oldest/bin/$(PIP) --constraint .venv-oldest/constraints.txt --editable ".[test]"
	@touch $@

clean:
	rm -rf $(VENV) .venv-newest .venv-oldest runs build *.egg-info .coverage .mypy_cache .ruff_cache .pytest_cache
