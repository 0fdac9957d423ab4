# Everything a user or a CI calls. Needs Python 3.11 or later, make and git; each target sees to .venv by itself.
# ARGS reaches the command, e.g. `make demo ARGS="--days 5"` or `make test ARGS="-k landing"`.

# The first that runs is used; name another with PYTHON=...
ifndef PYTHON
PYTHON := $(shell for name in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$name -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null && echo $$name && break; done)
endif
UV := uv==0.13.8  # resolves the lock; its version is fixed so that the file does not change with the tool
BIN := .venv/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo dev test lint format check docs bench campaign lock clean venv

help:  ## show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

demo: venv  ## fill a lake from simulated sources, check it and print what happened
	@$(BIN)/datalake demo $(ARGS)

dev: venv  ## open the same in the Dagster UI
	@$(BIN)/datalake dev $(ARGS)

test: venv  ## run the tests
	@$(BIN)/python -m pytest $(ARGS)

lint: venv  ## check formatting, style, types and SQL
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/sqlfluff lint --disable-progress-bar --processes 2 sql

format: venv  ## mend formatting, and style where that is safe
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

check: lint test  ## lint, then test: what CI runs

docs: venv  ## write the pages of components anew
	@$(BIN)/python -m tools.component_pages

bench: venv  ## measure speed and memory
	@$(BIN)/python -m datalake_assets_tests.benchmarks $(ARGS)

campaign: venv  ## run the long tests: many seeds, many kills
	@$(BIN)/python -m pytest -m campaign $(ARGS)

lock: python  ## resolve requirements.lock again; ARGS=--upgrade moves every version
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
		$(PYTHON) -m venv "$$folder" && \
		"$$folder/bin/python" -m pip install --quiet --disable-pip-version-check $(UV) && \
		"$$folder/bin/uv" pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes --no-strip-extras \
			--custom-compile-command "make lock" --group dev --output-file requirements.lock $(ARGS) pyproject.toml
	@echo "requirements.lock is up to date."

clean:  ## remove .venv and caches; data in .datalake stays
	@rm -rf .venv .venv.lock .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

venv: python
	@$(PYTHON) tools/venv.py

.PHONY: python
python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 to 3.14 found: install one, or name it with PYTHON=/path/to/python." >&2; exit 1; }
