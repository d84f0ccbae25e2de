# make env: .venv, from the pinned lock, with uv where it is present, else with pip.
# make demo: from nothing to a report.  make test: everything that CI checks.  Both set up .venv first.

PYTHON ?= python3.12
CORES ?= 2
VENV := .venv
LOCK := envs/requirements.lock
CONDA := envs/environment.yaml
RUN := $(VENV)/bin
PEER := .peer
ROOMS := artifacts corpora spidr units slm eval workflow

.PHONY: env demo test test-slow test-slurm peer test-peer lint unlock lock clean

env: $(VENV)/.ready

demo: $(VENV)/.ready
	$(RUN)/snakemake -c $(CORES) all --configfile config/demo.yaml
	@echo "report   results/demo/report.html"
	@echo "tables   results/demo/tables/   figures  results/demo/figures/   scores   results/demo/scores.csv"

# Files of tests are shared out among as many processes as there are cores, in the order of tests/conftest.py. One that
# hangs fails after ten minutes, with the place where it hangs.
test: lint
	$(RUN)/pytest -n $(CORES) --dist loadfile --no-loadscope-reorder --timeout 600

test-slow: $(VENV)/.ready
	$(RUN)/pytest -m slow

# A throw-away Slurm of two nodes on this machine: needs root and Debian's packages (tests/slurm/cluster.py).
test-slurm: $(VENV)/.ready
	$(RUN)/pytest -m slurm tests/slurm

# The authors' package (CC BY-NC) has our import name: it lies in an environment of its own, for comparisons only.
peer: $(PEER)/.ready

test-peer: $(VENV)/.ready peer
	SPIDR_PEER=$(PEER)/bin/python $(RUN)/pytest -m peer

lint: $(VENV)/.ready
	$(RUN)/ruff format --check .
	$(RUN)/ruff check .
	$(RUN)/mypy
	$(RUN)/snakefmt --check Snakefile workflow/rules
	$(RUN)/snakemake --lint --configfile config/tiny.yaml

# A stale lock is left by a killed snakemake. It is cleared only if no snakemake works in this folder. Jobs that outlived
# it run from .venv: so this one sets up nothing, whatever has become of the lock of packages since.
unlock:
	$(RUN)/python -m workflow.unlock

$(VENV)/.ready: $(LOCK)
	$(PYTHON) -m venv --clear $(VENV)
	@if command -v uv > /dev/null; then \
	  VIRTUAL_ENV=$(VENV) uv pip sync --require-hashes $(LOCK); \
	else \
	  $(RUN)/python -m pip install --require-hashes --no-deps -r $(LOCK); \
	fi
	touch $@

# With the lock's torch, so that differences are not torch's.
$(PEER)/.ready: $(LOCK)
	$(PYTHON) -m venv --clear $(PEER)
	@torch=$$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' $(LOCK)); \
	if command -v uv > /dev/null; then \
	  VIRTUAL_ENV=$(PEER) uv pip install spidr==0.2.0 $$torch; \
	else \
	  $(PEER)/bin/python -m pip install spidr==0.2.0 $$torch; \
	fi
	touch $@

# Resolve the lock anew from pyproject.toml (needs uv).
lock:
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.12 --generate-hashes \
	  --no-emit-index-url --no-header -o $(LOCK)
	$(MAKE) $(CONDA)

# The lock's versions, behind what conda itself installs: snakemake copies this file to where no other lies beside it.
$(CONDA): $(LOCK)
	{ sed '/- pip:$$/q' $@; sed -n 's/^\([A-Za-z0-9].*[^ ]\) *\\$$/      - "\1"/p' $<; } > $@.new
	mv $@.new $@

clean:
	rm -rf $(VENV) $(PEER) .snakemake
