# `make demo` inverts and edits a photograph and draws a sketch, `make test` runs the tests. Both create .venv on first use.
# Another interpreter or folder: make PYTHON=python3.12 VENV=/somewhere test

PYTHON ?= $(shell command -v python3.11 || command -v python3 || command -v python)
VENV ?= .venv
RUN := $(VENV)/bin/python -m
STAMP := $(VENV)/.installed
DEMO := out/demo

.DEFAULT_GOAL := help
.PHONY: help demo test check clean

help:
	@echo "make demo    invert examples/astronaut.png, make her older and younger, draw a face; results in $(DEMO)/"
	@echo "make test    run the tests (add ARGS='-k words' to choose)"
	@echo "make check   ruff, mypy, import-linter, then the tests"
	@echo "make clean   remove $(VENV), $(DEMO) and caches"

# The stamp is written only after a complete installation, so an interrupted one starts over.
$(STAMP): pyproject.toml
	@test -n "$(PYTHON)" || { echo "pixel2style needs Python 3.11 or newer: install it, or run make PYTHON=/path/to/python3.11"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "pixel2style needs Python 3.11 or newer, and $(PYTHON) is not: run make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "installing into $(VENV): PyTorch is large, the first time takes some minutes"
	@test -x "$(VENV)/bin/python" || "$(PYTHON)" -m venv "$(VENV)"
	@$(RUN) pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch "$@"

demo: $(STAMP)
	$(RUN) pixel2style invert examples/astronaut.png --out $(DEMO) --overwrite
	$(RUN) pixel2style edit examples/astronaut.png --set age=+2 --strip 5 --out $(DEMO)/older --overwrite
	$(RUN) pixel2style translate sketch examples/drawings/smile.sketch.png --samples 2 --out $(DEMO)/drawn --overwrite

# Two workers, each test file on one of them: most tests use one thread.
test: $(STAMP)
	$(RUN) pytest -n 2 --dist loadfile $(ARGS)

check: $(STAMP)
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(VENV)/bin/lint-imports
	$(RUN) pytest -n 2 --dist loadfile $(ARGS)

clean:
	rm -rf "$(VENV)" $(DEMO) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
