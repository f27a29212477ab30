# `make run` and `make test` do all set-up by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BASE := $(VENV)/.base
FULL := $(VENV)/.full
# What is imported is compiled then; compiling all of it would be an eighth of the environment.
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
LOCK := --quiet --strip-extras --allow-unsafe --generate-hashes --no-emit-index-url --no-header \
  --no-annotate
EXTRAS := --extra build --extra dev --extra bench --extra gym --extra data --extra viewers --extra cluster \
  --extra notebooks

# Tests of pure functions and small parts: nothing flies, no process starts, no clock is waited for.
PURE := $(addprefix tests/test_,$(addsuffix .py,structure config_load config_edit control_governor \
  control_modes control_answers control_lqr bridge_text_codecs bridge_boards daemon_settings \
  estimation_clock estimation_kernels firmware_safety optimizer_derivatives session_summary \
  session_replay vision_geometry))

.PHONY: help setup run test quick lint types unit format test-long test-drivers bench page-hour rehearsal \
  golden lock campaign mutants fuzz kills blows soak prove-firmware install clean

help:
	@echo "make run           swing up on the simulated rig, live, for 20 s"
	@echo "make test          set-up, format and lint, strict types, tests"
	@echo "make quick         strict types and the pure tests, within a minute"
	@echo "make setup         only prepare $(VENV)"
	@echo "make bench         the benchmarks, figures into build/"
	@echo "make lock          exact versions anew, from pyproject.toml"
	@echo "make wheels-arm    is there an aarch64 wheel of every dependency?"
	@echo "make golden        fly the kept flights again, say what changed, keep them"
	@echo "make test-drivers  real Linux drivers against emulated USB devices (QEMU)"
	@echo "make test-long     the long campaigns behind docs/results.md"
	@echo "make campaign      random rigs that lie and break, held against the truth (RUNS=1000)"
	@echo "make mutants       does every test notice what it is there for?"
	@echo "make fuzz          10,000 mutated recordings, tables and settings"
	@echo "make kills         what a killed daemon, or a power cut, leaves of a recording"
	@echo "make blows         the daemon killed, held, starved and flooded in mid-flight (RUNS=200)"
	@echo "make soak          an hour of balancing: memory, late ticks (MINUTES=60)"
	@echo "make prove-firmware  the board's C for all inputs (Frama-C)"
	@echo "make rehearsal     calibrate the simulated rig by the clock, as a real one"
	@echo "make page-hour     an hour with the live page open"
	@echo "make install       install the systemd service on this machine (asks before it acts)"

setup: $(FULL)

# What `make run` needs; a half-made environment (no pip) is made anew.
$(BASE): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "cartpole needs Python 3.11 or newer; say where: make PYTHON=python3.12 setup"; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { rm -rf $(VENV); $(PYTHON) -m venv $(VENV); }
	@echo "installing what cartpole needs into $(VENV), about 730 MB"
	@$(PIP) install --no-compile --require-hashes --requirement requirements.lock
	@$(PIP) install --no-compile --no-deps --no-build-isolation --editable .
	@touch $@

# What the tests, benchmarks and optional parts need besides.
$(FULL): $(BASE) requirements-full.lock requirements-torch.lock
	@echo "installing what the tests need, about 2.4 GB more"
	@$(PIP) install --no-compile --require-hashes --requirement requirements-full.lock
	@$(PIP) install --no-compile --requirement requirements-torch.lock
	@touch $@

# Exact versions with hashes, from pyproject.toml; commit what changes. torch has a file of its own
# without hashes: which of its builds fits, and what that one needs, differs from machine to machine.
lock:
	$(PYTHON) -m venv build/lock && build/lock/bin/pip install --quiet pip-tools
	build/lock/bin/pip-compile $(LOCK) --extra build --output-file requirements.lock pyproject.toml
	build/lock/bin/pip-compile $(LOCK) $(EXTRAS) --constraint requirements.lock \
	  --output-file requirements-full.lock pyproject.toml
	sed -i '/^--find-links/d;/^--extra-index-url/d' requirements.lock requirements-full.lock

