# Everything a contributor runs. `make` alone lists the targets.

GO       ?= go
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME ?= 30s
PKG      ?= ./...
LDFLAGS   = -s -w -X main.version=$(VERSION)

.DEFAULT_GOAL := help
.PHONY: help build run test unit check fmt generate bench microbench fuzz clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/trivium, static, version from git
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/trivium ./cmd/trivium

run: build ## build and start the development server (ARGS="..." adds flags)
	bin/trivium serve --dev $(ARGS)

test: ## install what tests need, then run them all with the race detector
	@if [ "$$TRIVIUM_INTEROP" != off ]; then test/interop/setup.sh; fi
	@if [ "$$TRIVIUM_CONFORMANCE" != off ]; then test/conformance/setup.sh; fi
	$(GO) test -race -shuffle=on -timeout 15m $(TESTFLAGS) $(PKG)
	@echo 'allocations, which the race detector would distort:'
	$(GO) test -run 'Alloc' ./core/...

unit: ## run the tests without setup and without the race detector (quick)
	$(GO) test -short -timeout 5m $(TESTFLAGS) $(PKG)

check: ## format, vet, staticcheck, govulncheck, go.mod, generated files
	@.ci/check

fmt: ## format all Go files with gofumpt
	@git ls-files -co --exclude-standard '*.go' | xargs $(GO) tool -modfile=.ci/tools/go.mod gofumpt -w

generate: ## write the generated files again (docs/specs.md, the example configuration, ...)
	$(GO) generate ./...

bench: build ## measure the server beside its peers, about an hour (ARGS="-rounds 2" narrows it); writes docs/performance.md
	$(GO) run ./test/bench -profile admin -out docs/performance.md $(ARGS)

microbench: ## run the Go benchmarks (PKG=./core/wire BENCH=Scan narrow it)
	$(GO) test -run '^$$' -bench '$(or $(BENCH),.)' -benchmem $(PKG)

fuzz: ## run every fuzz target for FUZZTIME each (30s; PKG=./core/jid narrows it)
	@FUZZTIME='$(FUZZTIME)' .ci/fuzz $(PKG)

clean: ## remove what was built
	rm -rf bin .cache test/artifacts
