# What people type; everything below it is plain cargo.
#
#   make demo   build, start a demo switch with a private database, and place a call to it
#   make test   everything a change must pass, with real peers (PostgreSQL, SIPp)
#   make lint   format and clippy only
#   make bench  the Criterion benchmarks
#   make dist   the program as it is shipped, target/dist/tandem: watched at work, built for what was seen, and laid out by it
#
# DEMO_ARGS is handed to `tandem demo`, for instance: make demo DEMO_ARGS="--sip 127.0.0.1:5070"

SHELL := bash
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
DEMO_ARGS ?=

.PHONY: demo test lint bench dist setup-build setup-test

# A release build: the figures of the demo's call are then those of the real thing. The first build
# takes some minutes, later ones seconds.
demo: setup-build
	cargo run --release --locked -- demo $(DEMO_ARGS)

test: setup-test lint
	cargo test --locked --features outer-tests
	cargo check --locked --package tandem-fuzz

lint:
	cargo fmt --check
	cargo clippy --locked --all-targets --features outer-tests -- -D warnings

bench: setup-build
	cargo bench --locked

dist:
	@scripts/dist

setup-build:
	@scripts/setup build

setup-test:
	@scripts/setup test
