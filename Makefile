# Everything is one command: `make run`, `make test`, `make lint`. README.md says what each one does.

CARGO ?= cargo
TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
# Where the example runs: its logs, its pid file and its temporary files.
RUN_DIR := $(abspath $(TARGET))/switch

.PHONY: help run test build-tests lint bench counts fuzz deb install screenshots lint-format lint-clippy lint-tidy lint-docs lint-deny

help:
	@echo "make run    build pointsman and start examples/switch (gateways on 127.0.0.1:8090 and :8080); Ctrl-C stops it"
	@echo "make test   install what the tests need, then run them all"
	@echo "make bench  what a request costs in CPU time, beside nginx in the same run"
	@echo "make fuzz   every target of fuzz/ for FUZZ_SECONDS of processor time (60), up to the first finding"
	@echo "make screenshots pictures of the dashboard for docs/ (needs chromium and chromium-driver)"
	@echo "make deb    a Debian package in target/packages; make install puts the same files into place"
	@echo "make counts instructions of the hot pieces, beside the baseline"
	@echo "make lint   formats, clippy, licences, the lints of cargo xtask tidy, generated docs"

run:
	$(CARGO) build --profile quick --locked --package pointsman
	@mkdir -p $(RUN_DIR)/logs
	@program=$(TARGET)/quick/pointsman; place='-p $(RUN_DIR) -c $(CURDIR)/examples/switch/nginx.conf'; \
	( while kill -0 $$$$ 2>/dev/null; do \
	    if $$program status $$place >/dev/null 2>&1; then cat examples/switch/try-this.txt; exit; fi; sleep 0.2; \
	  done ) & \
	exec $$program $$place -g 'daemon off;'

test:
	@.ci/test

build-tests:
	@.ci/test --no-run

# Each check by itself, so that one that fails does not hide the next.
lint:
	@$(MAKE) --no-print-directory --keep-going lint-format lint-clippy lint-tidy lint-docs lint-deny

lint-format:
	$(CARGO) fmt --all --check

lint-clippy:
	$(CARGO) clippy --workspace --all-targets --locked -- --deny warnings

lint-tidy:
	$(CARGO) xtask tidy

lint-docs:
	$(CARGO) xtask docs --check

lint-deny:
	@.ci/deny

counts:
	@.ci/counts

screenshots:
	@mkdir -p docs/images
	POINTSMAN_SCREENSHOTS=$(CURDIR)/docs/images $(CARGO) test --locked -p pointsman --test dashboard pictures -- --nocapture

bench:
	@.ci/install-test-packages bench
	$(CARGO) build --release --locked --package pointsman
	$(CARGO) xtask bench

fuzz:
	@fuzz/run

deb install:
	@packaging/build $@
