# Conclave. Needs Python 3.11–3.13 with venv, and make; nothing else.
#   make run      set up and start the whole system on paper, http://127.0.0.1:8000
#   make test     set up and pass the tests that take minutes; make test-long passes more
PY := .venv/bin/python
ARGS ?=
# tests run in so many processes (many of them wait), a file's in one, so that what they share is made
# once; those of the running system alone, because it keeps deadlines
JOBS ?= 3
PYTEST := $(PY) -m pytest -q
SPREAD := -n $(JOBS) --dist loadfile --ignore=tests/acceptance
QUICK := not slow and not soak and not browser and not postgres
DEMO_BARS := var/data/demo/BTCUSDT-demo-spot-5m.parquet
PACKAGES := agents consensus data domain execution notifications rl serving sim storage
export TRIALS_LOG ?= docs/trials.csv
export PYTHON PIP_ARGS
export RAY_USAGE_STATS_ENABLED := 0
# threads that wait must not burn a shared core
export OMP_WAIT_POLICY ?= passive

# with ARGS in one process, as they stand; else in two parts, of which both are run; whatever the
# environment says, tests are compiled once, not by each process anew
define tested
	@export TRIALS_LOG= OMP_NUM_THREADS=1; unset PYTHONDONTWRITEBYTECODE; \
	$(if $(strip $(ARGS)),$(PYTEST) $(1) $(ARGS),\
	$(PYTEST) $(1) $(SPREAD); first=$$?; \
	$(PYTEST) $(1) tests/acceptance && exit $$first)
endef

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev run test test-long test-all check fmt bench soak train-rl clean

help: ## show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

setup: ## make .venv with what running needs
	@sh scripts/setup.sh runtime

setup-dev: ## make .venv with what testing needs
	@sh scripts/setup.sh dev

run: setup ## start everything on paper (ARGS="--profile balanced" passes flags to `conclave up`)
	@$(PY) -m serving.cli up $(ARGS) || [ $$? -eq 130 ] # Ctrl-C is a normal end

test: setup-dev ## the tests that are done in minutes; ARGS are pytest's
	$(call tested,-m "$(QUICK) and not long")

test-long: setup-dev ## these and those that take seconds each: what CI runs
	$(call tested,-m "$(QUICK)")

test-all: setup-dev ## every test this machine can run
	$(call tested)

check: setup-dev ## format, lint, types, import contracts
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-logo

fmt: setup-dev ## format and fix what can be fixed
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

train-rl: ## train the gate for half a minute on the simulated market (ARGS are `conclave train gate`'s)
	@sh scripts/setup.sh rl
	@$(PY) scripts/demo_bars.py $(DEMO_BARS) --days 60
	@$(PY) -m serving.cli train gate --data $(DEMO_BARS) --profile exercise --recipe configs/gate.yml \
	  --steps 300000 --end 2100-01-01 $(ARGS)

soak: setup-dev ## let the whole system live for HOURS (2) of wall time at x60 with faults
	@$(PY) -m benchmarks.soak --hours $(or $(HOURS),2) $(ARGS)

bench: setup-dev ## measure speed (benchmarks/)
	@$(PY) -m benchmarks $(ARGS)

clean: ## remove .venv and caches; var/ stays
	@rm -rf .venv *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
