# lossaudit: everything runs in .venv, which these targets make for themselves.
#
#   make audit     audit torch, TensorFlow and Keras on it, JAX and ONNX Runtime; writes
#                  audit/report.html and audit/run.json
#   make test      the tests that every change must pass, ruff and pyright
#   make help      all targets
#
# PYTHON       interpreter that .venv is made from (3.11 to 3.13)
# AUDIT_FLAGS  more flags for `lossaudit run`, such as AUDIT_FLAGS="--backend torch", or "--backend all"
#              for Keras on its other backends too
# PYTEST_FLAGS more flags for pytest, such as PYTEST_FLAGS="-k wheel"
# PIP_FLAGS    more flags for pip install, such as --extra-index-url for a CPU build of torch

PYTHON ?= python3
AUDIT_FLAGS ?=
PYTEST_FLAGS ?=
PIP_FLAGS ?=

, := ,
BIN := .venv/bin
CONSTRAINTS := constraints/pinned.txt
INPUTS := pyproject.toml $(CONSTRAINTS)
# pyright's wrapper would ask the registry for a newer version at every start.
PYRIGHT := PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright

# Two processes; a file stays in one of them, for the frameworks and environments that it starts.
PARALLEL := -n 2 --dist loadfile

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: audit screenshots conventions defects findings theory misuse examples test test-slow lint format setup-audit setup-test clean help

# Installs `.[$(1)]` into .venv, unless $(2) says that just this was done. The stamp holds what the
# installation followed from (this folder, pyproject.toml, the constraints) and is written last: an
# interrupted installation is done again, a moved checkout too, and a file that was merely touched
# costs nothing. Nothing here needs the network once the packages are there.
define install
	@inputs() { pwd; cat $(INPUTS); }; \
	if ! inputs | cmp -s - $(2) || ! $(BIN)/python -c "" 2> /dev/null; then \
		rm -f .venv/*.stamp; \
		echo "== installing lossaudit[$(1)] into .venv (minutes the first time)"; \
		[[ "$$(cat .venv/home 2> /dev/null || true)" == "$$PWD" ]] || rm -rf .venv; \
		if ! $(BIN)/python -c "" 2> /dev/null; then \
			$(PYTHON) -c "import sys; v = sys.version_info; sys.exit(v < (3, 11) and f'lossaudit needs Python 3.11 or newer; {sys.executable} is {v.major}.{v.minor}: make PYTHON=python3.x')"; \
			$(PYTHON) -m venv --clear .venv; \
			pwd > .venv/home; \
		fi; \
		pip="$(BIN)/python -m pip install -qq --disable-pip-version-check $(PIP_FLAGS) -c $(CONSTRAINTS)"; \
		$$pip setuptools; \
		$$pip --no-build-isolation -e ".[$(1)]"; \
		inputs > $(2).part; mv $(2).part $(2); $(3) \
	fi; \
	mkdir -p build/typing; \
	[[ -e build/typing/lossaudit ]] || ln -sfn ../.. build/typing/lossaudit
endef

# A page of docs whose last part a verb of the same name writes.
define measured
	sed '/<!-- measured -->/q' docs/$@.md > build/$@.md
	$(BIN)/lossaudit $@ --markdown >> build/$@.md
	mv build/$@.md docs/$@.md
endef

audit: setup-audit  ## audit the frameworks: audit/report.html and audit/run.json
	@mkdir -p audit
	$(BIN)/lossaudit run --out audit/run.json --html audit/report.html $(AUDIT_FLAGS)

test: setup-test  ## what every change must pass: fast tests, formatting, lint, types
	$(BIN)/pytest -m "not slow" $(PARALLEL) --timeout 600 --durations 10 $(PYTEST_FLAGS)
	@$(MAKE) --no-print-directory lint

screenshots: setup-test  ## docs/screenshots, the pictures of audit/report.html in README and docs (make audit)
	$(BIN)/python docs/take_screenshots.py audit/report.html docs/screenshots

conventions: setup-audit  ## docs/conventions.txt and where ops differ, of the pinned frameworks
	COLUMNS=100 $(BIN)/lossaudit conventions > docs/conventions.txt
	COLUMNS=100 $(BIN)/lossaudit conventions --differences > docs/conventions-differences.txt

examples: setup-audit  ## docs/examples.md, figures of tutorials, adjudicated and asked of the pinned frameworks
	$(BIN)/lossaudit examples --markdown > build/examples.md
	mv build/examples.md docs/examples.md

theory: setup-audit  ## docs/theory.md, what a textbook says of the ops of the pinned frameworks
	$(measured)

misuse: setup-audit  ## docs/misuse.md, what those ops do where they are called as they are not meant
	$(measured)

defects: setup-audit  ## docs/defects.md, the accounting of reported defects
	$(BIN)/lossaudit defects > docs/defects.md

findings: setup-audit  ## docs/findings.md, the classed findings of audit/run.json (AUDIT_FLAGS="--backend all")
	$(BIN)/lossaudit findings audit/run.json --markdown > build/findings.md
	mv build/findings.md docs/findings.md

test-slow: setup-test  ## the tests that take long (real old environments, whole installs, many seeds)
	$(BIN)/pytest -m slow $(PARALLEL) --timeout 1500 --durations 10 $(PYTEST_FLAGS)

lint: setup-test  ## formatting, lint and types, without changing a file
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(PYRIGHT)

format: setup-test  ## format, and repair what ruff can repair
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

setup-audit:  ## .venv with lossaudit and the frameworks
	$(call install,all,.venv/audit.stamp,)

setup-test:  ## the same .venv, with what the tests need
	$(call install,all$(,)test,.venv/test.stamp,cp .venv/test.stamp .venv/audit.stamp;)

clean:  ## remove all that make made, .venv included
	rm -rf .venv audit build dist *.egg-info .pytest_cache .ruff_cache .hypothesis

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
