# Each target does its own set-up: Python 3.11 or newer, git and make are enough.

PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
# One more than most machines of CI have cores: tests often wait.
JOBS ?= 3

.PHONY: demo check test drill bench quart-suite docs pictures lint clean

# Generates a service with all backends and runs it; DIR=folder says where to,
# CHECK=1 asks it a few questions instead, prints the answers and stops it.
demo: $(READY)
	$(VENV)/bin/python demo.py $(if $(DIR),--dir "$(DIR)") $(if $(CHECK),--check)

# The quick tier, for the edit loop.
check: $(READY) lint
	$(VENV)/bin/pytest -n $(JOBS) -m "not slow"

# Everything but the drill.
test: $(READY) lint
	$(VENV)/bin/pytest -n $(JOBS) -m "not alone"

# A service under load while its backends are killed and frozen; for a machine that does nothing else.
drill: $(READY)
	$(VENV)/bin/pytest -m alone

# The service beside others; for a machine that does nothing else. QUICK=1 runs a part of it.
bench: $(READY)
	$(VENV)/bin/python -m benchmarks $(if $(QUICK),--quick)

# Quart's own tests with the connection class of a service, on both versions; REPOSITORY=folder takes
# the tests from a clone, COMMIT= from a commit of it.
quart-suite: $(READY)
	$(VENV)/bin/python -m benchmarks.quart_suite $(REPOSITORY) $(COMMIT)

# The guide as a site, in site/, with its reference made anew; a broken link is an error.
docs: $(READY)
	PYTHONPATH=tests $(VENV)/bin/python -m reference --write
	$(VENV)/bin/zensical build --clean --strict

# The README's pictures, from a real session; it needs Chromium.
pictures: $(READY)
	PYTHONPATH=tests $(VENV)/bin/python -m pictures

lint: $(READY)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV) .cache demo-service site

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "make: Python 3.11 or newer is needed; say which with PYTHON=")'
	@test -x $(VENV)/bin/uv || $(PYTHON) -m venv $(VENV) || \
	  { echo "make: $(PYTHON) cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@test -x $(VENV)/bin/uv || $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv
	@UV_PROJECT_ENVIRONMENT=$(VENV) $(VENV)/bin/uv sync --quiet --inexact --no-install-project --python $(VENV)/bin/python
	@touch $(READY)
