# Every target sets up the environment that it needs. `make` alone lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Up to four processes share the tests; those of a group run in order in one of them.
PARALLEL := --numprocesses logical --maxprocesses 4 --dist loadgroup

.PHONY: help run test demo notebooks exercises lab data lint clean

help:
	@echo "make run        environment, data, all notebooks top to bottom -> build/notebooks/"
	@echo "make test       the tests"
	@echo "make demo       a page to try it on, in the browser: photos, videos, camera"
	@echo "make lab        Jupyter Lab"
	@echo "make data       fetch the course data (340 MB) into data/"
	@echo "make notebooks  execute the committed notebooks in place"
	@echo "make exercises  student versions of notebooks 1 to 4 -> build/exercises/"
	@echo "make lint       ruff on modules and notebooks"
	@echo "make clean      remove build/ and caches (not data/, .venv/ and saved_models/)"
	@echo "On drawn faces trainings are short (FULL=1: in full); QUICK=1 runs a few batches only, on any data"
	@echo "KEYPOINTS_DATA=DIR names the data folder"
	@echo "KEYPOINTS_DEVICE=cpu, cuda or mps is the device to train on (default: a GPU if there is one)"

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11: install a newer Python, or name one: make PYTHON=python3.12 ..."; exit 1; }
	@echo "environment: installing requirements.txt into $(VENV) (a few minutes, about 6 GB on Linux)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $(READY)
	@echo "environment: ready in $(VENV)"

# Without the real data, and if it cannot be fetched, the notebooks run on drawn faces.
run: $(READY)
	@test -n "$$KEYPOINTS_DATA" -o -f data/training_frames_keypoints.csv || $(BIN)/python tools/download_data.py || true
	@echo "notebooks: executing copies into build/notebooks/"
	@$(BIN)/python -m tools.run_notebooks
	@echo "done: executed notebooks in build/notebooks/, the trained net in saved_models/"

notebooks: $(READY)
	@echo "notebooks: executing in place"
	@$(BIN)/python -m tools.run_notebooks --in-place
	@echo "done: the notebooks at the top of the repository are executed"

exercises: $(READY)
	@$(BIN)/python -m tools.make_exercises

test: $(READY)
	@echo "tests: on drawn faces, no data needed"
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(PARALLEL)
	@echo "done: all tests passed"

demo: $(READY)
	@$(BIN)/python -m facial_keypoints.demo

lab: $(READY)
	@echo "Jupyter Lab: opens in the browser, Ctrl-C twice ends it"
	@$(BIN)/jupyter lab

data: $(READY)
	@$(BIN)/python tools/download_data.py

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@echo "done: modules and notebooks are clean"

clean:
	@rm -rf build .pytest_cache .ruff_cache
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
	@echo "done: removed build/ and caches; data/, $(VENV)/ and saved_models/ are kept"
