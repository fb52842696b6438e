# One command each, on a fresh machine: make demo, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check docs clean

# The quickstart: fetch a real model, make its variants, measure them, plan.
demo: $(STAMP)
	$(BIN)/python examples/quickstart/fetch.py
	$(BIN)/planner plan examples/quickstart/plan.yaml

test: $(STAMP)
	$(BIN)/pytest

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# The reference of the command line, from the program itself.
docs: $(STAMP)
	$(BIN)/python -m typer planner.cli utils docs --name planner --title "The command line" --output docs/cli.md

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) build dist examples/*/plan examples/*/downloads
