# make demo: from nothing to a report.  make test: everything that CI checks.
# Both set up .venv first, from the pinned lock, with uv where it is present, else with pip.

PYTHON ?= python3.12
CORES ?= 2
VENV := .venv
LOCK := envs/requirements.lock
RUN := $(VENV)/bin
ROOMS := artifacts corpora spidr units slm eval workflow

.PHONY: demo test test-slow lint unlock lock clean

demo: $(VENV)/.ready
	$(RUN)/snakemake -c $(CORES) all --configfile config/demo.yaml
	$(RUN)/python -m workflow.summary --experiment demo

test: lint
	$(RUN)/pytest

test-slow: $(VENV)/.ready
	$(RUN)/pytest -m slow

lint: $(VENV)/.ready
	$(RUN)/ruff format --check .
	$(RUN)/ruff check .
	$(RUN)/mypy
	$(RUN)/snakefmt --check Snakefile workflow/rules
	$(RUN)/snakemake --lint --configfile config/tiny.yaml

# A stale lock is left by a killed snakemake. It is cleared only if no snakemake works in this folder.
unlock: $(VENV)/.ready
	$(RUN)/python -m workflow.unlock

$(VENV)/.ready: $(LOCK)
	$(PYTHON) -m venv --clear $(VENV)
	@if command -v uv > /dev/null; then \
	  VIRTUAL_ENV=$(VENV) uv pip sync --require-hashes $(LOCK); \
	else \
	  $(RUN)/python -m pip install --require-hashes --no-deps -r $(LOCK); \
	fi
	touch $@

# Resolve the lock anew from pyproject.toml (needs uv).
lock:
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.12 --generate-hashes \
	  --no-emit-index-url --no-header -o $(LOCK)

clean:
	rm -rf $(VENV) .snakemake
