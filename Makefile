# Needs Python 3.11 to 3.13, make and pip; everything else goes into .venv.
# Another interpreter: make test PYTHON=python3.12
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

export KERAS_BACKEND ?= tensorflow
export TF_CPP_MIN_LOG_LEVEL ?= 3

.DELETE_ON_ERROR:
.PHONY: help demo test lint docs readme lock clean

help:
	@echo "make demo    segment a photograph of coins with the weights that come along"
	@echo "make test    run every test"
	@echo "make lint    check formatting, style, types, the README and the documentation"
	@echo "make docs    build the documentation into site/"
	@echo "make readme  write the generated tables of README.md anew"
	@echo "make lock    resolve requirements.lock anew"
	@echo "make clean   remove .venv and everything that was built"

# Some systems ship Python without ensurepip; then pip puts itself in.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14) and "unet-zoo needs Python 3.11 to 3.13; say make PYTHON=...")'
	$(PYTHON) -m venv $(VENV) || { \
		$(PYTHON) -m venv --clear --without-pip $(VENV) && \
		$(PYTHON) -m pip --python $(VENV) install pip; }

$(VENV)/installed: pyproject.toml requirements.lock | $(BIN)/python
	$(PIP) -c requirements.lock -e .
	touch $@

$(VENV)/installed-dev: pyproject.toml requirements.lock | $(BIN)/python
	$(PIP) -c requirements.lock -e '.[test,docs,dev]'
	touch $@ $(VENV)/installed

demo: $(VENV)/installed
	$(BIN)/python examples/coins.py

test: $(VENV)/installed-dev
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

lint: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python docs/generate.py --check README.md
	$(MAKE) docs

docs: $(VENV)/installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

readme: $(VENV)/installed-dev
	$(BIN)/python docs/generate.py README.md

# A version such as 2.13.0+cpu names one machine's build; the part after + goes.
lock:
	$(PYTHON) -m venv --clear build/lock
	build/lock/bin/python -m pip install --quiet -e '.[test,docs,dev]'
	sed -n '/^#/p' requirements.lock > build/requirements.lock
	build/lock/bin/python -m pip list --format=freeze --exclude-editable --exclude pip \
		| sed -E 's/\+[A-Za-z0-9.]+$$//' | LC_ALL=C sort -f >> build/requirements.lock
	mv build/requirements.lock requirements.lock
	rm -rf build/lock

clean:
	rm -rf $(VENV) build dist site demo *.egg-info .pytest_cache .ruff_cache .mypy_cache
