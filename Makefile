# Two commands: `make demo` and `make test`. Each creates .venv and installs pinned versions first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= runs/demo
PROCESSES := -n 2 --dist loadfile  # two processes; tests of one file stay together

.PHONY: demo test test-all lint bench clean help

help:
	@echo "make demo      train a story on real UMI counts and judge it on held-out cells (under 3 minutes)"
	@echo "make test      contract, identity, limit and statistics tests (under 10 minutes)"
	@echo "make test-all  the slow recovery tests too (under 60 minutes)"
	@echo "make lint      ruff"
	@echo "make bench     install the peers that benchmarks/ compares with"

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[test]"
	@touch $@

demo: $(VENV)/installed
	$(BIN)/pgm-expr demo --out $(OUT) --overwrite

test: $(VENV)/installed
	$(BIN)/python -m pytest $(PROCESSES)

test-all: $(VENV)/installed
	$(BIN)/python -m pytest $(PROCESSES) -m "slow or not slow"

lint: $(VENV)/installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

bench: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[bench]"

clean:
	rm -rf $(VENV) runs build *.egg-info
