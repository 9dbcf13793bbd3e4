# The README's commands, and what a maintainer needs. `make help` lists them.

CARGO ?= cargo

.DEFAULT_GOAL := help
.PHONY: help run test lab lab-full setup check fuzz simulate bench clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## the main job on the embedded store, with stand-in nodes and callers
	@$(CARGO) run --quiet --release --bin mqs -- demo

setup: ## install what the tests need (Kamailio, Redis, SIPp, Asterisk), or say what will be skipped
	@scripts/lab-setup

test: ## all tests, with real Kamailio, Redis, SIPp and Asterisk
	@scripts/test

lab: setup ## the lab tests alone: real calls through real parts
	$(CARGO) test --test lab -- --test-threads=1

lab-full: setup ## the same with every case; writes docs/results/lab-DATE and faults-DATE, .md and .json
	MQS_LAB_FAULTS=all MQS_LAB_RESULTS=docs/results $(CARGO) test --test lab -- --test-threads=1

check: ## what a maintainer wants checked beside the tests: format, lints, documentation, dependency policy
	@scripts/check

FUZZ_SECONDS ?= 600

fuzz: ## the fuzz targets for longer: FUZZ_SECONDS (600) each, two at once
	MQS_FUZZ_SECONDS=$(FUZZ_SECONDS) $(CARGO) test --test fuzz -- --nocapture --test-threads=2

SEEDS ?= 100000

simulate: ## the cell in SEEDS (100000) simulated worlds, each with its faults
	MQS_SIM_SEEDS=$(SEEDS) MQS_SIM_PROGRESS=1 $(CARGO) test --release --test simulation many_seeds -- --nocapture

BENCHES = footprint dispatch picks kamailio evenness redirect fleet scaling engine engine_memory report

# Built first, so that nothing compiles while something is measured.
bench: ## measure (18 min; MQS_BENCH_QUICK=1: 4), write target/bench/, docs/benchmarks.md, docs/scaling.md and docs/plots/
	@scripts/lab-setup --find-only --quiet
	$(CARGO) bench --no-run $(BENCHES:%=--bench %)
	@rm -f target/bench/dispatch.json target/bench/evenness.json target/bench/scaling.json target/bench/engine.json
	@for one in $(BENCHES); do $(CARGO) bench --quiet --bench $$one || exit 1; done

clean: ## remove what was built
	$(CARGO) clean
