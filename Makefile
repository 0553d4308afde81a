# Everything the book needs from a bare clone: git, make and Python 3.11 or later.
#
#   make book                                   build the site into _build/html
#   make book PARAMS='first_seed=100 seeds=20'  the same with other parameters in every notebook
#   make help                                   the other targets

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.installed
PRESS  := PYTHONPATH=src:book $(PY) -m press

PARAMS     ?=
FIRST_SEED ?= 100
PORT       ?= 8000
URL        ?=
NAME       ?=
METHOD     ?=
TITLE      ?=
PART       ?=

.DEFAULT_GOAL := book
.DELETE_ON_ERROR:
.PHONY: help install book test lint format replicate chapter address serve linkcheck bench clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

# pip is the last thing that venv makes: where it is missing, the environment is a half one, and goes.
# torch goes first and alone: it is the largest, and a failure to get it should come early.
$(STAMP): requirements.txt constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit(f"make: Python 3.11 or later is needed, $(PYTHON) is {v.major}.{v.minor}: set PYTHON=")'
	test -x $(VENV)/bin/pip || $(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); exit 1; }
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

install: $(STAMP)  ## create .venv with everything the book is built and tested with

book: $(STAMP)  ## execute the notebooks and render the site
	@$(PRESS) build $(PARAMS)

test: book  ## every test, the browser's included: they drive the built site
	OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(STAMP)  ## ruff and mypy
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy

format: $(STAMP)  ## let ruff mend what it can
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

replicate: $(STAMP)  ## run every chapter on other seeds and record the block: FIRST_SEED=100
	@$(PRESS) replicate first_seed=$(FIRST_SEED)

chapter: $(STAMP)  ## begin a chapter: NAME=90_triplet METHOD=triplet TITLE="Triplet margin"
	@$(PRESS) chapter "$(NAME)" "$(METHOD)" "$(TITLE)" --part "$(PART)"

address: $(STAMP)  ## write the repository's address where it is needed: URL=https://...
	@$(PRESS) address "$(URL)"

serve: book  ## the site on http://localhost:8000
	$(PY) -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

linkcheck: book  ## ask the outside world whether the links still stand (needs a network)
	@$(PRESS) linkcheck

bench: $(STAMP)  ## the benchmarks
	set -e; for script in benchmarks/bench_*.py; do echo "$$script"; OMP_NUM_THREADS=1 $(PY) $$script; done

clean:  ## forget everything that was built, keep the environment
	rm -rf _build .pytest_cache .mypy_cache .ruff_cache
