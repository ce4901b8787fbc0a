# Datafordeler. `make help` lists what there is to make.

SHELL   := /bin/bash
GO      ?= go
BIN     := bin/datafordeler
# Two test packages at a time: several of them start an Apache Kafka, which
# takes a core and half a gigabyte.
P       ?= 2
TIMEOUT ?= 40m
ARGS    ?=
SEED    ?=
FUZZ    ?= 30s

.DEFAULT_GOAL := help
.PHONY: help build demo test check tools kafka suite bench torture fuzz clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/datafordeler
	@echo "building $(BIN)"
	@mkdir -p bin
	$(GO) build -trimpath -o $(BIN) ./cmd/datafordeler

demo: build ## run the main job on the embedded engine (ARGS='--people 1000')
	./$(BIN) demo $(ARGS)

tools: ## install what the tests need beside Go: C compiler, Java, Maven, kcat, PostgreSQL
	@./deploy/kafka/tools

kafka: ## fetch Apache Kafka for the tests into .cache/kafka
	@./deploy/kafka/fetch

suite: ## fetch the official JSON Schema Test Suite for the tests into .cache/jsonschema
	@./deploy/jsonschema/fetch

check: ## formatting and go vet
	@echo "checking the formatting (gofmt)"
	@unformatted=$$(gofmt -l $$($(GO) list -f '{{.Dir}}' ./...)); \
	if [ -n "$$unformatted" ]; then \
	    echo "not formatted; run gofmt -w on:" >&2; echo "$$unformatted" >&2; exit 1; \
	fi
	@echo "checking the code (go vet)"
	@$(GO) vet ./...

# Where the suite cannot be had, all else is tested all the same, and it is said.
test: tools kafka check ## run all tests, those against Apache Kafka included
	@if ! ./deploy/jsonschema/fetch; then \
	    export DATAFORDELER_WITHOUT_SUITE="it could not be fetched"; \
	    echo "NOT TESTED: compiled schemas against the official JSON Schema Test Suite, which could not be fetched" >&2; \
	fi; \
	if ! ./deploy/kafka/tools postgres; then \
	    export DATAFORDELER_WITHOUT_POSTGRES="it could not be installed"; \
	    echo "NOT TESTED: the read model on PostgreSQL, which could not be installed" >&2; \
	fi; \
	echo "testing with the race detector"; \
	echo $(GO) test -race -p $(P) -timeout $(TIMEOUT) ./...; \
	$(GO) test -race -p $(P) -timeout $(TIMEOUT) ./...

bench: build ## measure routing: raw copy, the broker, the naive way
	./$(BIN) bench route $(ARGS)

torture: tools kafka ## longer hunts for lost and repeated records (SEED=n repeats one)
	DATAFORDELER_TORTURE=1 DATAFORDELER_SEED=$(SEED) $(GO) test -race -p 1 -count=1 -timeout 3h -run 'Torture|Kill|Exactly' -v ./...

fuzz: ## run each fuzz target for FUZZ (30s)
	@for dir in $$($(GO) list -f '{{.Dir}}' ./...); do \
	    for target in $$(grep -ho '^func Fuzz[A-Za-z0-9_]*' "$$dir"/*_test.go 2>/dev/null | sed 's/^func //'); do \
	        echo "fuzzing $$target for $(FUZZ) in $$dir"; \
	        (cd "$$dir" && $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZ) .) || exit 1; \
	    done; \
	done

clean: ## remove what was built and fetched
	rm -rf bin .cache
