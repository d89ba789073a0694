# `make demo` runs the benchmark on phantoms, `make test` the tests.  Each sets itself up in .venv first.
PYTHON ?= python3
CORES ?= 2
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: demo demo-all real test check test-download test-slurm test-kills bench lint format schema clean

demo: .venv/installed
	snakemake --cores $(CORES) --resources gpu=0 --configfile demo/config.yaml --quiet rules host
	@[ results/demo/report.zip -nt results/demo/report/index.html ] || \
	  snakemake --cores 1 --configfile demo/config.yaml --report results/demo/report.zip --quiet
	@python tools/banner.py --results results/demo --report results/demo/report.zip

# every arm on the demo's data, the newer ones too, a few steps each: that they run, not what they are worth
demo-all: demo
	snakemake --cores $(CORES) --resources gpu=0 --quiet rules host \
	  --configfile demo/config.yaml demo/all.yaml studies/newer-arms.yaml demo/newer-arms.yaml

# real scans that need no form: fetched, or from data/raw; hours on two cores (docs/real-scans.md)
real: .venv/installed
	snakemake --cores $(CORES) --resources gpu=0 --configfile real/config.yaml --quiet rules host

test: .venv/installed .venv/axe/installed
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! command -v chromedriver >/dev/null; then \
	  echo "Installing Chromium for the tests of the report ..."; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium chromium-driver; } >/dev/null 2>&1 \
	    || echo "Chromium could not be installed: its tests will be skipped"; fi
	pytest -q -m "not timing"

# the accessibility checker of the report's tests, which are skipped without it
AXE := axe-core-4.10.3.tgz
AXE_SHA512 := 5e6edba515e70d25f6604d9815f064d859c5d1ea7ab661bbc4f87c88779ef0c21cae0abbeb636471ef39e9d62d2582e4b88a1866f19f4ecfcf6d986275e4dc12
.venv/axe/installed: .venv/installed
	@mkdir -p $(@D)
	@if cd $(@D) && npm pack --silent --fetch-retries 1 --fetch-timeout 30000 axe-core@4.10.3 >/dev/null 2>&1 && echo "$(AXE_SHA512)  $(AXE)" | sha512sum --check --quiet \
	  && tar -xzf $(AXE) package/axe.min.js; then touch installed; \
	  else rm -f $(AXE); echo "axe-core could not be fetched with npm: its tests will be skipped"; fi

# for each change: lint, types and the tests that take no time, under three minutes
check: lint
	pytest -q -m "not slow and not timing and not whole_run"

# five cohorts in small from a local server to their stores: about three minutes
test-download: .venv/installed
	pytest -q tests/whole_runs/five_cohorts.py

# a real Slurm on this machine (needs root and Debian's packages; skips with the reason otherwise): about three minutes
test-slurm: .venv/installed
	pytest -q --timeout 900 tests/whole_runs/slurm/on_cluster.py

# kill -9 in every stage of a small run, twelve times: about three minutes
test-kills: .venv/installed
	pytest -q --timeout 1800 tests/whole_runs/kills/killed_runs.py

# what takes how long, on a quiet machine: the tests that compare durations, then our kernels against the usual way with
# well-known packages: minutes; docs/performance.md has a run
bench: .venv/installed .venv/bench/installed
	pytest -q -m timing
	PYTHONPATH=.venv/bench NUMBA_NUM_THREADS=1 python benchmarks/bench.py
	PYTHONPATH=.venv/bench python benchmarks/cores.py

# what only the benchmark compares with, beside the environment
.venv/bench/installed: benchmarks/requirements.lock .venv/installed
	@python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target .venv/bench --requirement benchmarks/requirements.lock
	@touch $@

lint: .venv/installed
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile rules
	snakemake --lint
	mypy

format: .venv/installed
	ruff check --fix .
	ruff format .
	snakefmt Snakefile rules

schema: .venv/installed
	python tools/write_schema.py

# pip is quiet but for errors; the first set-up takes a few minutes
.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("uadbench needs Python 3.11 or newer, this is " + sys.version.split()[0] + "; try: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	@echo "Setting up .venv with $(PYTHON): about 180 packages, a few minutes ..."
	@$(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock --editable .
	@touch $@

clean:
	rm -rf results/demo .venv
