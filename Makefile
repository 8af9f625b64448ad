# Two commands for a newcomer: `make run` and `make test`.
PYTHON ?= python3
VENV ?= .venv
# The server under test; name another binary to run the integration tests against it.
WAFFLE_UWSGI ?=
export WAFFLE_UWSGI
# Without compiled modules each process that a test starts compiles the package again.
unexport PYTHONDONTWRITEBYTECODE

# How many tests run at once: not pytest's own `auto`, which counts two threads of a core as one.
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
# More for those that wait for other processes, and for servers most of their time.
MORE_JOBS ?= $(shell expr $(JOBS) + 1)
WAITING_JOBS ?= $(shell expr $(JOBS) + 3)
# What runs them; CI has a wrapper that keeps a record.
PYTEST ?= -m pytest

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help run test quick quick-tests lint-and-types lint types unit integration versions noisy fuzz mutants model bench faults docs dist pictures clean

help:  ## Show this list
	@awk -F':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml integration/axe.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement integration/axe.txt
	touch $@

# pyuwsgi in a virtual environment re-executes the base python on a reload, and
# dies, unless it is told which binary to run.
run: .venv-run/.installed  ## Run the example site on 4 uWSGI workers at http://127.0.0.1:8080
	UWSGI_BINARY_PATH="$(abspath .venv-run/bin/python)" .venv-run/bin/uwsgi --ini uwsgi.ini.example

# Only what the site needs: no test tools, no other servers.
.venv-run/.installed: pyproject.toml
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[uwsgi,admin]'
	touch $@

test: lint types unit integration  ## Lint, types, unit and integration tests

quick: $(STAMP)  ## Before each commit: lint, types, all unit tests that are not slow
	@$(MAKE) --jobs=2 --output-sync=target lint-and-types quick-tests

lint-and-types: lint types

quick-tests:
	$(BIN)/python -m pytest tests -n $(MORE_JOBS) --dist worksteal -m "not slow" -q

lint: $(STAMP)  ## ruff: rules and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## mypy --strict
	$(BIN)/mypy
	$(BIN)/mypy noxfile.py .ci docs/conf.py

unit: $(STAMP)  ## Tests that need no server
	$(BIN)/python $(PYTEST) tests -n $(MORE_JOBS) --dist worksteal

integration: $(STAMP)  ## Tests on real servers: uWSGI, Redis, PostgreSQL, MariaDB, Chromium
	$(BIN)/python $(PYTEST) integration -n $(WAITING_JOBS) --dist worksteal

versions: $(STAMP)  ## On each Python, the lowest and newest versions, each uWSGI
	$(BIN)/nox --no-error-on-missing-interpreters

noisy: $(STAMP)  ## `make test` three times, beside four processes that never rest
	@command -v stress-ng >/dev/null || { echo "stress-ng is missing (Debian: stress-ng)"; exit 1; }
	stress-ng --cpu 4 --timeout 0 --quiet & noise=$$!; trap "kill $$noise" EXIT; \
		for round in 1 2 3; do $(MAKE) test || exit 1; done

fuzz: $(STAMP)  ## Fuzzed input and random histories with fresh seeds; WAFFLE_FUZZ_S=180 ends it
	$(BIN)/python -m tests.support.fuzz_rounds

# More arguments of `python -m mutants`: --count, --seed, --only.
MUTANTS ?=

mutants: $(STAMP)  ## Put small faults into the core: does a test find each of them?
	$(BIN)/python -m mutants $(MUTANTS)

# More than the small search: `whole` takes 20 GB.
MODEL ?= small

model:  ## The protocol of the page, by the model checker spin; MODEL=whole for all of it
	sh tests/process/check_model.sh $(MODEL)

# What is compared has needs of its own; one that can't be installed is left out.
PEERS := $(patsubst %,.venv-bench-%/.installed,waffleconf constance sentry alone)
# More arguments of `python -m bench`: names of benchmarks, --quick, --no-peers.
BENCH ?=

$(VENV)/.bench: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,bench]' \
		&& touch $@ || echo "left out: the plots, because matplotlib can't be installed"

$(PEERS): .venv-bench-%/.installed: bench/peers/%.txt
	$(PYTHON) -m venv $(@D) \
		&& $(@D)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $< \
		&& touch $@ || echo "left out: $*, because it can't be installed"

faults: $(STAMP)  ## Kill, stop, fill and forge around real servers; check every request
	$(BIN)/python -m faults

bench: $(STAMP) $(VENV)/.bench $(PEERS)  ## Benchmarks beside others, in one run; writes docs/bench
	$(BIN)/python -m bench --out docs/bench $(BENCH)

docs: $(STAMP)  ## The docs site in docs/_build; each warning is an error, nothing is fetched
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build

# Read where it is kept, so that wheel, tag and `--version` are compared with it.
VERSION = $$(sed -n 's/^__version__ = "\(.*\)"/\1/p' uwsgi_waffle/version.py)

# The wheel is tried in an environment that has nothing else.
dist: $(STAMP)  ## Wheel and sdist, checked; the README's first app runs from the wheel
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*
	$(PYTHON) -m venv dist/venv
	dist/venv/bin/python -m pip install --quiet --disable-pip-version-check dist/*.whl
	$(BIN)/python -m integration.support.first_steps "$(abspath dist/venv/bin/python)"
	dist/venv/bin/python -m uwsgi_waffle --version | grep -w "$(VERSION)"
	@tag=$$(git describe --exact-match --tags 2>/dev/null) || exit 0; \
		test "$$tag" = "v$(VERSION)" || { echo "the tag is $$tag"; exit 1; }
	rm -rf dist/venv

pictures: $(STAMP)  ## Take the pictures of the admin page for its documentation
	$(BIN)/python -m integration.pictures docs/admin

clean:  ## Remove the virtual environment and caches
	rm -rf $(VENV) .venv-run .venv-bench-* .nox .mypy_cache .pytest_cache .ruff_cache build dist docs/_build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
