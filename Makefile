# `make help` lists the commands.
VENV := .venv
PYTHON := $(VENV)/bin/python
STUDY ?= pocket
SYSTEM_PYTHON ?= python3
CHROMIUM ?= chromium
PARSERS ?= revision study statements-csv statements-jsonl preferences-csv preferences-jsonl results registry saved-suite
SECONDS_EACH ?= 600
SEEDS ?= 1 2 3 4 5 6
DOSED ?= 1 6
FORGETTING ?= 1
OUT ?= runs/world

.PHONY: help book pdf slides study publish test test-faults test-slurm families bench check fuzz scale power register picture released-data grammar seeds reruns world audit clean
.DEFAULT_GOAL := help

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

book: $(VENV)/.ready  ## trace the bundled suites and build _build/html/index.html
	@$(PYTHON) -m tracing_utils run --book

pdf: book  ## print the book to _build/book.pdf (needs Chromium)
	@$(VENV)/bin/jupyter-book build . --builder custom --custom-builder singlehtml --quiet -n
	@$(CHROMIUM) --headless --no-sandbox --disable-gpu --allow-file-access-from-files --no-pdf-header-footer --generate-pdf-document-outline \
	  --virtual-time-budget=120000 --print-to-pdf=_build/book.pdf "file://$(CURDIR)/_build/singlehtml/book.html"

slides: $(VENV)/.ready  ## build the slides alone: _build/html/slides/index.html
	@$(PYTHON) -m sphinx -q -b revealjs -d _build/.slides book/teach/slides _build/html/slides

study: $(VENV)/.ready  ## trace another study: make study STUDY=pocket
	@$(PYTHON) -m tracing_utils run --study studies/$(STUDY).yml

publish: $(VENV)/.ready  ## put a study's results, made here, into results/: make publish STUDY=pocket
	@$(PYTHON) -m tracing_utils run --study studies/$(STUDY).yml --publish

test: $(VENV)/.ready  ## run the tests
	@$(PYTHON) -m pytest -rs

test-faults: $(VENV)/.ready  ## do everything bad to the program and write results/faults.csv (half an hour)
	@FAULTS_TABLE=results/faults.csv $(PYTHON) -m pytest tests/faults -rs --dist worksteal -m "long or not long"

test-slurm: $(VENV)/.ready  ## send a study through a real Slurm on this machine (root, Debian; ten minutes)
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[cluster]'
	@$(PYTHON) tests/slurm/prove.py

families: $(VENV)/.ready  ## try tiny models of many families and write results/families.csv (a minute)
	@FAMILIES_TABLE=results/families.csv $(PYTHON) -m pytest tests/checkpoints/test_families.py -n 0

bench: $(VENV)/.ready  ## time this package against its peers and write the tables of benchmarks/, but for waiting.csv
	@$(PYTHON) -m tracing_utils fetch smollm2 && $(PYTHON) -m tracing_utils fetch tracingllm && $(PYTHON) -m benchmarks

check: $(VENV)/.ready  ## check the code's style
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/lint-imports

fuzz: $(VENV)/.ready  ## give each parser to a fuzzer: make fuzz SECONDS_EACH=600
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[fuzz]'
	@for parser in $(PARSERS); do \
	  echo "$$parser: $(SECONDS_EACH) seconds" && $(PYTHON) tests/fuzz/fuzz.py $$parser runs/fuzz/$$parser \
	    -max_total_time=$(SECONDS_EACH) -timeout=30 -verbosity=0 || exit 1; done

scale: $(VENV)/.ready  ## compute what large studies take: results/plans.csv, scale.csv, stages.csv (needs the network)
	@$(PYTHON) -m benchmarks.scale

power: $(VENV)/.ready  ## compute how often the claims' tests err and find what is there: results/claims_power.csv (ten minutes)
	@$(PYTHON) -m benchmarks.pages power

register: $(VENV)/.ready  ## write down that the claims' tests are fixed, before new data are looked at: results/registered.json
	@$(PYTHON) -m benchmarks.pages register

picture: $(VENV)/.ready  ## draw the README's picture: book/landing.png
	@TRACING_UTILS_RESULTS=published $(PYTHON) -m benchmarks.pages picture

released-data: $(VENV)/.ready  ## count what is wrong with the released files: results/released_data/
	@$(PYTHON) -m benchmarks.pages released-data

grammar: $(VENV)/.ready  ## how often two suites prefer the grammatical sentence: results/grammar.csv
	@$(PYTHON) -m benchmarks.pages grammar

seeds: $(VENV)/.ready  ## train the pocket suite from two other seeds up to step 1,024: results/pocket_seeds.csv (half an hour)
	@$(PYTHON) -m benchmarks.seeds runs/pocket-seeds 1 2

reruns: $(VENV)/.ready  ## rerun a study with other kernels, threads, dtype, and compare: results/reruns.csv (half an hour)
	@$(PYTHON) -m benchmarks.reruns

# One thread: matrices this small gain nothing by a second, and sums keep their order.
world: $(VENV)/.ready  ## train both arms of the designed world and measure them: make world SEEDS="1 2" DOSED=1 OUT=runs/world (a quarter of an hour a seed)
	@OMP_NUM_THREADS=1 $(PYTHON) -m benchmarks.world $(OUT) $(SEEDS) --dosed $(DOSED) --forgetting $(FORGETTING)

audit: $(VENV)/.ready  ## compare the pinned packages with published advisories (needs the network)
	@$(SYSTEM_PYTHON) -m venv $(VENV)-audit && $(VENV)-audit/bin/pip install --quiet --disable-pip-version-check pip-audit
	@$(PYTHON) -m pip freeze --exclude-editable > $(VENV)-audit/pinned.txt
	@$(VENV)-audit/bin/pip-audit --requirement $(VENV)-audit/pinned.txt --no-deps --disable-pip

clean:  ## delete what a run made, but not the published results
	rm -rf _build runs book/runs book/_static/vega.js .snakemake

# Set up again whenever the requirements change.
$(VENV)/.ready: pyproject.toml constraints.txt
	@echo "Setting up $(VENV) (once; a few minutes)"
	@$(SYSTEM_PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	@$(SYSTEM_PYTHON) -m venv $(VENV)
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	@touch $@
