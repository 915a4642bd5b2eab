# Each target prepares .venv by itself. Choose another torch build with TORCH, for example
#   make demo TORCH="torch --index-url https://download.pytorch.org/whl/cu128"
PYTHON ?= python3
TORCH ?= torch==2.13.0
DATA ?= ../shared/data
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test bench lint setup clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml install_system_libraries.sh
	sh install_system_libraries.sh
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --prefer-binary --editable ".[dev]"
	touch $@

demo: setup
	$(BIN)/remov3r demo --out out/demo

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

bench: setup
	$(BIN)/remov3r benchmark shared-small --data $(DATA) --out docs/benchmarks \
	  --method network+none --method network+pose_graph --method network+bundle \
	  --method sensor+pose_graph --method sensor+bundle

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy remov3r tests

clean:
	rm -rf $(VENV) build dist out *.egg-info .pytest_cache .mypy_cache .ruff_cache
