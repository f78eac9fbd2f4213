# Thin over Meson: `make` builds, `make run` starts guichet, `make test` runs every test. `make help` lists the rest.
PORT ?= 8080
BUILD ?= build
DEBIAN_PYTHON ?= $(firstword $(wildcard /usr/bin/python3) python3) # which has Debian's torchvision

.DEFAULT_GOAL := build
.PHONY: build run test test-images test-trixie test-all bench bench-images bench-llm load quantize-animals fuzz format soak tidy clean help

build: ## build guichet, optimised, in build/
	@tools/setup build
	@test -f $(BUILD)/build.ninja || meson setup $(BUILD)
	@ninja -C $(BUILD)

# Only the program itself, and silent where there is nothing to do: a second start takes well under a second.
run: ## install what is missing, build, and serve http://127.0.0.1:$PORT (8080)
	@tools/setup build
	@test -f $(BUILD)/build.ninja || meson setup $(BUILD)
	@ninja --quiet -C $(BUILD) guichet
	@exec $(BUILD)/guichet serve --port $(PORT)

test: ## install what the tests need and run all of them
	@tools/setup test
	@tests/run

test-images: ## build every container image, start the three tiers and try them (root)
	@tools/setup images
	@tests/run images

test-trixie: ## build and test on Debian 13, with its oneDNN 3, in a container (root)
	@tools/setup images
	@tests/run trixie

test-all: ## all of them, counted together: what CI runs
	@tools/setup test
	@tools/setup images
	@tests/run build tidy asan tsan fuzz images trixie

bench: ## measure speed, start and memory beside ONNX Runtime, and write docs/benchmarks.md (QUICK=1: a first look, nothing written)
	@tests/bench/run.sh

bench-images: ## measure how the images build, what they weigh and how soon they answer, for docs/benchmarks.md (root)
	@tools/setup bench
	@tools/setup images
	@/usr/bin/python3 tests/bench/images.py

bench-llm: build ## measure language models beside llama.cpp, for docs/benchmarks.md (LLM="…": words for tests/bench/llm.py)
	@tools/setup llm
	@$(DEBIAN_PYTHON) tests/bench/llm.py $(BUILD)/guichet $(LLM)

load: build ## load over HTTP beside nginx and the original's stack, into docs/benchmarks.md (LOAD="…": words for tests/bench/load.py)
	@tools/setup load
	@$(DEBIAN_PYTHON) tests/bench/load.py $(BUILD)/guichet $(BUILD)/tests/bench/steady $(LOAD)

soak: build ## a quarter of an hour of photos, bombs, hangs, swaps and kills under 512 MiB (root; SOAK_SECONDS=900)
	@tools/setup test
	@GUICHET=$(BUILD)/guichet python3 tests/soak/soak.py

quantize-animals: build ## make models/animals/model_int8.onnx and its report again, on a quiet machine (ARCHIVE=animals64.tar)
	@BUILD=$(BUILD) tools/quantize_animals $(ARCHIVE)

fuzz: ## run every fuzz target for FUZZ_SECONDS (60)
	@tools/setup test
	@FUZZ_SECONDS=$${FUZZ_SECONDS:-60} tests/run fuzz

format: ## clang-format every C file in place
	@git ls-files 'src/*.[ch]' 'tests/*.[ch]' | xargs clang-format -i

tidy: ## clang-tidy over src/, as make test and CI run it
	@tools/setup test
	@tests/run tidy

clean: ## remove every build folder and the cache of the tests
	rm -rf $(BUILD) build-asan build-tsan build-fuzz build-trixie build-images .cache

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | awk -F '\t' '{printf "make %-18s %s\n", $$1, $$2}'
