# What one does with this repository. Everything is installed into .venv from the lock in requirements/; nothing else
# on the machine is touched, but for Debian packages that are missing, and these only as root (tools/install).
#
#   make run   [ARGS=…]   a homeserver for people, at http://localhost:8008     (super-app up)
#   make demo  [ARGS=…]   two federated homeservers with people and money      (super-app demo)
#   make test  [ARGS=…]   all checks and all tests; ARGS go to pytest
#   make check            format, lint, types, import contracts
#   make web              the web app anew, as the module serves it; commit what comes of it
#   make format           write what `make check` would find fault with in the format
#   make livekit          build the LiveKit that the tests of calls of many use (Go, some minutes, once)
#   make element ELEMENT=DIR   walk through what people see in a real Element Web, a build of which is in DIR; keeps pictures
#   make simulate [SEEDS=…] [ARGS=…]   long runs of the clearing simulator
#   make search           every state of a payment beside a restore; takes minutes
#   make walk             what docs/admin.md tells about two homeservers with workers, typed into a fresh clone
#   make drill [ARGS=…]  lose the database of a homeserver with money and bring it back from a backup, by the clock
#   make soak [ARGS=…]   people on two homeservers with workers while all of it is broken; ARGS=--help for the sizes
#   make fuzz [EXAMPLES=…]   requests from nowhere at every route, and bytes at every parser that meets the network
#   make fuzz-http [ARGS=…]   schemathesis on a running homeserver, from its OpenAPI document; no 5xx but by name
#   make fuzz-coverage [SECONDS_EACH=…]   atheris (libFuzzer) on every parser that meets the network
#   make audit            known faults of our dependencies, Python and web, asked of OSV or the package registries
#   make compatibility    the oldest and the newest Synapse that we support: the probe, and two homeservers that pay
#   make newest           the newest Synapse there is, and which features would go off with it
#   make mutate           change the rules of money one by one, and see whether a test notices
#   make bench [ONLY=…]   the benchmarks, or those whose name begins so
#   make lock             new versions of all dependencies, within pyproject.toml
#   make clean            remove .venv and what the tools have left; keeps data/

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run demo test check web check-web format simulate search walk drill soak fuzz fuzz-http fuzz-coverage compatibility newest audit mutate bench lock clean install-run install-dev install-postgresql install-redis install-chromium install-nodejs install-coturn livekit element

# Another project's environment must not leak into this one. Nor must the wish to write no bytecode, which container
# images are fond of: every process that imports Synapse would compile all of it anew, which takes longer than the rest.
unexport PYTHONHOME PYTHONPATH PYTHONSTARTUP VIRTUAL_ENV PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
ARGS ?=
ELEMENT ?=
ONLY ?=
SEEDS ?= 1000
EXAMPLES ?= 1000
SECONDS_EACH ?= 20

help:
	@sed -n 's/^#   //p' Makefile

install-run:
	@tools/install run

install-dev:
	@tools/install dev

install-postgresql:
	@tools/install postgresql

install-redis:
	@tools/install redis

install-chromium:
	@tools/install chromium

install-nodejs:
	@tools/install nodejs

install-coturn:
	@tools/install coturn

livekit:
	@tools/install livekit

element: install-dev install-chromium install-nodejs
	@SUPER_APP_ELEMENT="$(ELEMENT)" exec $(BIN)/pytest -n 0 -rs -p no:randomly tests/browser/test_walk_in_element.py $(ARGS)
	@echo "super-app: the pictures are in build/screenshots/element" >&2

# exec, so that Ctrl-C and SIGTERM reach the command itself.
run: install-run
	@exec $(BIN)/super-app up $(ARGS)

demo: install-run $(if $(findstring postgresql,$(ARGS)),install-postgresql)
	@exec $(BIN)/super-app demo $(ARGS)

test: check check-web install-postgresql install-redis install-coturn install-chromium install-nodejs
	@echo "super-app: running the tests" >&2
	@exec $(BIN)/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder $(ARGS)

