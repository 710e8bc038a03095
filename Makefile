# `make demo` shows the main job; `make test` runs every check. Both set up what they need: Python >= 3.11 and make.
SHELL := /bin/bash
PYTHON ?= python3
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export COVERAGE_FILE := build/coverage

# What the wheel is made of. A file that is gone changes the list; a file that was edited is newer than the stamp.
SOURCES := $(shell find src -type f -not -name '*.pyc' | sort)
PACKAGE := pyproject.toml $(wildcard README.md LICENSE) $(SOURCES) build/sources
$(shell mkdir -p build; echo $(SOURCES) | cmp -s - build/sources || echo $(SOURCES) > build/sources)

# PyPI's newest torch for Linux brings gigabytes of CUDA; this version comes without.
TORCH := torch==2.13.0
TRAIN := */mien/train/*
FULL := */mien/errors.py,*/mien/labels.py,*/mien/geometry.py,*/mien/results/*
BIN := .venv-test/bin

.PHONY: help demo test check unit test-train docs format clean

help:
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /:	/'

demo: .venv/ready ## set up .venv and run the main job on demo pictures
	@.venv/bin/mien demo

test: ## everything: format, lint, types, imports, docs, tests on the built wheel, training tests
	@$(MAKE) --no-print-directory check && $(MAKE) --no-print-directory unit && $(MAKE) --no-print-directory test-train && \
	echo "make test: all passed in $$SECONDS s; $$(du -shc .venv-test .venv-train | tail -1 | cut -f1) of environments"

check: .venv-test/ready ## format, lint, types and the import contract
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

unit: .venv-test/ready ## doctests and tests on the installed wheel, with branch coverage
	@$(BIN)/coverage erase
	@$(BIN)/pytest -q --pyargs mien --doctest-modules --ignore-glob='$(TRAIN)' --cov=mien --cov-branch --cov-report=
	@$(BIN)/pytest -q tests --ignore=tests/train --cov=mien --cov-branch --cov-append --cov-report=
	@$(BIN)/coverage report --omit='$(TRAIN)' --skip-covered --fail-under=90
	@$(BIN)/coverage report --include='$(FULL)' --skip-covered --fail-under=100

test-train: .venv-train/ready ## the tests of mien.train, in an environment with torch
	@export COVERAGE_FILE=build/coverage-train; .venv-train/bin/pytest -q tests/train --cov=mien --cov-branch --cov-report= && \
	.venv-train/bin/coverage report --include='$(TRAIN)' --skip-covered --fail-under=90

docs: .venv-test/ready ## write the generated pages of docs/ and tests/public_surface.txt
	@$(BIN)/python tools/docs.py

format: .venv-test/tools ## put the code into its one format
	@$(BIN)/ruff check --quiet --fix . && $(BIN)/ruff format .

clean: ## remove everything that make made
	@rm -rf .venv .venv-test .venv-train build .coverage .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

.venv/ready: $(PACKAGE)
	@echo "setting up .venv"
	@test -x .venv/bin/pip || $(PYTHON) -m venv .venv
	@if test -e $@; then .venv/bin/pip install -q --force-reinstall --no-deps .; fi
	@.venv/bin/pip install -q '.[demo]'
	@touch $@

# The tools are their own step and stay when only the package changes. pip learnt --group in 25.1.
.venv-%/tools: pyproject.toml
	@echo "setting up .venv-$*"
	@test -x .venv-$*/bin/pip || $(PYTHON) -m venv .venv-$*
	@.venv-$*/bin/pip install -q --upgrade 'pip>=25.1'
	@.venv-$*/bin/pip install -q $(foreach g,$(GROUPS_$*),--group $(g)) $(PINS_$*)
	@touch $@

GROUPS_test := test check
GROUPS_train := test
PINS_train := $(TORCH)
EXTRA_test := [serve]
EXTRA_train := [train]

.venv-%/ready: .venv-%/tools $(PACKAGE)
	@rm -rf .venv-$*/wheel
	@.venv-$*/bin/pip wheel -q --no-deps -w .venv-$*/wheel .
	@if test -e $@; then .venv-$*/bin/pip install -q --force-reinstall --no-deps .venv-$*/wheel/*.whl; fi
	@.venv-$*/bin/pip install -q "$$(echo .venv-$*/wheel/*.whl)$(EXTRA_$*)"
	@touch $@

.PRECIOUS: .venv-%/tools
