# Type `make` for the targets.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# As pip does: a cluster's proxy may have a certificate that only its machines trust.
export UV_SYSTEM_CERTS ?= 1
READY := $(VENV)/.ready
ASSISTANT := $(VENV)/.assistant

.PHONY: help env run status test test-slow reliability audit lint lock clean toy curves app papers results-toy bench-assistant bench-concepts bench-data bench-deployment bench-formats bench-jobs bench-planning bench-prototypes bench-relevance bench-scheduling bench-taps

help:  ## list the targets
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z%-]+):[^#]*## /\1\t/' | expand -t 18

env: $(READY)  ## the environment in .venv (3 minutes, 6.5 GB)

$(READY): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "make: $(PYTHON) is $$($(PYTHON) -V 2>&1); Python 3.11 to 3.13 is needed (make PYTHON=python3.12)" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "make: $(PYTHON) has no venv; install it: apt-get install python3-venv" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check uv
	UV_CACHE_DIR=$(VENV)/.cache $(VENV)/bin/uv pip install --compile-bytecode \
		--python $(VENV)/bin/python --requirement requirements.lock
	rm -rf $(VENV)/.cache
	touch $@

$(ASSISTANT): $(READY) requirements-assistant.lock
	UV_CACHE_DIR=$(VENV)/.cache $(VENV)/bin/uv pip install --compile-bytecode \
		--python $(VENV)/bin/python --requirement requirements-assistant.lock
	rm -rf $(VENV)/.cache
	touch $@

run: $(READY)  ## the whole study of params.yaml, then its table and where the plots are
	@python -m stages.study check
	@dvc repro
	@python -m stages.study table

status: $(READY)  ## what is done, and what would run
	@python -m stages.study status

test: $(ASSISTANT)  ## every test but the slow ones (16 minutes without AVX-512)
	@OMP_NUM_THREADS=1 pytest -n 2 --dist loadfile --ignore tests/pipeline
	@pytest -n 2 tests/pipeline

# A machine can have one SLURM at a time, and its tests mostly wait for it.
test-slow: $(ASSISTANT)  ## the tests that need longer (26 minutes without AVX-512)
	@pytest -m 'slow and slurm' tests/pipeline & slurm=$$!; status=0; \
	OMP_NUM_THREADS=1 nice -n 5 pytest -n 2 --durations=25 -m 'slow and not slurm' || status=$$?; \
	wait $$slurm || status=$$?; exit $$status

lint: $(READY)  ## ruff, snakefmt and snakemake --lint
	ruff check . && ruff format --check .
	snakefmt --check Snakefile
	! { snakemake --lint 2>&1 || true; } | grep -E '^ +\* |Error' | grep -v 'Specify a conda environment or container'

reliability: $(READY)  ## every fault of docs/reliability.md, made for real; writes its table (45 minutes, SLURM as root)
	@FAULTS=docs/reliability.md pytest -m 'slow or fault' tests/pipeline/test_faults.py
	@pytest -m fault tests/pipeline/test_slurm.py tests/pipeline/test_remotes.py

audit: $(READY)  ## known vulnerabilities of the pinned packages (asks pypi.org)
	@uv tool run pip-audit --requirement requirements.lock --no-deps --disable-pip

toy: $(READY)  ## the toy study of Yeom et al. (2021): table and figure in metrics/toy (15 minutes)
	@python -m stages.run toy

curves: $(READY)  ## the study's baselines pruned at once, without fine-tuning (metrics/curves; after make run)
	@python -m stages.run curves

results-toy: $(READY)  ## export the toy study to docs/results-toy.md
	@python -m stages.study export toy --of toy

prototypes-%: $(READY)  ## add the study's ProtoPNets, as %, to docs/results-prototypes.md
	@python -m stages.study export $* --of prototypes

results-%: $(READY)  ## export the study's small results to docs/results/%, with a page: docs/results-%.md, and a line in README.md
	@python -m stages.study export $*
	@python -m stages.study overview

bench-jobs: $(READY)  ## two jobs of one thread at a time against one of two (needs a finished study)
	@python -m benchmarks.jobs

bench-concepts: $(READY)  ## the atlas and conditional heat maps against a pass of LRP (10 minutes)
	@python -m benchmarks.concepts

bench-data: $(READY)  ## preparing data against a bare loop, loading them against a training step (1 minute)
	@python -m benchmarks.data

bench-deployment: $(READY)  ## a network of half the MACs against the whole: ONNX, PyTorch, training (3 minutes)
	@python -m benchmarks.deployment

bench-formats: $(READY)  ## channels_last against contiguous: forward passes, scoring, training (4 minutes)
	@python -m benchmarks.formats

bench-planning: $(READY)  ## Snakemake's plan of studies of 1,000 and 10,000 jobs (2 minutes)
	@python -m benchmarks.planning

bench-prototypes: $(READY)  ## a forward pass of a ProtoPNet against its backbone alone (2 minutes)
	@python -m benchmarks.prototypes

bench-scheduling: $(READY)  ## what a step costs beside its work: here, on SLURM, and in groups (7 minutes, SLURM)
	@python -m benchmarks.scheduling

bench-taps: $(READY)  ## a training step without the weights that meet nothing but padding (1 minute)
	@python -m benchmarks.taps

bench-relevance: $(READY)  ## relevance against a training step and zennit's composites (10 minutes)
	@python -m benchmarks.relevance

app: $(ASSISTANT)  ## ask the papers, the docs and the study's results, in the browser
	@echo "open http://127.0.0.1:8501"
	@python -m streamlit run stages/assistant/app/page.py

papers: $(ASSISTANT)  ## download the papers of papers/manifest.yaml
	@python -m stages.assistant papers

bench-assistant: $(ASSISTANT)  ## what the assistant finds, turns away and explains, and how fast: metrics/assistant.json (5 minutes)
	@python -m benchmarks.assistant

lock:  ## resolve requirements.lock anew from pyproject.toml
	uv pip compile --universal --python-version 3.11 --extra dev --custom-compile-command "make lock" \
		--quiet --upgrade --output-file requirements.lock pyproject.toml
	uv pip compile --universal --python-version 3.11 --extra dev --extra assistant --extra assistant-dev --no-annotate \
		--constraint requirements.lock --custom-compile-command "make lock" \
		--quiet --upgrade --output-file requirements-assistant.lock pyproject.toml

clean:  ## remove what can be made again: outputs, benchmarks, steps, logs (not the environment, not DVC's cache)
	rm -rf data/prepared models/baseline models/pruned models/prototypes
	find metrics -mindepth 1 -maxdepth 1 -not -name .gitignore -not -name assistant.json -exec rm -rf {} +
	rm -rf .work .snakemake .assistant logs .pytest_cache .ruff_cache dvc_plots
	find . -name __pycache__ -not -path './.venv/*' -exec rm -rf {} +
