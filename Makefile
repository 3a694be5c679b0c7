# make check is what every change must pass; make help lists the rest.

GO     ?= go
PYTHON ?= /usr/bin/python3

.PHONY: help build check format vet platforms man errors test race tidy python suites wine soak mutations fuzz bench clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

build: ## what is installed below a prefix, as build/bin and build/libexec
	packaging/programs build

check: format vet tidy race python ## what every change must pass

format: ## fail if gofumpt would change anything
	@out=$$($(GO) tool gofumpt -l .); test -z "$$out" || { echo "gofumpt would change:"; echo "$$out"; exit 1; }

vet: platforms ## go vet, for every platform, and staticcheck
	$(GO) tool staticcheck ./...

PLATFORMS = linux/amd64 linux/arm64 darwin/arm64 darwin/amd64 freebsd/amd64 windows/amd64 windows/arm64

platforms: ## what we run on compiles, its tests too
	@for p in $(PLATFORMS); do echo "$(GO) vet ./... # $$p"; GOOS=$${p%/*} GOARCH=$${p#*/} $(GO) vet ./... || exit; done
	GOARCH=386 $(GO) vet $$($(GO) list ./... | grep -v /suites) # whose FUSE is not for 32 bits

tidy: ## fail if go.mod or go.sum are not what go mod tidy writes
	$(GO) mod tidy -diff

man: ## write the man pages, docs/man, from the help and docs/*.md
	$(GO) test ./cmd/syscache -run TestManPages -update

errors: ## write docs/ERRORS.md; needs root
	$(GO) test ./cmd/syscache -run TestErrors -update-errors

test: ## the tests, as in the README
	$(GO) test ./...

race: ## the tests under the race detector
	$(GO) test -race ./...

python: ## the Python reader's own tests
	cd clients/python && $(PYTHON) -m unittest -q

suites: ## real processes, users and package managers; needs root (see CONTRIBUTING.md)
	SYSCACHE_SUITES=1 $(GO) test -count=1 -timeout 60m -v ./suites/... ./packaging/... ./docs/...

mutations: ## take each safeguard away, and see the test that misses it
	SYSCACHE_SUITES=1 $(GO) test -count=1 -timeout 60m -v ./suites -run '^TestMutations$$'

soak: ## forty minutes of everything at once, or SOAK of it
	SYSCACHE_SUITES=1 SUITES_SOAK=$(or $(SOAK),40m) $(GO) test -count=1 -timeout 0 -v ./suites -run '^TestSoak$$'

wine: ## the tests of Windows, under Wine
	sh .ci/wine

fuzz: ## each fuzz target for FUZZTIME (default 30s)
	sh .ci/fuzz $(FUZZTIME)

bench: ## the table of docs/PERFORMANCE.md, beside the peers; half an hour, on a quiet machine
	@$(GO) run ./bench

clean: ## remove what was built
	rm -rf build