check: install-dev
	@failed=; try() { echo "super-app: $$*" >&2; "$(BIN)/$$@" || failed="$$failed $$1"; }; \
	try ruff format --check --quiet .; \
	try ruff check --quiet .; \
	try lint-imports --no-logo; \
	try mypy; \
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 try pyright; \
	if [ -n "$$failed" ]; then echo "super-app: these found fault:$$failed" >&2; exit 1; fi

web: install-dev
	@tools/web build

check-web: install-dev
	@tools/web check

format: install-dev
	@$(BIN)/ruff check --quiet --fix .
	@$(BIN)/ruff format .
	@tools/web format

simulate: install-dev
	@exec $(BIN)/python tests/simulator 0 $(SEEDS) $(ARGS)

search: install-dev
	@exec $(BIN)/pytest -m thorough tests/models

# Only the Python of this machine: what it takes is installed by the page itself.
walk:
	@exec python3 tests/system/walk.py $(ARGS)

drill: install-dev install-postgresql
	@PYTHONPATH=.:tests/system exec $(BIN)/python tests/system/drill.py $(ARGS)

soak: install-dev install-postgresql install-redis
	@PYTHONPATH=.:tests/system exec $(BIN)/python tests/system/soak.py $(ARGS)

fuzz: install-dev
	@FUZZ_EXAMPLES=$(EXAMPLES) exec $(BIN)/pytest -n 2 tests/modules/test_api_fuzz.py tests/modules/test_federation_fuzz.py \
		tests/unit/test_parsers_fuzz.py $(ARGS)

# Both tools come from the package registry, in these versions, into folders of their own beside the environment.
fuzz-http: install-dev
	@.venv/installer/bin/uv pip install --quiet --python $(BIN)/python --target .venv/schemathesis schemathesis==4.32.5
	@exec $(BIN)/python tests/system/schema_fuzz.py $(ARGS)

fuzz-coverage: install-dev
	@.venv/installer/bin/uv pip install --quiet --python $(BIN)/python --only-binary :all: --target .venv/atheris atheris==3.0.0
	@PYTHONPATH=.venv/atheris exec $(BIN)/python tests/unit/coverage_fuzz.py --seconds-each $(SECONDS_EACH) $(ARGS)

# Ends of the range that pyproject.toml and docs/admin.md state.
OLDEST_SYNAPSE := 1.161.0
NEWEST_SYNAPSE := 1.163.2
compatibility: install-run
	@tools/compatibility $(OLDEST_SYNAPSE) $(NEWEST_SYNAPSE)

newest: install-run
	@tools/compatibility newest

# Asks OSV, or failing that the package registries, for advisories. What they do not tell is said, and is no pass.
audit: install-run
	@exec $(BIN)/python tools/audit $(ARGS)

mutate: install-dev
	@.venv/installer/bin/uv pip install --quiet --python $(BIN)/python --require-hashes --only-binary :all: \
		--target .venv/mutation --requirement requirements/mutation.txt
	@rm -rf mutants
	@PYTHONPATH=.venv/mutation exec $(BIN)/python -m mutmut run $(ARGS)

bench: install-dev install-postgresql
	@PYTHONPATH=.:tests/system exec $(BIN)/python -m benchmarks $(ONLY)

UV_COMPILE := .venv/installer/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command 'make lock'
lock: install-run
	$(UV_COMPILE) requirements/installer.in --output-file requirements/installer.txt
	$(UV_COMPILE) pyproject.toml --extra postgresql --extra workers --group build --output-file requirements/run.txt
	$(UV_COMPILE) pyproject.toml --extra postgresql --extra workers --group dev --constraint requirements/run.txt \
		--output-file requirements/dev.txt
	$(UV_COMPILE) --group mutation --constraint requirements/dev.txt --output-file requirements/mutation.txt
	$(UV_COMPILE) --group image --constraint requirements/run.txt --output-file requirements/image.txt

clean:
	rm -rf .venv .install.lock build dist mutants web/node_modules web/src/schema.ts .mypy_cache .ruff_cache .pytest_cache .hypothesis .schemathesis .import_linter_cache
