# Targets are one line each; `make help` lists them.
PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
IPEX_TESTS := tests_perf/test_latency.py tests_perf/test_throughput.py tests_accuracy/test_parity.py
TRITON := .venv-triton
TRITON_PYTHON ?= $(PYTHON)
TRITON_STAMP  := $(TRITON)/.installed
# where it cannot be installed the serving tests skip, with the reason
HAS_TRITON    := $(shell $(TRITON_PYTHON) -m harness.triton.installation 2>/dev/null && echo $(TRITON_STAMP))
WITHOUT_TRITON := $(if $(HAS_TRITON),,--allow-skips)
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help setup setup-triton serve serve-one bench best names-a-model test test-all selftest smoke check image pipeline bench-harness setup-ipex test-ipex setup-poptorch clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

setup: $(STAMP) ## install everything into .venv (done once; the other targets call it)

$(STAMP): pyproject.toml $(addprefix requirements/,core.txt engines.txt serving.txt check.txt data.txt pipeline.txt) constraints.txt
	@echo "installing into $(VENV); the first time takes some minutes"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) -e . -r requirements/check.txt
	@touch $@

setup-triton: $(TRITON_STAMP) ## install a Triton server and perf_analyzer into .venv-triton (done once)

$(TRITON_STAMP): $(STAMP) requirements/triton-server.txt requirements/triton-server-constraints.txt
	@echo "installing a Triton server into $(TRITON)"
	@$(TRITON_PYTHON) -m harness.triton.installation
	@test -x $(TRITON)/bin/python || $(TRITON_PYTHON) -m venv $(TRITON)
	@$(TRITON)/bin/python -m pip install --quiet --disable-pip-version-check -c requirements/triton-server-constraints.txt -r requirements/triton-server.txt
	@$(TRITON)/bin/python -m pip download --quiet --disable-pip-version-check --no-deps -d $(TRITON)/wheels tritonclient==2.51.0
	@$(BIN)/python -m harness.triton.perf_analyzer $(TRITON)/wheels $(TRITON)
	@rm -r $(TRITON)/wheels && touch $@

serve: $(STAMP) $(HAS_TRITON) ## serve models with a real Triton server, into results/serve.json; ARGS="..." goes to pytest
	@mkdir -p results
	@$(BIN)/python -m pytest tests_serial --benchmark-json results/serve.json $(WITHOUT_TRITON) $(ARGS)

# fbnetc_100, unless MODEL or something in ARGS says what to measure
BENCHED = $(if $(MODEL),--model $(MODEL),$(if $(filter -k% --model% --arch% --profile% --tier%,$(ARGS)),,-k fbnetc_100))

bench: $(STAMP) ## measure MODEL (fbnetc_100) and keep every number in results/out.json; ARGS="..." goes to pytest
	@mkdir -p results
	@$(BIN)/python -m pytest tests_perf tests_accuracy $(BENCHED) --benchmark-json results/out.json $(ARGS)

best: names-a-model $(STAMP) ## measure MODEL on every engine and precision (BATCH, DATA), mark and keep the fastest that is right
	@$(BIN)/visionmark best --model $(MODEL) $(if $(BATCH),--batch-size $(BATCH)) $(if $(DATA),--data $(DATA)) $(ARGS)

names-a-model:
	@$(if $(MODEL),:,echo "make best MODEL=fbnetc_100 [BATCH=1] [DATA=DIR] [ARGS=...]: give a MODEL" >&2; exit 2)

test: selftest smoke serve-one ## the suite's own tests but for the slow ones, a smoke run, one served model

test-all: ## all of the suite's own tests, a smoke run, every served model
	@$(MAKE) selftest SLOW=
	@$(MAKE) smoke serve

# Left out: what takes long and has a quicker test beside it. `make selftest SLOW=` runs all.
SLOW ?= -m "not slow"
# Servers are apart from the rest: they are not to wait for cores that a compiler has. Exit code 5 is "none selected".
QUIETLY := -q -n logical --maxprocesses 4 --dist loadfile --durations 15

selftest: $(STAMP) $(HAS_TRITON) ## the suite's own tests
	@$(BIN)/python -m pytest selftests --ignore selftests/triton $(QUIETLY) $(SLOW) $(ARGS) || test $$? -eq 5
	@$(BIN)/python -m pytest selftests/triton $(QUIETLY) $(SLOW) $(ARGS) || test $$? -eq 5

