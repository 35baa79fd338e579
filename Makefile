PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCE ?= /usr/share

# Compiled modules are kept: without them every program compiles all of its own at each start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo demo-vm test test-kills soak-kills test-api-fuzz test-vm test-az lint bench bench-tools bench-files bench-vm bench-catalog bench-index lock clean test-power test-sim soak soak-mutants

# Tests leave trees that only rm can remove (paths far beyond any limit), so their folder goes at the end.
PYTEST = @folder=$$(mktemp -d) && { $(BIN)/python -m pytest -q --tb=native -n 2 --basetemp="$$folder/tests"

setup: $(VENV)/.ready

$(VENV)/.ready: requirements/dev.lock pyproject.toml
	@echo "setting up $(VENV) (hash-pinned dependencies)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup
	@$(BIN)/python tools/demo.py --source "$(SOURCE)"

demo-vm: setup
	@$(BIN)/python tools/demo_vm.py

test: setup
	$(PYTEST) --ignore=tests/recovery --ignore=tests/vm --ignore=tests/az; code=$$?; rm -rf "$$folder"; exit $$code; }

# The vault store under a deterministic simulation, by seed: of CI, of a night, and sabotaged.
SIMULATION = $(BIN)/python -m holdfast.testing.simulation
CORES ?= $(shell nproc 2>/dev/null || echo 2)
SEEDS ?= 10000
START ?= 0

test-sim: setup
	$(SIMULATION) --seeds 300 --workers $(CORES)

soak: setup
	$(SIMULATION) --seeds $(SEEDS) --start $(START) --workers $(CORES) --notes .soak.json

soak-mutants: setup
	$(SIMULATION) --mutants --seeds 300 --workers $(CORES)

test-kills: setup
	$(PYTEST) tests/recovery; code=$$?; rm -rf "$$folder"; exit $$code; }

# The power fails before every write, fsync, link and unlink; make test tries some of them.
test-power: export HOLDFAST_EVERY_POWER_CUT = 1
test-power: setup
	$(PYTEST) tests/fault/test_power_cut.py; code=$$?; rm -rf "$$folder"; exit $$code; }

# Four times the kills of test-kills, for a night: soak-kills TIMES=10 for more.
TIMES ?= 4
soak-kills: export HOLDFAST_TEST_KILLS = $(TIMES)
soak-kills: test-kills

# Requests made from the API's description, EXAMPLES of each operation; SEED=N draws others.
EXAMPLES ?= 50
SEED ?= 1
test-api-fuzz: export HOLDFAST_TEST_EXAMPLES = $(EXAMPLES)
test-api-fuzz: export HOLDFAST_TEST_SEED = $(SEED)
test-api-fuzz: setup
	$(PYTEST) tests/integration/test_api_described.py; code=$$?; rm -rf "$$folder"; exit $$code; }

test-vm: setup
	$(PYTEST) tests/vm; code=$$?; rm -rf "$$folder"; exit $$code; }

# The tests of a file share one vault and one profile of az, so a file stays with its worker.
test-az: setup .venv-az/.ready
	$(PYTEST) --dist loadfile tests/az; code=$$?; rm -rf "$$folder"; exit $$code; }

.venv-az/.ready: requirements/az.lock
	@echo "setting up .venv-az (azure-cli, hash-pinned)"
	@test -x .venv-az/bin/python || $(PYTHON) -m venv .venv-az
	@.venv-az/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r requirements/az.lock
	@touch $@

# Peers of make bench, pinned, built from their languages' registries (half an hour).
GO ?= go
CARGO ?= cargo
bench-tools: setup
	$(BIN)/python bench/bench_tools.py --go "$(GO)" --cargo "$(CARGO)"

# BENCH="--scale 0.01 --rounds 1" tries it, BENCH=--resume goes on with what ended early.
bench: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.lock
	$(BIN)/python bench/bench.py $(BENCH)

bench-files: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.lock
	$(BIN)/python bench/bench_files.py

bench-vm: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bench.lock
	$(BIN)/python bench/bench_vm.py

bench-index: setup
	$(BIN)/python bench/bench_index.py

bench-catalog: setup
	$(BIN)/python bench/bench_catalog.py

lint: setup
	$(BIN)/ruff check src tests tools bench
	$(BIN)/ruff format --check src tests tools bench
	$(BIN)/mypy
	$(BIN)/lint-imports

lock:
	uv pip compile --quiet --python-version 3.11 --universal --generate-hashes --no-header --no-annotate --no-emit-index-url --extra all --group test --group lint pyproject.toml requirements/build.in -o requirements/dev.lock
	uv pip compile --quiet --python-version 3.11 --universal --generate-hashes --no-header --no-annotate --no-emit-index-url requirements/bench.in -o requirements/bench.lock
	uv pip compile --quiet --python-version 3.11 --universal --generate-hashes --no-header --no-annotate --no-emit-index-url requirements/borg.in -o requirements/borg.lock
	uv pip compile --quiet --python-version 3.11 --universal --generate-hashes --no-header --no-annotate --no-emit-index-url requirements/az.in -o requirements/az.lock

clean:
	rm -rf $(VENV) .venv-az build dist
