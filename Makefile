# Everything the course needs, from a clone and Python 3.11 or later. `make` alone lists the commands.

PYTHON ?= python3
PORT ?= 8000

BIN := .venv/bin
# Each stamp is written last, so that a step that was interrupted is done again.
PACKAGES := .venv/.packages
NODE_MODULES := website/node_modules/.packages
BOOK := _build/.book

CHAPTERS := $(shell find chapters -type f -not -path '*/.*')
# The atlas and the chooser are made from the catalogue, and its pictures by the losses.
WEBSITE := _config.yml _toc.yml benchmarks/results.md $(wildcard website/*.* website/templates/*) \
	$(wildcard lib/catalog/*.py lib/plotting/*.py lib/losses/*.py)

.PHONY: help book serve test lint lab execute bench mutants lock clean distclean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

book: $(BOOK) ## set everything up and build the website into _build/html
	@echo 'The website is up to date: _build/html/index.html'

serve: book ## build the website and serve it on this machine
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

test: book lint ## set everything up and run every test and every notebook
	OMP_NUM_THREADS=1 $(BIN)/pytest --nbval --nbval-current-env --nbval-sanitize-with tests/nbval_sanitize.cfg \
		--nbval-cell-timeout 120 -n 2 --dist loadfile --no-loadscope-reorder

lint: $(PACKAGES) ## check the style of all code, the notebooks' too
	$(BIN)/ruff check
	$(BIN)/ruff format --check

lab: $(PACKAGES) ## open the chapters in JupyterLab
	$(BIN)/jupyter lab --notebook-dir chapters

execute: $(PACKAGES) ## run NOTEBOOK=chapters/... and save it with its outputs
	$(BIN)/python tools/execute_notebook.py $(NOTEBOOK)

bench: $(PACKAGES) ## measure the losses beside their peers and write the tables of the benchmark page
	$(BIN)/pip install --disable-pip-version-check --quiet -r requirements-bench.txt -c constraints.txt
	$(BIN)/python -m benchmarks --output benchmarks/results.md

mutants: $(PACKAGES) ## break the losses in thousands of small ways and count which of them no test notices (a day; SAMPLE=700: an hour)
	$(BIN)/pip install --disable-pip-version-check --quiet -r requirements-mutants.txt -c constraints.txt
ifdef SAMPLE
	OMP_NUM_THREADS=1 $(BIN)/python tools/sample_mutants.py $(SAMPLE)
else
	OMP_NUM_THREADS=1 $(BIN)/mutmut run
	$(BIN)/mutmut export-cicd-stats
	@cat mutants/mutmut-cicd-stats.json
endif

lock: | $(BIN)/pip ## install what requirements.txt asks for and write the rest's versions into constraints.txt
	$(BIN)/pip install -r requirements.txt
	echo '# Written by `make lock`: the versions of what the packages of requirements.txt need themselves.' > constraints.txt
	$(BIN)/pip freeze --exclude-editable | tr _ - | sed 's/+.*//' \
		| grep -vixE "$$(sed -nE 's/^([a-z0-9-]+)==.*/\1/p' requirements.txt | paste -sd '|' - | sed 's/.*/(&)==.*/')" \
		| grep -viE '^(torch|triton|nvidia|cuda)' >> constraints.txt

clean: ## delete the website and the caches
	rm -rf _build .hypothesis .pytest_cache .ruff_cache mutants

distclean: clean ## delete what set-up installed, too
	rm -rf .venv website/node_modules

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit( \
		f"Python 3.11 or later is needed; $(PYTHON) is {v[0]}.{v[1]}. Name another: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv

$(PACKAGES): requirements.txt constraints.txt pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --disable-pip-version-check -r requirements.txt -c constraints.txt
	$(BIN)/pip install --disable-pip-version-check --no-deps -e .
	@touch $@

# npm comes with the Python packages and finds its node on the path.
$(NODE_MODULES): website/package.json website/package-lock.json website/.npmrc | $(PACKAGES)
	cd website && PATH="$(CURDIR)/$(BIN):$$PATH" npm ci
	@touch $@

# A changed chapter is built alone. What shapes every page, or a build that did not end well (no stamp), starts afresh.
$(BOOK): $(WEBSITE) $(PACKAGES) $(NODE_MODULES) $(CHAPTERS)
	$(if $(filter-out chapters/%,$?),rm -rf _build)
	@rm -f $@
	$(BIN)/jupyter-book build -W -n --keep-going .
	@touch $@