serve-one: $(STAMP) $(HAS_TRITON) ## serve one model with a real Triton server
	@$(BIN)/python -m pytest tests_serial --model fbnetc_100 $(WITHOUT_TRITON)

smoke: $(STAMP) ## the smoke run of the product tests
	@$(BIN)/python -m pytest

setup-ipex: .venv-ipex/.installed ## install Intel Extension for PyTorch and torch 2.8 into .venv-ipex (7 GB)

.venv-ipex/.installed: requirements/ipex.txt
	@echo "installing into .venv-ipex; this takes some minutes"
	@test -x .venv-ipex/bin/python || $(PYTHON) -m venv .venv-ipex
	@.venv-ipex/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/ipex.txt
	@touch $@

test-ipex: .venv-ipex/.installed ## the self-tests of the engine ipex, then its rows of fbnetc_100 in results/ipex.json
	@.venv-ipex/bin/python -m pytest selftests/engines/test_ipex.py selftests/engines/test_engines.py -q -k ipex
	@mkdir -p results
	@.venv-ipex/bin/python -m pytest $(IPEX_TESTS) -k fbnetc_100 --device cpu --engine ipex --precision fp32,bf16,amp_bf16 \
	  --batch-size 1 --benchmark-json results/ipex.json $(ARGS)

setup-poptorch: ## install PopTorch, given as WHEEL=… from Graphcore's SDK, and torch 2.0.1 into .venv-poptorch
	@test -n "$(WHEEL)" || { echo "PopTorch is in no index: give WHEEL=/path/to/poptorch-….whl, which comes with Graphcore's Poplar SDK"; exit 2; }
	@test -f "$(WHEEL)" || { echo "WHEEL=$(WHEEL): no such file"; exit 2; }
	@test -x .venv-poptorch/bin/python || $(PYTHON) -m venv .venv-poptorch
	@.venv-poptorch/bin/python -m pip install --quiet --disable-pip-version-check -r requirements/poptorch.txt
	@.venv-poptorch/bin/python -m pip install --quiet --disable-pip-version-check --no-deps "$(WHEEL)"
	@echo "source the SDK's enable.sh, then: .venv-poptorch/bin/python -m pytest --device ipu"

check: $(STAMP) ## ruff (format and lint), strict mypy, which room may import which, Dockerfiles, manifests
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports
	@$(BIN)/hadolint --config deploy/docker/hadolint.yaml deploy/docker/*.Dockerfile
	@$(BIN)/python -m commands manifests deploy/kubernetes/*/job.yaml

PIPELINE := model_name=timm:test_efficientnet engine=eager "extra_model_args=--max-test-duration 1"

pipeline: $(STAMP) ## run the Kubeflow pipeline as processes of this machine, on a small model; ARGS="model_name=..."
	@$(BIN)/python -m commands pipeline run --output-dir results/pipeline $(if $(ARGS),$(ARGS),$(PIPELINE))

DEVICE ?= cpu
IMAGE_TOOL := $(firstword $(foreach tool,docker podman buildah,$(shell command -v $(tool) 2>/dev/null)))
COMMIT = $(shell git rev-parse HEAD 2>/dev/null)$(if $(shell git status --porcelain 2>/dev/null),-changed)

image: ## build the image of DEVICE (cpu, cuda, xpu) with docker, podman or buildah; ARGS="--build-arg ..." goes to it
	@$(if $(IMAGE_TOOL),,echo "no docker, podman or buildah here: deploy/docker/README.md has a way without" >&2; exit 1)
	@test -f deploy/docker/$(DEVICE).Dockerfile || { echo "DEVICE=$(DEVICE): give cpu, cuda or xpu" >&2; exit 1; }
	@$(IMAGE_TOOL) build -f deploy/docker/$(DEVICE).Dockerfile --build-arg COMMIT=$(COMMIT) $(ARGS) -t visionmark:$(DEVICE) .

bench-harness: $(STAMP) $(HAS_TRITON) ## what the harness itself costs and what the engines gain, printed
	@for bench in bench_harness bench_engines bench_serving bench_streams bench_decoding bench_detection bench_bulk bench_training; do $(BIN)/python -m benchmarks.$$bench || exit; done

clean: ## remove environments and caches; results stay
	rm -rf .venv .venv-ipex .venv-poptorch .venv-triton .pytest_cache .mypy_cache .ruff_cache .cache
