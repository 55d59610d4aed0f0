# make run | test | check | fix | bench | soak | sample | space REPO=user/name [HARDWARE=cpu-basic]
PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 7860
PY := .venv/bin/python
INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: run test check fix bench soak sample space setup setup-dev

run: setup
	GRADIO_SERVER_NAME=$(HOST) GRADIO_SERVER_PORT=$(PORT) $(PY) app.py

# A file's tests stay together: they share an app; files in their order: the long ones (browser) first, the quick ones (unit) last. Each
# process computes on one thread, as many processes as cores.
test: setup-dev
	OMP_NUM_THREADS=1 $(PY) -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

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
