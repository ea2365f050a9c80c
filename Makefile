# make run: install, then run the notebooks 00-08 offline.  make test: the test suite.  make lab: JupyterLab.
# make page: the hard pool of a finished run as a page without code (THEME=dark for a dark one).

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Jupyter wants it said aloud where everything runs as root, as in many containers.
ROOT_OK := $(if $(filter 0,$(shell id -u)),--allow-root)

.PHONY: run test lab page check notebooks figures clean

run: $(STAMP)
	@$(BIN)/python -m lionkit notebooks

# One thread for each process: several would wait for each other longer than they compute.
test: $(STAMP)
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -n logical --maxprocesses=4

lab: $(STAMP)
	@$(BIN)/python -m jupyterlab --ip=127.0.0.1 --LabApp.news_url='' \
		--LabApp.default_url=/lab/tree/00_start_here.ipynb $(ROOT_OK) notebooks

page: $(STAMP)
	@$(BIN)/python -m lionkit page $(if $(THEME),--theme=$(THEME))

check: $(STAMP)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

# Runs the notebooks offline, takes the outputs of that run into the repository, and pictures of the explorers on it.
notebooks: $(STAMP)
	@LIONKIT_MODE=offline LIONKIT_RUN=demo LIONKIT_RUNS=$(CURDIR)/runs $(BIN)/python -m lionkit notebooks
	@cp runs/demo/notebooks/*.ipynb notebooks/
	@$(BIN)/python docs/screenshots.py

# Writes what lionkit/arms.json holds into the README and docs/.
figures: $(STAMP)
	@$(BIN)/python docs/figures.py

clean:
	rm -rf $(VENV) build *.egg-info

$(STAMP): requirements.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found: install Python 3.11 or newer, or run make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else "error: Python %d.%d is too old for lionkit: install 3.11 or newer and run make PYTHON=python3.11" % v[:2])'
	@echo "Installing into $(VENV) (a few minutes the first time) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on -r requirements.txt
	@touch $@
