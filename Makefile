# make run | test | test-all | check | fix | bench | soak | sample | space REPO=user/name [HARDWARE=cpu-basic]
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 7860
PY := .venv/bin/python
INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: run test test-slow test-all check fix bench soak sample space setup setup-dev

run: setup
	GRADIO_SERVER_NAME=$(HOST) GRADIO_SERVER_PORT=$(PORT) $(PY) app.py

# As many processes as cores, each computing on one thread. Files that share an app (tests/conftest.py) stay in one
# process; files in their order: the long ones (browser) first, the quick ones (unit) last.
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest --numprocesses auto --maxprocesses 4 --dist loadscope --no-loadscope-reorder

test: setup-dev
	@echo "Everything a change needs: about 8 minutes on two cores (make test-all adds the slow tests: 10 more)."
	$(PYTEST) -m "not slow" $(ARGS)

test-slow: setup-dev
	@echo "The slow tests alone: about 10 minutes on two cores."
	$(PYTEST) -m slow $(ARGS)

test-all: test test-slow

check: setup-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

fix: setup-dev
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

bench: setup-dev
	$(PY) -m benchmarks.cpu

# Two hundred kills -9 of workers and apps in the middle of real runs (over an hour on two cores).
soak: setup-dev
	$(PY) -m tests.faults --kills 200 --report benchmarks/soak.md

# Retrains the adapter that is shipped in assets/adapter (four minutes, on one core).
sample: setup
	$(PY) -m benchmarks.sample_adapter

space: setup
	$(PY) -m qlora_demo.hub.space "$(REPO)" "$(HARDWARE)"

setup: .venv/.installed
setup-dev: .venv/.installed-dev

.venv/.installed: requirements.txt constraints.txt
	@test -x $(PY) || $(PYTHON) -m venv .venv
	@echo "Installing the packages (a few minutes the first time) ..."
	@$(INSTALL) --requirement requirements.txt
	@touch $@

.venv/.installed-dev: requirements-dev.txt .venv/.installed
	@$(INSTALL) --requirement requirements-dev.txt
	@touch $@
