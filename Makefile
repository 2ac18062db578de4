# Each target does its own set-up: Python 3.11 or newer, git and make are enough.

PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
# One more than most CI machines have cores: tests often wait.
JOBS ?= 3

# Modules in these two folders import each other by name.
RUN := PYTHONPATH=tests:tools $(VENV)/bin/python -m

.PHONY: demo check test drill bench docs pictures lint clean

# Generate a service with all backends and run it. DIR=folder: where. CHECK=1: ask it a few questions
# in place of that, print the answers and stop.
demo: $(READY)
	$(VENV)/bin/python tools/demo.py $(if $(DIR),--dir "$(DIR)") $(if $(CHECK),--check)

# The quick tier, for the edit loop.
check: $(READY) lint
	@$(RUN) sizes
	$(VENV)/bin/pytest -n $(JOBS) -m "not slow"

# Everything but the drill.
test: $(READY) lint
	$(VENV)/bin/pytest -n $(JOBS) -m "not alone"

# A service under load while its backends are killed, frozen and misconfigured. It measures times:
# run nothing else beside it. WRITE=1 keeps the results in benchmarks/results/.
drill: $(READY)
	$(if $(WRITE),$(RUN) drill --write,$(VENV)/bin/pytest -m alone)

# The service beside others. Run nothing else beside it. QUICK=1: a part of it. EQUAL=1: only beside
# those with equal duties. PEERS=1: also beside what other templates generate. In place of that:
# AGAINST=commit: the service beside the one that the template generated at that commit. SCALE=1: more
# processes, and their replacement behind HAProxy. MODELS=1: a row and a document with models and
# without. UPSTREAM=1: what changes in the libraries would save.
bench: $(READY)
ifdef SCALE
	$(RUN) benchmarks.scale
else ifdef UPSTREAM
	$(RUN) benchmarks.upstream
else ifdef MODELS
	$(RUN) benchmarks.models
else ifdef AGAINST
	$(RUN) benchmarks.compare "$(AGAINST)"
else
	$(if $(EQUAL),,$(RUN) benchmarks $(if $(QUICK),--quick))
	$(RUN) benchmarks.equal $(if $(QUICK),--quick) $(if $(PEERS),--peers)
endif

# The guide as a site, in site/, with a new reference and the data of the configurator. A broken link
# is an error.
docs: $(READY)
	$(RUN) reference --write
	$(RUN) configurator
	$(VENV)/bin/zensical build --clean --strict

# The README's pictures, from a real session. It needs Chromium.
pictures: $(READY)
	$(RUN) pictures

lint: $(READY)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	@$(RUN) lint_template

clean:
	rm -rf $(VENV) .cache demo-service site

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "make: Python 3.11 or newer is needed; name it with PYTHON=")'
	@test -x $(VENV)/bin/uv || $(PYTHON) -m venv $(VENV) || \
	  { echo "make: $(PYTHON) has no venv module; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@test -x $(VENV)/bin/uv || $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv
	@UV_PROJECT_ENVIRONMENT=$(VENV) $(VENV)/bin/uv sync --quiet --inexact --no-install-project --python $(VENV)/bin/python
	@touch $(READY)
