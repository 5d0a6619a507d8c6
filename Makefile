# SPDX-License-Identifier: Apache-2.0
# make boot   install into .venv and boot the demo machine
# make test   install what the tests need, then run everything that CI runs
# make docs   build the documentation as a site, into build/docs

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
RUN    := $(BIN)/python -m

# what is compiled: a change of any of these reinstalls
SOURCES := pyproject.toml setup.py $(wildcard qdevpy/native/*.py qdevpy/native/*/*.[ch] \
           plugins/*/*.py plugins/*/csrc/*.[ch] plugins/*/*/csrc/*.[ch] machine/*.py machine/qdevpy_machine/guest/*.[chS] machine/qdevpy_machine/guest/*.ld)

.PHONY: boot test install install-test debian lint unit docs clean

boot: install
	$(BIN)/qdevpy boot

test: debian
	$(MAKE) install-test
	$(BIN)/python tests/run.py

install: $(VENV)/.installed
install-test: $(VENV)/.installed-test

$(VENV)/.installed: $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(RUN) pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(RUN) pip install --quiet --disable-pip-version-check --editable ".[test]"
	touch $@

# before the build, which uses some of them (gcc, liburing); one made without them is made again
debian:
	$(PYTHON) tests/debian.py --outdates $(VENV)/.installed

lint: install-test
	$(BIN)/python tests/run.py --only lint

unit: install-test
	$(BIN)/python tests/run.py --only unit

docs: install-test
	$(BIN)/python tests/run.py --only docs
	@echo build/docs/index.html

clean:
	rm -rf $(VENV) build *.egg-info .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis
