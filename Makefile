.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
RUN := .venv/bin
# A labelled directory or list; left empty, the sample set.
MEDIA ?=
# More options of `ai-vs-real run`, for example ARGS="--backbone mobilenetv2 --weights FILE".
ARGS ?=

.PHONY: run
run: compile ## Train, judge and register on MEDIA, or on the sample set, by the compiled pipeline
	$(RUN)/ai-vs-real run $(MEDIA) $(ARGS)

.PHONY: test
test: install ## Run every test that needs no server, browser or cluster; the last line is the coverage
	$(RUN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not servers" --cov --cov-report= tests
	@echo "coverage: $$($(RUN)/coverage report --format=total) % of components and pipelines"

.PHONY: test-servers
test-servers: install ## Run the tests that start real servers, browsers and clusters
	$(RUN)/pytest -n 2 --dist loadfile --no-loadscope-reorder -m servers tests

.PHONY: lint
lint: install ## Check style and types
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy

.PHONY: compile
compile: install ## Compile the pipelines to pipelines/compiled
	$(RUN)/ai-vs-real compile

.PHONY: bench
bench: install ## Measure against plain baselines; prints a table and writes runs/bench.json
	$(RUN)/python tests/benchmarks/run.py $(ARGS)

.PHONY: notebook
notebook: install ## Run pipelines/walkthrough.ipynb from a clean kernel and keep its outputs, cleared of paths
	$(RUN)/python tests/walkthrough.py

.PHONY: fuzz
fuzz: install ## Throw broken pictures, clips and lists at the readers and at `ai-vs-real check` (ARGS="--seed 7")
	$(RUN)/python tests/fuzz_media.py $(ARGS)

.PHONY: lock
lock: install ## Resolve the dependencies anew
	$(RUN)/uv pip compile -q --no-emit-index-url --generate-hashes --python-version 3.11 --universal \
	  --extra media --extra training --extra cpu --extra registration --extra serving --extra data --extra pipelines --extra dev \
	  -o requirements.lock pyproject.toml
	PATH="$(CURDIR)/$(RUN):$$PATH" images/lock.sh

VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
# A stand-in of the base that lies in the engine by its plain name, where no registry can be reached.
BASE ?= $(shell docker image inspect python:3.11-slim-bookworm >/dev/null 2>&1 && echo python:3.11-slim-bookworm)
.PHONY: images
images: ## Build the images of the steps, the training one without CUDA (ARGS="--build-arg VARIANT=gpu" for it)
	for name in media registration training serving; do \
	  docker build -q -f images/$$name/Dockerfile -t ai-vs-real-$$name-python:$(VERSION) \
	    --build-arg VERSION=$(VERSION) --build-arg COMMIT=$$(git rev-parse HEAD)$$(test -z "$$(git status --porcelain)" || echo -dirty) \
	    --build-arg BRANCH=$$(git branch --show-current) --build-arg VARIANT=cpu $(if $(BASE),--build-arg BASE=$(BASE)) $(ARGS) . || exit 1; \
	done

.PHONY: test-images
test-images: install ## Look into the built images, and run the compiled pipeline in them
	AI_VS_REAL_IMAGES=1 $(RUN)/pytest tests/images

.PHONY: airflow
airflow: install ## Make Airflow's own environment, .venv-airflow, which the tests of the DAG take
	$(RUN)/uv venv -q --python 3.11 --allow-existing .venv-airflow
	$(RUN)/uv pip install -q --compile-bytecode --python .venv-airflow/bin/python apache-airflow==3.3.0

.PHONY: kubernetes
kubernetes: ## Build Kubernetes' API server and kubectl, which tests/cluster and tests/manifests take, once for each version
	@tests/cluster/kubernetes/build

FERRETDB_VERSION = v1.24.2
CACHE = $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/ai-vs-real
FERRETDB = $(CACHE)/ferretdb-$(FERRETDB_VERSION)
.PHONY: ferretdb
ferretdb: $(FERRETDB) ## Build FerretDB, a server of MongoDB's wire protocol, which the tests of the records take

# From a copy: its own build writes the file with the version, which the module leaves out.
$(FERRETDB):
	@mkdir -p $(CACHE) && build=$$(mktemp -d) && cd $$build \
	  && cp -r "$$(go mod download -json github.com/FerretDB/FerretDB@$(FERRETDB_VERSION) | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')" source \
	  && chmod -R u+w source && cd source && echo $(FERRETDB_VERSION) > build/version/version.txt \
	  && go build -o $@.part ./cmd/ferretdb && mv $@.part $@; code=$$?; chmod -R u+w $$build; rm -rf $$build; exit $$code

.PHONY: install
install: .venv/installed ## Create .venv with the locked dependencies

.venv/installed: requirements.lock pyproject.toml
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	$(RUN)/python -m pip install -q uv
	$(RUN)/uv pip sync -q --require-hashes --compile-bytecode --python $(RUN)/python requirements.lock
	$(RUN)/uv pip install -q --no-deps --python $(RUN)/python -e .
	touch $@

.PHONY: clean
clean: ## Remove the environment and every run
	rm -rf .venv runs

.PHONY: help
help: ## Show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18
	@echo
	@echo '  make run MEDIA=DIR ARGS="--backbone mobilenetv2 --weights FILE"   the same on your own media'
