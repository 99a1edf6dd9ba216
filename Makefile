# The active Python is used when it imports torch, whose build is never replaced; otherwise a virtual environment is made.
ACTIVE := $(shell command -v python3 || command -v python)
ifeq ($(shell $(ACTIVE) -c 'import torch' 2>/dev/null && echo yes),yes)
  PYTHON ?= $(ACTIVE)
  READY :=
else
  PYTHON ?= .venv/bin/python
  READY := .venv/ready
endif
# What the suite imports beside torch, to measure and to render reports; `make deps` installs it into the active Python.
MEASURES := pandas scipy rich packaging
RENDERS := matplotlib plotly jinja2
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
# An idle process takes tests from the other: the slow ones of a file would else wait for each other at the end.
PYTEST := $(PYTHON) -m pytest -q -n $(JOBS) --dist worksteal
INTERPRETED := tests/kernels tests/suite/static tests/suite/interpreting tests/suite/sanitizing tests/baselines/test_interpreted.py
INTERPRET := TRITON_INTERPRET=1 $(PYTEST) -m

.DEFAULT_GOAL := help
.PHONY: help bench report check test test-all test-triton lint deps docs new-kernel tiles gpu-first gpu-day gpu-analysis

help: ## print this
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-12s %s\n", $$1, $$2}'

bench: $(READY) needed ## measure the default preset of this machine and render its report; FLAGS="--budget 1m"
	$(PYTHON) -m suite bench $(FLAGS)

check: $(READY) needed-to-measure ## check numerics only, on this machine's device
	$(PYTHON) -m suite check $(FLAGS)

report: $(READY) needed ## render a stored run: make report RUN=results/local/…
	$(PYTHON) -m suite report $(RUN) $(FLAGS)

new-kernel: $(READY) needed ## write the skeleton of an operator: make new-kernel NAME=foo
	$(PYTHON) -m suite new-kernel "$(NAME)"

# Hours where nothing is known yet; what the tables have is not chosen again.
tiles: $(READY) needed-to-measure ## choose launch configurations by predicted time, for the installed Triton; FLAGS="--budget 20m"
	for arch in sm_90 sm_100 sm_80; do $(PYTHON) -m suite tiles --arch $$arch $(FLAGS) || exit; done
	for arch in sm_90 sm_100 sm_80; do $(PYTHON) -m suite tiles --peers --arch $$arch $(FLAGS) || exit; done

test: $(READY) needed-dev ## the tests that every change must pass, about 12 minutes on 2 cores
	$(INTERPRET) "interpret and not long" $(INTERPRETED)
	$(PYTEST) -m "not interpret and not long"

coverage: $(READY) needed-dev ## list the lines that the quick tests reach: a table, and htmlcov/
	$(INTERPRET) "interpret and not long" $(INTERPRETED) --cov --cov-report=
	$(PYTEST) -m "not interpret and not long" --cov --cov-append --cov-report=term:skip-covered --cov-report=html

test-all: $(READY) needed-dev ## all tests, also those that take minutes, and a short sweep of every operator
	$(INTERPRET) interpret $(INTERPRETED)
	$(PYTEST) -m "not interpret"
	$(PYTHON) -m suite bench --preset registry --out results/local/registry-$$(date +%Y%m%d-%H%M%S)

# Of each family the tests that reach most of its kernels: another compiler breaks a kernel whole, or not at all.
test-triton: $(READY) needed-dev ## the tests that depend on the compiler: for another Triton on PYTHONPATH
	$(INTERPRET) "interpret and not long" -k "segments_packed or decode or issued or probes or bf16 or gradients_in_fp16 or peers or sanitizer or (naive_form and packed) or (taylor and grouped)" $(INTERPRETED)
	$(PYTEST) -m "not interpret and not long" tests/suite/static

# On a GPU, each in steps of their own: the same command again goes on. DEVICE=cpu FLAGS=--rehearse tries it without one.
GPU ?= results/local/gpu
DEVICE ?= cuda
CAMPAIGN = $(PYTHON) -m suite campaign $@ --device $(DEVICE) --out $(GPU)/$@ $(FLAGS)

gpu-first: $(READY) needed-to-measure ## the first quarter of an hour on a GPU, in the order of what it proves; FLAGS=--dry-run
	$(CAMPAIGN)

gpu-day: $(READY) needed-to-measure ## everything that a GPU can tell, for a day on it
	$(CAMPAIGN)

# Needs no GPU: profiles are taken by compiling. RUNS is the folder of the runs, results/nvidia-h200 for those kept.
RUNS ?= $(GPU)/gpu-day
gpu-analysis: $(READY) needed ## add static profiles to the runs in RUNS, then write its README.md: our kernels against peers and floors
	@for run in $(dir $(wildcard $(RUNS)/*/records.jsonl)); do \
	  $(PYTHON) -m suite static --run $$run --no-issued || exit; \
	done
	$(PYTHON) -m suite analyse $(dir $(wildcard $(RUNS)/*/records.jsonl)) --out $(RUNS)/README.md $(FLAGS)

lint: $(READY) needed-dev ## check style and types
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m pyright --pythonpath $(PYTHON)

docs: $(READY) needed-dev ## build the documentation site into site/
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict
	@echo "site/index.html; to search it: $(PYTHON) -m http.server --directory site"

deps: ## install what the suite and its tests need; torch is not changed
	$(PYTHON) -c 'import torch; print("torch==" + torch.__version__)' > .torch-constraint
	$(PYTHON) -m pip install -c .torch-constraint -e '.[dev]'; code=$$?; rm -f .torch-constraint; exit $$code

.PHONY: needed needed-to-measure needed-dev
needed: WANTED := $(MEASURES) $(RENDERS)
needed-to-measure: WANTED := $(MEASURES)
needed needed-to-measure: $(READY)
	@for module in $(WANTED); do $(PYTHON) -c "import importlib.util as u, sys; sys.exit(u.find_spec('$$module') is None)" \
	  || { echo "make: $(PYTHON) has torch but not $$module; run 'make deps'" >&2; exit 2; }; done

needed-dev: needed
	@$(PYTHON) -c 'import pytest, xdist, hypothesis' 2>/dev/null \
	  || { echo "make: $(PYTHON) lacks the test packages; run 'make deps'" >&2; exit 2; }

.venv/ready: pyproject.toml constraints.txt
	$(ACTIVE) -m venv .venv
	.venv/bin/python -m pip install -q -c constraints.txt torch
	.venv/bin/python -m pip install -q -c constraints.txt -e '.[dev,peers]'
	@touch $@
