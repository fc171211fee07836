# Every target sets up .venv by itself; what is installed already is installed again only when pyproject.toml or
# constraints.txt change. Python 3.11 or newer is all that must be there.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
PIP := .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
OUT ?= demo-out

.PHONY: help demo test check bench clean

help:
	@echo 'make demo                          build a corpus from synthetic files in $(OUT) and write a report'
	@echo 'make demo DATA="amass=DIR bvh=DIR" the same from your own folders'
	@echo 'make test                          all tests'
	@echo 'make check                         formatting, lint, types, direction of imports'
	@echo 'make bench                         the benchmarks'

demo: .venv/.core
	.venv/bin/loom demo --out "$(OUT)" $(foreach source,$(DATA),--data "$(source)")

test: .venv/.dev
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -q

check: .venv/.dev
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/pyright
	.venv/bin/lint-imports

bench: .venv/.bench
	OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.build $(BENCH)
	OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.retarget
	OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.loader
	OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.scale
	OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.hme --all
	OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.env
	OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.gpt
	OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.ppo
	OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.balance
	OMP_NUM_THREADS=1 .venv/bin/python -m benchmarks.deploy --all

clean:
	rm -rf .venv demo-out

.venv/bin/python:
	@if [ -z "$(PYTHON)" ]; then echo 'No Python 3.11 or newer found; name one: make PYTHON=/path/to/python demo' >&2; exit 1; fi
	$(PYTHON) -m venv .venv

.venv/.core: pyproject.toml constraints.txt | .venv/bin/python
	@echo 'Installing the core (no torch) into .venv …'
	@$(PIP) --editable .
	@touch $@

.venv/.dev: .venv/.core
	@echo 'Installing what tests and checks need into .venv …'
	@$(PIP) --editable '.[dev]' torch
	@touch $@

.venv/.bench: .venv/.core
	@echo 'Installing what the benchmarks need into .venv …'
	@$(PIP) --editable '.[bench,export]' torch
	@touch $@