# Is there a wheel for a Raspberry Pi (64 bit) of everything that `make run` needs? Installs nothing.
ARM := $(foreach tag,manylinux2014 manylinux_2_17 manylinux_2_28,--platform $(tag)_aarch64)
wheels-arm: $(BASE)
	$(PIP) install --dry-run --ignore-installed --no-deps --only-binary=:all: $(ARM) \
	  --python-version 3.11 --implementation cp --target build/arm --requirement requirements.lock
	@echo "every dependency has an aarch64 wheel"

run: $(BASE)
	$(BIN)/cartpole run --config config/sim.yaml --duration 20

test: lint types unit

quick: types
	$(BIN)/pytest -n 2 $(PURE)

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: setup
	$(BIN)/mypy

# The kernels are compiled once, before the workers want them. Real-time tests share no processor
# with others: they run after the parallel ones, alone.
unit: setup
	$(BIN)/cartpole simulate --config config/sim.yaml --duration 1 --set sim.pictures=rendered
	$(BIN)/pytest -n 2 -m "not realtime"
	$(BIN)/pytest -m realtime --reruns 2

# All but the two hours, which have targets of their own, and what needs a real rig's recordings.
bench: setup
	mkdir -p build
	for name in $(filter-out $(addprefix benchmarks/,page_hour.py soak.py real_recordings.py), $(wildcard benchmarks/*.py)); do \
	  $(BIN)/python $$name --json build/$$(basename $$name .py).json || exit 1; done

page-hour: setup
	mkdir -p build
	$(BIN)/python benchmarks/page_hour.py --json build/page_hour.json

# Every guided motion on the simulated rig by the clock, over its serial ports: a few minutes.
rehearsal: setup
	mkdir -p build
	$(BIN)/cartpole calibrate all --real-time --config config/sim.yaml \
	  --set session.folder=build/rehearsal --json build/rehearsal.json --plot build/rehearsal.png

# The long forms of what the tests do in short; figures go into docs/results.md.
test-long: setup
	CARTPOLE_MUTATIONS=1000000 $(BIN)/pytest tests/test_firmware_protocol.py -k mutants
	CARTPOLE_SESSIONS=100 $(BIN)/pytest tests/test_session_real_core.py
	CARTPOLE_FLIPS=4000 $(BIN)/pytest tests/test_session_robust.py -k flipped_bit

# After a change of behaviour that is meant: the flights that the tests hold every change against.
golden: setup
	PYTHONPATH=tests $(BIN)/python -c "import conftest, runpy; \
		runpy.run_module('golden.scenes', run_name='__main__')"

# One change at a time to code that guards the rig; each is noticed by the test that its line names.
mutants: setup
	$(BIN)/python tests/mutants/run.py

# Mutated files: a result or one line, and nothing is called whole that is not.
fuzz: setup
	mkdir -p build
	$(BIN)/python tests/fuzz/run.py --cases $(or $(CASES),10000) --json build/fuzz.json

# What can be read of a recording when its daemon was killed, or its machine lost its power.
kills: setup
	mkdir -p build
	$(BIN)/python tests/kills/run.py --kills 200 --cuts 200 --json build/kills.json

# The real daemon struck in mid-flight, on text boards and on the real firmware. Cut off, it goes on
# where it was.
blows: setup
	mkdir -p build
	PYTHONPATH=tests $(BIN)/python -m blows.run --runs $(or $(RUNS),200) --json build/blows.json

soak: setup
	mkdir -p build
	$(BIN)/python benchmarks/soak.py --minutes $(or $(MINUTES),60) --json build/soak.json \
	  --plot build/soak.png

# Needs frama-c-base and cvc4 from Debian; says so where they are missing.
prove-firmware: setup
	PYTHONPATH=tests $(BIN)/python -m firmware_proof.run

# Random rigs that lie and break. Cut off, it goes on where it was.
campaign: setup
	mkdir -p build
	$(BIN)/cartpole campaign --runs $(or $(RUNS),1000) --resume build/campaign.jsonl --shrink 3 \
	  --json build/campaign.json --plot build/campaign.png

test-drivers: setup
	PYTHONPATH=tests $(BIN)/python -m drivers.run

install: setup
	$(BIN)/cartpole service install

clean:
	rm -rf build .mypy_cache .ruff_cache .pytest_cache
