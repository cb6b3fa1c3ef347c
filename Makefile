# make repro: everything from nothing; make test: the tests; make check: lint and types
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TOOLS := .venv-tools
READY := $(VENV)/.ready
QUICK := architecture code config settings_seen readme metrics targets splits sampling text images corpora \
	labelled_corpora privacy sealed quality client together money cli_answers audit student familiar
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: help install install-hashed repro test quick check manual docs audit constraints hashes clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/:/'

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	test ! -d .dvc || assay plots
	touch $(READY)

install: $(READY)  ## make .venv and install the project under constraints.txt

install-hashed:  ## make .venv from constraints-hashed.txt alone: no file whose hash is not there is installed
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r constraints-hashed.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	test ! -d .dvc || assay plots
	touch $(READY)

repro: $(READY)  ## run what changed of the pipeline
	assay check
	dvc repro

test: $(READY)  ## run the tests (those marked real need ASSAY_REAL_DATA)
	python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder --durations 20

quick: $(READY)  ## lint and the fast tests, while you work
	ruff check .
	python -m pytest -m "not slow and not real" --numprocesses 2 --dist loadfile -q $(QUICK:%=tests/test_%.py)

check: $(READY)  ## lint and type check
	ruff check .
	mypy

manual: $(READY)  ## write docs/settings.md from the sections of src/assay/config
	assay settings --markdown > docs/settings.md

docs: $(READY)  ## write the documentation as a site to site/, links checked
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict

audit: $(READY)  ## look for known vulnerabilities in the installed packages (asks their data base)
	test -x $(TOOLS)/bin/python || $(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	$(TOOLS)/bin/python -m pip_audit --skip-editable --path $(wildcard $(VENV)/lib/python*/site-packages)

clean:  ## remove the environment and caches of tools (no data, no answers)
	rm -rf $(VENV) $(TOOLS) .mypy_cache .ruff_cache .pytest_cache

constraints: $(READY)  ## write the installed versions into constraints.txt, after an upgrade was tested
	(head -n 1 constraints.txt; python -m pip freeze --exclude-editable | sort -f) > constraints.new
	mv constraints.new constraints.txt

hashes:  ## write constraints-hashed.txt: constraints.txt with the hashes that the registry gives
	test -x $(TOOLS)/bin/python || $(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check pip-tools
	$(TOOLS)/bin/python -m piptools compile --quiet --generate-hashes --no-header --no-annotate --no-emit-index-url \
		--no-emit-trusted-host --no-emit-find-links --allow-unsafe --extra dev --constraint constraints.txt \
		--output-file constraints-hashed.new pyproject.toml
	(echo '# constraints.txt with the hashes that the registry gives; made by: make hashes'; \
		grep -v -e '^assay\[' -e '^# ' constraints-hashed.new) > constraints-hashed.txt
	rm constraints-hashed.new
