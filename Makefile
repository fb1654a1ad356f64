# mintkey: one file of commands. `make help` lists them.
#
# Everything is installed below .venv and target, nothing elsewhere. Needed from outside: Python >= 3.10
# (python3, or PYTHON=/path/to/python), a Rust toolchain with clippy and rustfmt, a C compiler.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := build
MAKEFLAGS += --no-builtin-rules --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# maturin installs into the environment that VIRTUAL_ENV names, and refuses a second one next to it.
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
unexport CONDA_PREFIX PYTHONHOME PYTHONPATH
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_QUIET := 1
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
# clippy looks at the binding against the same Python that the build uses.
export PYO3_PYTHON := $(CURDIR)/$(BIN)/python

RUST_SOURCES := Cargo.toml Cargo.lock pyproject.toml $(shell find crates -name '*.rs' -o -name Cargo.toml -o -name build.rs)
PURE_CRATES := --workspace --exclude mintkey-python

# Both profiles install the same module, so building one takes away the mark of the other.
RELEASE := $(VENV)/.built-release
QUICK := $(VENV)/.built-quick

##@ Use
.PHONY: build demo
build: $(RELEASE)  ## make .venv with the release build installed
	@echo "mintkey is installed in $(VENV): try $(BIN)/python -m mintkey.demo"

demo: $(RELEASE)  ## build, then the main job on a file of the embedded store
	@$(BIN)/python -m mintkey.demo

##@ Work
.PHONY: bench check test rust lint types format lock clean help
check: $(QUICK)  ## the quick loop: fast build, the blocking half of the tests on the embedded store
	$(BIN)/python -m pytest -q --numprocesses $$(nproc) -m "not slow" -k "not async- and not redis and not dynamodb" \
		tests/model tests/behaviour tests/house

# The development build checks for overflows, and shares the compiled crates with the tests in Rust. Two jobs at a time:
# compilers and tests often wait on one processor. For the same reason pytest runs one process more than there are
# processors. The last line is pytest's.
test: $(VENV)/.ready  ## everything: lints, types, Rust and Python tests
	$(MAKE) lint
	$(MAKE) --jobs=2 --output-sync=line rust fuzz-short $(QUICK)
	$(MAKE) types
	$(BIN)/python tests/servers run $(BIN)/python -m pytest --numprocesses $$(($$(nproc) + 1))

rust: $(VENV)/.ready  ## clippy, and the tests of the crates without Python
	cargo clippy --workspace --all-targets --profile quick --locked -- -D warnings
	$(BIN)/python tests/servers run cargo test $(PURE_CRATES) --profile quick --locked --quiet

lint: $(VENV)/.ready  ## rustfmt, ruff, licences of the Rust crates
	cargo fmt --all --check
	$(BIN)/python tools/rust_notices.py --check
	$(BIN)/ruff check --quiet
	$(BIN)/ruff format --check --quiet

# The decorator of disjoint bases is unknown to older type checkers, which would take `Model` for Any.
types: $(VENV)/.ready  ## mypy and pyright, also for the programs of the guides; the stubs against the compiled module
	@test -e $(RELEASE) -o -e $(QUICK) || { echo "types: run 'make build' or 'make check' first" >&2; exit 1; }
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest --ignore-disjoint-bases mintkey._core
	$(BIN)/pyright
	$(BIN)/python tools/guide_programs.py target/guides
	$(BIN)/mypy --config-file tests/types/with_plugin.ini target/guides examples
	$(BIN)/pyright target/guides

.PHONY: wheels
wheels: $(VENV)/.ready  ## dist: a source distribution, and a wheel for each Python that is found, each tried
	@$(BIN)/python -m pip install --require-hashes --requirement requirements/wheels.txt
	$(BIN)/python tools/wheels.py dist

.PHONY: docs pictures
# A test builds the site too, and checks what it contains.
docs: $(VENV)/.ready  ## the documentation site, in target/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "open target/site/index.html"

pictures: $(VENV)/.ready  ## draw docs/pictures/*.svg from the *.dot next to them; needs Graphviz
	$(BIN)/python tools/pictures.py

.PHONY: servers servers-stop
servers: $(VENV)/.ready  ## leave the tests' servers running; prints the variables by which the tests find them
	@$(BIN)/python tests/servers start

servers-stop:  ## end those
	@$(PYTHON) tests/servers stop

# pytest would end a test that takes longer than a hang is given.
.PHONY: chaos
chaos: $(RELEASE)  ## 20 times the kills and network faults of `make test` (MINTKEY_CHAOS=20)
	MINTKEY_CHAOS=$${MINTKEY_CHAOS:-20} $(BIN)/python tests/servers run \
		$(BIN)/python -m pytest -o faulthandler_timeout=0 tests/chaos \
		tests/behaviour/test_transactions_meanwhile.py

.PHONY: fuzz fuzz-short bench-ids notices audit
fuzz:  ## a minute of random input for each reader of ids, stored JSON, cursors, URLs and HTTP responses
	fuzz/run.sh 60

fuzz-short:
	fuzz/run.sh repeatable

bench-ids: $(RELEASE)  ## each strategy compared with a C baseline and with other packages
	@$(BIN)/python -m pip install --require-hashes --requirement requirements/bench.txt
	$(BIN)/python benchmarks/ids

bench: $(RELEASE)  ## models and stores compared with the raw drivers and with other packages
	@$(BIN)/python -m pip install --require-hashes --requirement requirements/bench.txt
	$(BIN)/python benchmarks/stores

format: $(VENV)/.ready  ## rustfmt, ruff: write instead of check
	cargo fmt --all
	$(BIN)/ruff check --fix --exit-zero --quiet
	$(BIN)/ruff format --quiet

notices: $(VENV)/.ready  ## THIRD-PARTY-NOTICES.txt, after a change of Cargo.lock
	$(BIN)/python tools/rust_notices.py

audit:  ## known faults of the Rust crates, for a release; needs cargo-deny and a network
	@cargo deny --version >/dev/null || { echo "audit: run 'cargo install --locked cargo-deny' first" >&2; exit 1; }
	cargo deny --locked check advisories bans sources
	cargo deny --locked --manifest-path fuzz/Cargo.toml check advisories bans sources

# Bench requirements have their own lock: their packages need a newer Python than mintkey does.
LOCK := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url \
	--custom-compile-command "make lock" --upgrade
lock: $(VENV)/.ready  ## update the lock files of requirements/ to the newest versions
	cd requirements && ../$(LOCK) --python-version 3.10 dev.in --output-file dev.txt
	cd requirements && ../$(LOCK) --python-version 3.11 bench.in --output-file bench.txt
	cd requirements && ../$(LOCK) --python-version 3.10 wheels.in --output-file wheels.txt

clean:  ## remove what the commands above made
	rm -rf $(VENV) target dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	rm -f python/mintkey/_core*.so

help:  ## this list
	@awk 'BEGIN { FS = ":.*##" } \
		/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*##/ { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The three marks: requirements installed, release built, quick built.
$(VENV)/.ready: requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("mintkey needs Python >= 3.10, this is " \
		+ sys.version.split()[0] + "; name another: make PYTHON=/path/to/python")'
	@$(BIN)/python -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV) \
		|| { echo "Python cannot make a virtual environment; on Debian: apt install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install --require-hashes --requirement requirements/dev.txt
	@touch $@

$(RELEASE): $(VENV)/.ready $(RUST_SOURCES)
	@rm -f $(QUICK)
	$(BIN)/maturin develop --release --locked --extras cli
	@touch $@

$(QUICK): $(VENV)/.ready $(RUST_SOURCES)
	@rm -f $(RELEASE)
	$(BIN)/maturin develop --profile quick --locked --extras cli
	@touch $@
