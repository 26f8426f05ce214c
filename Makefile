GOLANGCI_VERSION ?= v2.15.0
# The linter is built by version into a folder of its own, so that it never enters go.mod.
LINT := $(CURDIR)/bin/golangci-lint-$(GOLANGCI_VERSION)

.PHONY: check fmt mod vet lint test year examples

# Everything that must pass before a change lands.
check: fmt mod vet lint test year examples

fmt:
	@out=$$(gofmt -l .); if [ -n "$$out" ]; then echo "gofmt would change:"; echo "$$out"; exit 1; fi

mod:
	go mod tidy -diff
	go mod verify

vet:
	go vet ./...

$(LINT):
	GOBIN=$(CURDIR)/bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
	mv $(CURDIR)/bin/golangci-lint $@

lint: $(LINT)
	$(LINT) run ./...

# The race detector watches and checks each step of what it is built into. SQLite, which is C in Go's clothes, and Argon2
# are built without it, as a SQLite in C would be: no race of ours is inside them, and half of the time would be.
UNWATCHED := -gcflags='modernc.org/...=-d=checkptr=0' -gcflags='modernc.org/sqlite/lib=-race=false -d=checkptr=0' \
	-gcflags='golang.org/x/crypto/argon2=-race=false -d=checkptr=0' -gcflags='golang.org/x/crypto/blake2b=-race=false -d=checkptr=0'

# README's test command, with the race detector.
test:
	go test -race $(UNWATCHED) -timeout 20m ./...

# The simulated year of all 200 customers, which is smaller under the race detector.
year:
	go test -count=1 -run AYearOfBadDelivery ./billing

# Each example is started as its reader would start it.
examples:
	go test -count=1 -run Smoke ./examples/...
