# Everything a person runs. Each target sets up what it needs and says so; a second run skips what is done.
PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: check format

check:  ## style, types, storeys, unit tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest tests/unit

format:
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
