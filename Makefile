# Two commands do all the set-up on a fresh machine with Python 3.11+: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
COMPILED_TESTS ?= $(wildcard $(addprefix tests/,protocol core policies composition downstream upstream relay telemetry hostile))
STAMP := $(VENV)/.installed
# most tests wait for processes and sockets; a file's tests stay together, as they share what they start
PYTEST := $(BIN)/pytest -n logical --dist loadfile

.PHONY: help demo test compiled test-compiled check fast format bench mutate fuzz nightly pin-images clean
help:            ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml constraints.txt
	@echo "setting up $(VENV) (once, about a minute) ..."
	@$(PYTHON) -c 'import sys; sys.exit("weir needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	@$(PYTHON) -m venv $(VENV)
	@test -t 1 && tty=1 || tty=0; \
	{ $(BIN)/pip install --progress-bar off --disable-pip-version-check -c constraints.txt -e '.[dev]' \
	    && touch $@; } 2>&1 | tee $(VENV)/install.log | awk -v tty=$$tty \
	    '/^Collecting/ {n++; if (tty) printf "\r  %3d packages, now %-40s", n, $$2} \
	     /^Installing collected/ {printf "%s  %3d packages found, installing them ...%40s\n", tty ? "\r" : "", n, ""}'
	@test -e $@ || { tail -20 $(VENV)/install.log; exit 1; }

demo: $(STAMP)   ## a demo server, weir before it, traffic, and what weir saw
	@$(BIN)/weir demo

test: $(STAMP)   ## the whole suite; what it needs from PyPI and npm is installed, its last lines name the rest
	@tests/install.sh
	$(PYTEST)

# made again when a source is newer than it
COMPILED := .compiled/.made
$(COMPILED): $(STAMP) hatch_build.py pyproject.toml $(shell find src -name '*.py')
	@echo "compiling the data path into .compiled (a minute and a half) ..."
	@rm -rf .compiled
	@HATCH_BUILD_HOOKS_ENABLE=true PIP_CONSTRAINT=$(CURDIR)/constraints.txt \
	    $(BIN)/pip install -q --disable-pip-version-check --no-deps --target .compiled .
	@touch $@

compiled: $(COMPILED) ## weir with its data path compiled, in .compiled: needs a C compiler

test-compiled: $(COMPILED) ## the tests of the data path against the compiled form
	PYTHONPATH=$(CURDIR)/.compiled $(PYTEST) $(COMPILED_TESTS)

fast: $(STAMP)   ## only what needs no real clients, servers and conformance suite
	$(PYTEST) --ignore=tests/conformance --ignore=tests/clients --ignore=tests/e2e

check: $(STAMP)  ## format, lint, types, import rules, shape
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/architecture

format: $(STAMP) ## put the source into its form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(COMPILED) ## the tables of speed and memory, against nginx, Envoy and other MCP proxies
	bench/setup.sh
	$(BIN)/python -m bench

mutate: $(STAMP) ## mutants of the pure parts, and how many the tests kill; ONLY="breaker sse": of these files
	@$(BIN)/python -c 'import mutmut' 2> /dev/null || $(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[mutate]'
	@nice -n 10 $(BIN)/python -m mutation $(ONLY)

fuzz: $(STAMP)   ## bytes at every edge of a running weir, for SECONDS (600); FUZZ_SEED repeats a run
	PYTHONPATH=tests FUZZ_SECONDS=$(or $(SECONDS),600) $(BIN)/python fuzz

nightly: $(COMPILED) ## hours: the fuzzers at length, chaos at full size, a soak, mutants
	tests/install.sh
	$(MAKE) fuzz SECONDS=600
	WEIR_CHAOS_CALLS=10000 $(PYTEST) --timeout=3600 tests/chaos
	WEIR_CHAOS_CALLS=100000 $(PYTEST) --timeout=14400 tests/chaos/test_chaos.py
	$(MAKE) mutate

pin-images:      ## write the digests of the container images into the compose file and the Dockerfile
	@$(PYTHON) grafana/pin_images.py

clean:           ## remove what was made here
	rm -rf $(VENV) .bench .compiled mutants build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
