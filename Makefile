# Two commands for a newcomer: `make demo` and `make test`. Each makes .venv and installs what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2

.PHONY: demo test lint format bench bench-full bench-table clean

$(VENV)/.made: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "cytofast needs Python 3.11 or newer: make PYTHON=python3.11 ..."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.test: $(VENV)/.made
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[test]"
	touch $@

$(VENV)/.lint: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[test,lint]"
	touch $@

demo: $(VENV)/.made
	$(BIN)/cytofast demo cytofast-demo

test: $(VENV)/.test
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Peers live in an environment of their own: they hold back our dependencies.
.venv-peers/.made: pyproject.toml
	test -x .venv-peers/bin/python || $(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[peers]"
	touch $@

PEERS := --python pycytominer=.venv-peers/bin/python --python copairs=.venv-peers/bin/python

bench: $(VENV)/.test .venv-peers/.made
	$(BIN)/python -m benchmarks.run $(PEERS)

bench-full: $(VENV)/.test .venv-peers/.made
	$(BIN)/python -m benchmarks.run --full $(PEERS)
	$(BIN)/python -m benchmarks.cpjump1 --plates 3
	$(BIN)/python -m benchmarks.cpjump1 --tall

bench-table: $(VENV)/.test
	$(BIN)/python -m benchmarks.table --write

clean:
	rm -rf $(VENV) .venv-peers build dist *.egg-info cytofast-demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
