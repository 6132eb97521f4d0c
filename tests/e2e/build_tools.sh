#!/usr/bin/env bash
# Builds the real Collector, the real Jaeger v2 and the Compose Specification's own checker, which tests/deploy and
# tests/e2e run. Needs only Go (1.26 or later).
# They go to $SPANLEDGER_E2E_TOOLS, by default ~/.cache/spanledger-tools: outside the repository, built once.
# About nine minutes on two cores and 4 GB of module and build cache the first time; nothing to do when the binaries
# are there.
set -euo pipefail

manifest="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/builder.yaml"
tools="${SPANLEDGER_E2E_TOOLS:-$HOME/.cache/spanledger-tools}"
collector_version=v0.159.0
# Jaeger v2.13.0: its module path has no /v2, so the same release goes by the v1 tag, and later ones have none.
jaeger_version=v1.76.0
compose_version=v2.16.2

command -v go > /dev/null || PATH="$PATH:/usr/local/go/bin"
if ! command -v go > /dev/null; then
    echo "Go was not found. Install Go 1.26 or later and run this script again." >&2
    exit 1
fi

mkdir -p "$tools"
cd "$tools"
export CGO_ENABLED=0 GOFLAGS=-trimpath GOTOOLCHAIN=local GOBIN="$tools"

# The names carry the version, so that a change of version builds anew instead of testing an old binary.
if [ ! "otelcol-$collector_version" -nt "$manifest" ]; then
    echo "--- Collector $collector_version"
    go install "go.opentelemetry.io/collector/cmd/builder@$collector_version"
    ./builder --config "$manifest"
    mv collector-source/otelcol "otelcol-$collector_version"
    rm -rf collector-source builder
fi
if [ ! -x "jaeger-$jaeger_version" ]; then
    echo "--- Jaeger $jaeger_version (without its web pages; the query API is complete)"
    # Its go.mod has a replace directive, which `go install` refuses: build inside a copy of the module instead.
    source="$(go mod download -json "github.com/jaegertracing/jaeger@$jaeger_version" | sed -n 's/^.*"Dir": "\(.*\)".*$/\1/p')"
    rm -rf jaeger-source
    cp -r "$source" jaeger-source
    chmod -R u+w jaeger-source
    (cd jaeger-source && go build -ldflags "-s -w" -o "../jaeger-$jaeger_version" ./cmd/jaeger)
    rm -rf jaeger-source
fi
if [ ! -x "compose-spec-$compose_version" ]; then
    echo "--- Compose Specification $compose_version"
    go install "github.com/compose-spec/compose-go/v2/cmd@$compose_version"
    mv cmd "compose-spec-$compose_version"
fi
ln -sf "otelcol-$collector_version" otelcol
ln -sf "jaeger-$jaeger_version" jaeger
ln -sf "compose-spec-$compose_version" compose-spec
echo "otelcol, jaeger and compose-spec are ready in $tools."
