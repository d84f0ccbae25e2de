# make demo: from nothing to a report.  make test: everything that CI checks.
# Both set up .venv first, from the pinned lock, with uv where it is present, else with pip.

PYTHON ?= python3.12
CORES ?= 2
VENV := .venv
LOCK := envs/requirements.lock
RUN := $(VENV)/bin
PEER := .peer
ROOMS := artifacts corpora spidr units slm eval workflow

.PHONY: demo test test-slow test-slurm peer test-peer lint unlock lock clean

demo: $(VENV)/.ready
	$(RUN)/snakemake -c $(CORES) all --configfile config/demo.yaml
	@echo "report   results/demo/report.html"
	@echo "tables   results/demo/tables/   figures  results/demo/figures/   scores   results/demo/scores.csv"

# Files of tests are shared out among as many processes as there are cores.
test: lint
	$(RUN)/pytest -n $(CORES) --dist loadfile

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

clean:
	rm -rf $(VENV) $(PEER) .snakemake
