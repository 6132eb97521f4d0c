#!/usr/bin/env bash
# Builds the real Collector and the real Jaeger v2, which the tests in tests/deploy and tests/e2e start. Needs only Go (1.26 or later).
# They go to $SPANLEDGER_E2E_TOOLS, by default ~/.cache/spanledger-tools: outside the repository, built once.
# Many minutes and about 4 GB of module and build cache the first time; nothing to do when the binaries are there.
set -euo pipefail

manifest="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/builder.yaml"
tools="${SPANLEDGER_E2E_TOOLS:-$HOME/.cache/spanledger-tools}"
collector_version=v0.159.0
# Jaeger v2.20.0. Its module path has no /v2, so Go refuses that version's own name; this is the same commit.
jaeger_version=v1.76.1-0.20260720033334-798e4b0fcf22

command -v go > /dev/null || PATH="$PATH:/usr/local/go/bin"
if ! command -v go > /dev/null; then
    echo "Go was not found. Install Go 1.26 or later and run this script again." >&2
    exit 1
fi

mkdir -p "$tools"
cd "$tools"
export CGO_ENABLED=0 GOFLAGS=-trimpath GOTOOLCHAIN=local GOBIN="$tools"

# The names carry the version, so that a change of version builds anew instead of testing an old binary.
if [ ! -x "otelcol-$collector_version" ]; then
    echo "--- Collector $collector_version"
    go install "go.opentelemetry.io/collector/cmd/builder@$collector_version"
    ./builder --config "$manifest"
    mv collector-source/otelcol "otelcol-$collector_version"
    rm -rf collector-source builder
fi
if [ ! -x "jaeger-$jaeger_version" ]; then
    echo "--- Jaeger $jaeger_version (without its web pages; the query API is complete)"
    go install -ldflags "-s -w" "github.com/jaegertracing/jaeger/cmd/jaeger@$jaeger_version"
    mv jaeger "jaeger-$jaeger_version"
fi
ln -sf "otelcol-$collector_version" otelcol
ln -sf "jaeger-$jaeger_version" jaeger
echo "$tools/otelcol and $tools/jaeger are ready."
