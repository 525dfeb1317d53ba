# Tessera's commands: `make demo` and `make test` set everything up first; nothing else is needed on a fresh Debian or Ubuntu.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# With TESSERA_CACHE, libtorch and the build lie outside the checkout, so that another clone finds them.
CACHE := $(if $(TESSERA_CACHE),$(TESSERA_CACHE),)
LIBTORCH_DIR := $(if $(CACHE),$(CACHE)/libtorch,$(CURDIR)/.libtorch)
CMAKE_DIR := $(if $(CACHE),$(CACHE)/cmake,$(CURDIR)/.cmake)
TARGET_DIR := $(if $(CACHE),$(CACHE)/target,$(CURDIR)/target)
# The S3 server that tests talk to.
export TESSERA_MOTO := $(if $(CACHE),$(CACHE)/moto,$(CURDIR)/.moto)
PHOTOS := $(if $(CACHE),$(CACHE)/photos,$(CURDIR)/.photos)
# What checks the pages' script, and what tests look at pages with.
export TESSERA_NPM := $(if $(CACHE),$(CACHE)/npm,$(CURDIR)/.npm)
TYPESCRIPT_VERSION := 7.0.2
AXE_VERSION := 4.14.1
# What builds the book.
MDBOOK_DIR := $(if $(CACHE),$(CACHE)/mdbook,$(CURDIR)/.mdbook)
# A LIBTORCH of your own (say, of a full CUDA install of the same version) is taken as it is.
OWN_LIBTORCH := $(LIBTORCH)
ifeq ($(OWN_LIBTORCH),)
export LIBTORCH := $(LIBTORCH_DIR)/torch
endif
# HDF5's C source asks for a cmake that older systems do not have: `setup` then puts one there.
export CMAKE = $(shell command -v "$(CMAKE_DIR)/cmake/data/bin/cmake" || command -v cmake)
export CARGO_TARGET_DIR := $(TARGET_DIR)

TORCH_VERSION := 2.11.0
BIN := $(TARGET_DIR)/release/tessera
FUZZ_SECONDS ?= 60
# The same dependencies, and our own crates with debug assertions and checked arithmetic, so that the guards of the vector kernels run.
CRATES := schemas datasets operators pipeline tests
CHECKS := opt-level=1 debug=false debug-assertions=true overflow-checks=true
CHECKED := $(foreach crate,$(CRATES),$(foreach check,$(CHECKS),--config profile.release.package.tessera-$(crate).$(check)))

# The Python package's wheel, and what its tests import.
WHEELS := $(TARGET_DIR)/wheels
PYTHON_DIR := $(if $(CACHE),$(CACHE)/python,$(CURDIR)/.python)

.PHONY: help setup moto browser build test assertions lint bench fuzz demo docs wheel test-python

help: ## Say what there is.
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

setup: ## Install what is missing: system packages, libtorch, a newer cmake.
	@pipeline/setup.sh "$(if $(OWN_LIBTORCH),,$(LIBTORCH_DIR))" "$(TORCH_VERSION)" "$(CMAKE_DIR)"

build: setup ## Build the release binary; its path is the last line.
	cargo build --release --workspace
	@echo $(BIN)

moto:
	@tests/moto.sh "$(TESSERA_MOTO)"

browser:
	@tests/browser.sh
	@pipeline/npm.sh "$(TESSERA_NPM)" axe-core "$(AXE_VERSION)"

test: setup moto browser ## Run all tests.
	cargo build --release --workspace
	cargo test --release --workspace

assertions: setup moto ## Run the libraries' tests with debug assertions and checked arithmetic.
	cargo test --release $(CHECKED) --workspace --lib

lint: setup ## Check format, clippy, the import order and the pages' script.
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	pipeline/architecture.sh
	@pipeline/npm.sh "$(TESSERA_NPM)" typescript "$(TYPESCRIPT_VERSION)"
	"$(TESSERA_NPM)/typescript/node_modules/.bin/tsc" --project pipeline/src/serve

demo: build ## Cluster the tiles of some photographs, then ask how clusters and photographs agree.
	@pipeline/demo/photos.sh "$(PHOTOS)"
	@PHOTOS="$(PHOTOS)" pipeline/demo/run.sh "$(BIN)"

docs: build ## Build the book, with a page for each operator and command; its first page's path is the last line.
	@pipeline/docs/build.sh "$(BIN)" "$(MDBOOK_DIR)" "$(TARGET_DIR)/book"

wheel: ## Build the Python package; the wheel's path is the last line.
	@rm -rf "$(WHEELS)"
	@PIP_ROOT_USER_ACTION=ignore python3 -m pip wheel --quiet --no-deps --wheel-dir "$(WHEELS)" pipeline/python
	@ls "$(WHEELS)"/*.whl

test-python: build moto wheel ## Run the Python package's tests, on its wheel and what it reads tables into.
	@rm -rf "$(PYTHON_DIR)"
	@PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --target "$(PYTHON_DIR)" "$$(ls "$(WHEELS)"/*.whl)[test]"
	cd pipeline/python && TESSERA="$(BIN)" PYTHONPATH="$(PYTHON_DIR)" python3 -m pytest -q -o pythonpath= tests

bench: build moto browser ## Measure; the long tests that are left out of `make test`. DATA names a folder of images.
	cargo test --release --workspace -- --ignored --nocapture --test-threads 1
	@$(MAKE) --no-print-directory fuzz

fuzz: setup ## Feed all readers with made-up bytes, each for FUZZ_SECONDS (60).
	@tests/fuzz/run.sh "$(FUZZ_SECONDS)" "$(TARGET_DIR)"
