# `make help` lists what there is. Everything is installed into .venv; PYTHON chooses what makes it.

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
PIP_LOG := .venv/pip.log
TO_RUN := -e .[demo,spacy]
TO_TEST := -e .[demo,spacy,postgresql,grpc,detoxify,export,eval,dev,train]

# Many tests wait for brokers and daemons, so three share two cores; those with deadlines have one each.
PARALLEL := -m "not alone" -n 3 --dist loadfile --no-loadscope-reorder
ALONE := -m alone -n 2 --dist load
CASE ?=
SHARE ?= 1
FAST := -m "not alone and not slow" -n 2 --dist loadfile

.DELETE_ON_ERROR:
.PHONY: help run test test-fast soak emitters check models dashboard-previews clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do \
		printf '  make %-10s %s\n' "$$name" "$$text"; done

run: .venv/run.stamp ## Show riskmon at work: embedded broker, traffic, daemon; options: ARGS="--seconds 60"
	@$(BIN)/riskmon demo $(ARGS)

test: .venv/all.stamp ## Run every test
	@status=0; $(BIN)/python -m pytest $(PARALLEL) || status=1; $(BIN)/python -m pytest $(ALONE) || status=1; exit $$status

test-fast: .venv/all.stamp ## Run the tests that take seconds
	$(BIN)/python -m pytest $(FAST)

emitters: .venv/all.stamp ## Run real SDKs and record what they send; options: ARGS="--only openai-langfuse"
	@PYTHONPATH=.:tests/support:tests/emitters $(BIN)/python tests/emitters/run.py $(ARGS)

soak: .venv/all.stamp ## Run what takes hours, a line of JSON per case; options: CASE=million SHARE=0.1
	@PYTHONPATH=.:tests/support $(BIN)/python tests/soak/soak.py $(CASE) --share $(SHARE)

check: .venv/all.stamp ## Lint, formatting, types, import layers, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python grafana/generate.py --check
	$(BIN)/python docs/settings_reference.py --check
	$(BIN)/python docker/kubernetes/manifests.py --check

models: .venv/all.stamp ## Train the bundled weights again, from ../shared; see monitor/models/cards
	$(BIN)/python -m monitor.training.embedding
	$(BIN)/python -m monitor.training.encoder
	$(BIN)/python -m monitor.training.tagger
	$(BIN)/python -m monitor.training.groundedness
	$(BIN)/python -m monitor.training.toxicity
	$(BIN)/python -m monitor.training.injection

dashboard-previews: .venv/all.stamp ## Draw the dashboards with real data to grafana/previews; wants prometheus on PATH
	$(BIN)/python grafana/previews.py

clean: ## Remove .venv and all caches
	rm -rf .venv dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find monitor tests grafana docs -name __pycache__ -type d -prune -exec rm -rf {} +

# $(call install,WHAT,MESSAGE) installs exactly the versions in constraints.txt; pip is heard only when it fails.
define install
	@echo '$(2)' >&2
	@$(BIN)/python -m pip install --progress-bar off -c constraints.txt $(1) >$(PIP_LOG) 2>&1 \
		|| { tail -n 25 $(PIP_LOG) >&2; echo 'pip failed; the whole log: $(PIP_LOG)' >&2; exit 1; }
endef

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' \
		|| { echo 'riskmon needs Python 3.11 to 3.14; name one: make PYTHON=python3.11' >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/run.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(call install,$(TO_RUN),Installing riskmon into .venv: about a minute)
	@touch $@

.venv/all.stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(call install,$(TO_TEST),Installing riskmon and everything to test it into .venv: some minutes)
	@touch .venv/run.stamp $@
