# What a newcomer types. Everything else is CMake: see CMakePresets.json.
.PHONY: help demo model test e2e soak test-slow test-asan test-tsan test-emulated fuzz bench bench-gpu peer grammar-cases setup build clean
BUILD := build/release
JOBS ?= $(shell nproc)
FUZZ_SECONDS ?= 60
SOAK_SECONDS ?= 120

help:
	@echo "make demo         install what is missing, build, and let a small model write a few words"
	@echo "make test         the same set-up, then every test (a few minutes)"
	@echo "make e2e          coding agents from npm (0.6 GB) against the server and the small model, until they have run a tool"
	@echo "make soak         200 clients, some of them bad, for SOAK_SECONDS ($(SOAK_SECONDS)) seconds"
	@echo "make test-slow    the tests on models of 0.7 GB and more"
	@echo "make test-asan    unit tests under AddressSanitizer and UndefinedBehaviorSanitizer"
	@echo "make test-tsan    unit tests under ThreadSanitizer"
	@echo "make test-emulated the AVX-VNNI, AVX-512 and AMX kernels, each instruction computed by AVX2"
	@echo "make fuzz         every fuzz target for FUZZ_SECONDS ($(FUZZ_SECONDS)) seconds"
	@echo "make peer         the same beside llama.cpp, in turns: a table of ratios"
	@echo "make bench-gpu    a graphics card beside llama.cpp's Vulkan build, by what is on it (makes a file that fits it)"
	@echo "make grammar-cases ask xgrammar and ajv anew what tests/data/grammar says (wants nodejs and npm)"
	@echo "make model        train the small model of models/ (hours; goes on from its last checkpoint)"
	@echo "make bench        speed on a file of the true widths (makes 8.6 GB under build/)"

setup:
	@scripts/setup.sh

build: setup
	@cmake --preset release > $(or $(TMPDIR),/tmp)/packmule-configure.log 2>&1 || { cat $(or $(TMPDIR),/tmp)/packmule-configure.log; exit 1; }
	cmake --build --preset release -j $(JOBS)

demo: build
	@scripts/demo.sh

# Arguments of models/train.py by TRAIN="--minutes 60". No part of the demo and the tests.
model:
	models/train.sh $(TRAIN)

test: build
	ctest --test-dir $(BUILD) -j $(JOBS) -LE slow --output-on-failure --progress

e2e: build
	tests/e2e/run_node.sh tests/e2e/agents $(BUILD)/agents $(abspath $(BUILD)/bin/packmule_scripted_server) \
	  $(abspath $(BUILD)/bin/packmule) $(abspath models/mulelet.gguf)

soak: build
	tests/e2e/soak_test.py $(SOAK_SECONDS) 200 $(BUILD)/bin/packmule_scripted_server tests/e2e/clients/script.json
	tests/e2e/soak_test.py $(SOAK_SECONDS) 200 $(BUILD)/bin/packmule serve -m tests/data/golden/tinyC-Q4_K_M.gguf --port 0

test-slow: build
	ctest --test-dir $(BUILD) -L slow --output-on-failure

test-asan test-tsan: test-%: setup
	cmake --preset $*
	cmake --build --preset $* -j $(JOBS)
	ctest --test-dir build/$* -j $(JOBS) -LE 'slow|release-only' --output-on-failure

# The kernels of instruction sets that few processors have, computed by AVX2. Only these programs have tests that are
# named after a variant; building the others would take most of the time.
VARIANT_TESTS := kernels_test matmul_test model_test golden_test
test-emulated:
	@scripts/setup.sh emulated
	cmake --preset emulated
	cmake --build --preset emulated -j $(JOBS) --target $(VARIANT_TESTS)
	ctest --test-dir build/emulated -j $(JOBS) -LE slow -R 'avxvnni|avx512|amx' --output-on-failure

fuzz:
	@scripts/setup.sh fuzz
	scripts/fuzz.sh $(FUZZ_SECONDS)

bench: build
	bench/run.sh

# Wants nodejs and npm; installs llama.cpp from there into build/peer.
peer: build
	@[ -f build/synthetic-8-layers.gguf ] || $(BUILD)/bin/packmule_make_synthetic build/synthetic-8-layers.gguf
	node bench/peer/contest.mjs build/synthetic-8-layers.gguf

# Wants nodejs and npm, as peer. Arguments by GPU="--device Vulkan0 --turns 1": see bench/gpu/contest.mjs.
bench-gpu: build
	node bench/gpu/contest.mjs $(GPU)

# What the tests compare with: see tests/oracle/make_grammar_cases.mjs.
grammar-cases:
	npm install --silent --prefix build/oracle @mlc-ai/web-xgrammar@0.1.27 ajv@8.17.1 ajv-formats@3.0.1
	node tests/oracle/make_grammar_cases.mjs build/oracle tests/data/grammar

clean:
	rm -rf build
