# make demo   the whole way on the images of sample_data/, results in demo/
# make test   style, types and tests; what .ci/run runs
# Both make .venv and fill it from constraints.txt on their first call, and only look at a date later.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt
# A process per core, each on one thread: threads of processes side by side spin while they wait for each other.
TEST := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/pytest -n logical --maxprocesses 4 --dist worksteal

.PHONY: demo test clean

demo: $(VENV)/.installed
	$(BIN)/dip-sci demo

test: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(TEST)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/.installed

$(BIN)/python: | system
	$(PYTHON) -m venv $(VENV)

.PHONY: system
system:
	@.ci/system

clean:
	rm -rf $(VENV) build dist demo .mypy_cache .pytest_cache .ruff_cache
