# Needs python3 (3.11 to 3.13) and make; everything else goes into .venv.
PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --no-input
# An environment is up to date when it was made from these very files.
KEY := $(shell cat setup.cfg pyproject.toml tests/constraints.txt | cksum | cut -d ' ' -f 1)

.PHONY: help demo test faults lint dev bench clean
.NOTPARALLEL:

help:  ## this list
	@grep -hE '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/.installed-demo-$(KEY)  ## the package end to end: fine-tune, segment, export (about 4 minutes)
	@$(VENV)/bin/keras-exfuse demo

test: $(VENV)/.installed-test-$(KEY) $(VENV)/networks/.installed-$(KEY)  ## the test suite on the three backends, with one summary
	@$(VENV)/bin/python tests/run_backends.py

faults: $(VENV)/.installed-test-$(KEY)  ## kills, damaged and hostile files, threads, memory, on the three backends (half an hour)
	@$(VENV)/bin/python tests/run_backends.py --slow tests/faults

lint: $(VENV)/.installed-dev-$(KEY)  ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

dev: $(VENV)/.installed-dev-$(KEY)  ## everything a contributor needs, with the pre-commit hooks
	$(VENV)/bin/pre-commit install

bench: $(VENV)/.installed-bench-$(KEY) $(VENV)/networks/.installed-$(KEY)  ## the peers' libraries, and a quick comparison with them
	@KERAS_BACKEND=tensorflow $(VENV)/bin/python -m benchmarks.networks.run inference --quick

clean:  ## removes .venv and what the tools leave behind
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

# One stamp for each set of extras. `.unfinished` lies there while something is being installed: after an
# interruption nobody knows what is half written, so the next call starts over.
$(VENV)/.installed-%-$(KEY):
	@if [ -e $(VENV)/.unfinished ]; then echo "An earlier installation was interrupted; starting over."; rm -rf $(VENV); fi
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or later is needed: make $* PYTHON=/path/to/python3.11"; exit 1; }
	@if [ ! -x $(VENV)/bin/python ]; then mkdir -p $(VENV) && touch $(VENV)/.unfinished && $(PYTHON) -m venv $(VENV); fi
	@touch $(VENV)/.unfinished
	@echo "Installing keras-exfuse[$*] into $(VENV) (minutes the first time) ..."
	@$(PIP) install --quiet --constraint tests/constraints.txt --editable '.[$*]'
	@rm $(VENV)/.unfinished && touch $@

# Apart from the rest: beside torch's CPU build, torchvision's compiled part does not load, which upsets others.
$(VENV)/networks/.installed-$(KEY):
	@rm -rf $(VENV)/networks
	@$(PIP) install --quiet --constraint tests/constraints.txt --no-deps --target $(VENV)/networks \
		timm torchvision segmentation-models-pytorch pywick
	@touch $@
